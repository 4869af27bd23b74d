"""Runs in a folder of somebody else's, which holds modules under the names of those that every process imports."""

import random
from pathlib import Path

from optimum_pixart_neuron.artifact.manifest import Manifest

from . import actions
from .stage import Stage
from .undisturbed import comparable_digests

_VALIDATING = (0, 3)
"""Numbers of the faults whose run validates an export in a process of its own, which has ranks of its own."""
_MODULES = ("json", "torch", "secrets", "numpy", "tempfile", "pickle", "safetensors", "sitecustomize")
_PACKAGES = ("optimum", "optimum_pixart_neuron", "encodings")


def run_in_foreign_folder(stage: Stage) -> str:
    """Nothing of the folder runs, in no process, and the result is that of any other folder."""
    numbers = stage.fault.random
    folder, ran = stage.folder / "downloads", stage.folder / "ran"
    _fill(folder, ran, numbers)
    python_path = numbers.choice((None, "", ".", "downloads", str(folder)))
    with stage.keeping(folder):
        if stage.fault.number in _VALIDATING:
            options = {**stage.options, "disable_validation": False}
            stage.succeed(actions.within, folder, python_path, actions.export, options)
            assert comparable_digests(stage.output) == stage.undisturbed.digests
            assert all(record.passed for record in Manifest.read(stage.output).validation)
        else:
            export, loaded = stage.bring(stage.undisturbed.export), stage.folder / "loaded"
            encoded = stage.succeed(actions.within, folder, python_path, actions.encode, export, loaded, 1)
            assert encoded.result == stage.undisturbed.encoded
    assert not ran.exists(), f"{stage.fault}: {ran.read_text()} ran"
    return "nothing ran"


def _fill(folder: Path, ran: Path, numbers: random.Random) -> None:
    folder.mkdir()
    for name in numbers.sample(_MODULES, 5):
        (folder / f"{name}.py").write_text(f"open({str(ran)!r}, 'a').write({name + ' '!r})\n")
    for name in numbers.sample(_PACKAGES, 2):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(f"open({str(ran)!r}, 'a').write({name + ' '!r})\n")

"""What is done with a hostile repository: everything that a user's command or program would do with it.

No program of it is run and none is started on ranks; what is loaded is loaded by the libraries that load it.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

from .bases import CHECKPOINT, LORA, LORA_FOLDERS

OPTIONS = {"tensor_parallel_size": 2, "sequence_length": 16, "local_files_only": True}
_STEPS = 2


class Taken(BaseException):
    """The export has passed every check, and would compile now."""


@contextmanager
def nothing_compiles_or_starts() -> Iterator[None]:
    """Have exports end before the first compilation, and programs of several ranks be read and not started."""
    from optimum.neuron.modeling_traced import NeuronTracedModel

    from optimum_pixart_neuron.program import hygiene, memory, program

    from ..runtime.stand_in import Program, denoise, encode

    def check_memory(*_: object) -> str:
        raise Taken

    def load_model(path: Path, tensor_parallel_size: int, **_: object):
        import torch
        from safetensors.torch import load_file

        torch.jit.load(path)
        for rank in range(tensor_parallel_size):
            load_file(Path(path).parent / "weights" / f"tp{rank}_sharded_checkpoint.safetensors")
        computes = {"text_encoder": lambda ids: encode(ids, 8), "transformer": denoise}
        return Program(computes[Path(path).parent.name])

    with ExitStack() as stack:
        for place, name, value in (
            (program, "trace_program", lambda *_: SimpleNamespace(activations=0)),
            (hygiene, "check_program", lambda *_: ()),
            (memory, "check_memory", check_memory),
            (NeuronTracedModel, "load_model", staticmethod(load_model)),
        ):
            stack.enter_context(mock.patch.object(place, name, value))
        yield


def attempts(target: str, folder: Path, scratch: Path) -> dict[str, Callable[[], object]]:
    """By name, what may be done with it; each either ends in an error of ours, or well."""
    if target == CHECKPOINT:
        return {"detect": lambda: _detect(folder), "export": lambda: _export(folder, scratch / "out")}
    if target == LORA:
        adapters = tuple(str(folder / each) for each in LORA_FOLDERS)
        return {"export": lambda: _export(folder, scratch / "out", lora_model_ids=adapters)}
    return {
        "load": lambda: _load_and_draw(folder),
        "validate": lambda: _validate(folder),
        "benchmark": lambda: _benchmark(folder),
        "serve": lambda: _serve(folder),
        "push": lambda: _push(folder),
    }


def _detect(folder: Path) -> None:
    from optimum_pixart_neuron.checkpoint.open import pipeline_class
    from optimum_pixart_neuron.checkpoint.options import CheckpointOptions

    pipeline_class(CheckpointOptions(model=str(folder), local_files_only=True))


def _export(folder: Path, output: Path, **options: object) -> None:
    from optimum_pixart_neuron.export.exporter import export
    from optimum_pixart_neuron.export.options import ExportOptions

    try:
        export(ExportOptions(model=str(folder), output=output, **OPTIONS, **options))
    except Taken:
        pass
    left = os.listdir(output.parent)
    assert not left, f"left {left}"


def _load_and_draw(folder: Path) -> None:
    from optimum_pixart_neuron import NeuronPixArtSigmaPipeline
    from optimum_pixart_neuron.runtime.taken_cores import forget_taken

    forget_taken()
    pipe = NeuronPixArtSigmaPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    pipe("a red cat", num_inference_steps=_STEPS, output_type="latent")


def _validate(folder: Path) -> None:
    from optimum_pixart_neuron.artifact.checks import check_artifact
    from optimum_pixart_neuron.neuron.sdk import ensure_sdk
    from optimum_pixart_neuron.validation.programs import open_compiled
    from optimum_pixart_neuron.validation.source import original_of

    components = open_compiled(folder)
    manifest = check_artifact(folder, ensure_sdk(components[0].compiled.instance_type))
    original_of(folder, manifest, {"local_files_only": True})


def _benchmark(folder: Path) -> None:
    from optimum_pixart_neuron.artifact.checks import check_artifact
    from optimum_pixart_neuron.benchmark import measure
    from optimum_pixart_neuron.benchmark.options import BenchmarkOptions
    from optimum_pixart_neuron.benchmark.subject import Subject
    from optimum_pixart_neuron.neuron.sdk import ensure_sdk

    options, subject = BenchmarkOptions(output=str(folder)), Subject.open(folder)
    sdk = ensure_sdk(subject.known_instance)
    check_artifact(folder, sdk)
    measure._request(options, subject, measure._batches(subject, options))
    subject.instance, subject.mode, subject.size  # noqa: B018  what its report tells


def _serve(folder: Path) -> None:
    from optimum_pixart_neuron.serving.exported import open_export

    open_export(str(folder))


def _push(folder: Path) -> None:
    """What would be sent is known files."""
    from optimum_pixart_neuron.artifact.card import model_card
    from optimum_pixart_neuron.artifact.expected_files import is_known
    from optimum_pixart_neuron.artifact.push import _check_folder

    manifest = _check_folder(folder, {})
    assert all(map(is_known, manifest.files))
    model_card(manifest.for_others(), "me/pixart", None)

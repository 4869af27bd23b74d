"""What the runs of these tests do, each in a child of the warm process: what a user's command does, and checks."""

import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .inflict import UNHARMED, watch_changes

_TEXT_SIZES = {"caption_dim": 8, "text_heads": 2, "text_ff": 8, "text_layers": 1}
CHECKPOINT_SIZES = {"heads": 2, "head_dim": 4, "layers": 1, **_TEXT_SIZES}
EXPORT_OPTIONS = {"tensor_parallel_size": 2, "sequence_length": 16, "vae_parallel": "one", "disable_validation": True}
REPO = "user/pixart-sigma-neuron"
PROMPTS = ("a red cat", "a blue dog on a mat", "two green birds", "an astronaut", "a red cat on a horse")


@dataclass(frozen=True)
class HubClient:
    """Where a run finds the Hub, keeps its cache, and how many seconds it waits for an answer."""

    url: str
    home: Path
    patience: float = 30.0

    def connect(self) -> None:
        """Point huggingface_hub at this Hub and no other."""
        from huggingface_hub.utils import reset_sessions

        from ..hub.client import client_settings

        for module, name, value in client_settings(self.url, self.home, self.patience):
            setattr(module, name, value)
        os.environ.update(HF_TOKEN="hf_writer", NO_PROXY="127.0.0.1")
        reset_sessions()


def warm_up() -> None:
    """Import what any run needs and trace once, in the warm process, where no rank is ever started."""
    import torch
    from tqdm import tqdm

    torch.set_num_threads(1)  # a pool of threads would not survive the fork
    tqdm.set_lock(threading.RLock())  # its own is shared with forks: one that is killed would hold it for all others
    from optimum_pixart_neuron import NeuronPixArtSigmaPipeline  # noqa: F401
    from optimum_pixart_neuron.artifact import pull, push  # noqa: F401

    folder = Path(tempfile.mkdtemp())
    make_checkpoint(folder / "checkpoint")
    export({"model": str(folder / "checkpoint"), "output": folder / "out"})
    shutil.rmtree(folder)
    logging.basicConfig()
    logging.getLogger("optimum_pixart_neuron").setLevel(logging.INFO)  # shown with a run's output, as commands do it


def make_checkpoint(folder: Path) -> None:
    from tests.tiny import build_tiny_checkpoint

    build_tiny_checkpoint(folder, **CHECKPOINT_SIZES)


def export(options: dict[str, Any], fault: Any = UNHARMED) -> None:
    from optimum_pixart_neuron.export.exporter import export
    from optimum_pixart_neuron.export.options import ExportOptions

    fault.arm()
    export(ExportOptions(**{**EXPORT_OPTIONS, **options}))


def export_noting_changes(options: dict[str, Any], folder: Path) -> list[str]:
    """Export; returns the operations that change files below `folder`, in order."""
    noted: list[str] = []
    watch_changes(folder, noted.append)
    export(options)
    return noted[:]


def push(client: HubClient, folder: Path) -> str:
    from optimum_pixart_neuron.artifact.push import push

    client.connect()
    return push(folder, REPO, allow_emulated=True)


def pull(client: HubClient, options: dict[str, Any], fault: Any = UNHARMED) -> Path:
    from optimum_pixart_neuron.artifact.pull import pull

    client.connect()
    fault.arm()
    return pull(REPO, **options)


def verdicts(folder: Path) -> dict[str, str | None]:
    """What each extent of verification says of a folder, and what loading it says; None where it is accepted."""
    from optimum_pixart_neuron import NeuronPixArtSigmaPipeline
    from optimum_pixart_neuron.artifact.checks import check_artifact
    from optimum_pixart_neuron.errors import ArtifactError
    from optimum_pixart_neuron.neuron.sdk import ensure_sdk

    found: dict[str, str | None] = {}
    for verify in ("sizes", "full"):
        try:
            check_artifact(folder, ensure_sdk(), verify=verify)
            found[verify] = None
        except ArtifactError as error:
            found[verify] = str(error)
            try:
                NeuronPixArtSigmaPipeline.from_pretrained(folder, verify=verify)
                found[verify] = None
            except ArtifactError as error_at_load:
                assert str(error_at_load) == str(error)
    return found


def encode(folder: Path, loaded: Path, runs: int, idle_s: float = 300.0) -> str:
    """Load the text encoder on its ranks and run it; makes the file `loaded` between; returns the output's digest.

    The ranks may do nothing for `idle_s`.
    """
    os.environ["NEURON_EMULATOR_TIMEOUT"] = str(idle_s)
    run = _load_encoder(folder)
    loaded.touch()
    return [run() for _ in range(runs)][-1]


def encode_until_interrupted(folder: Path, loaded: Path) -> tuple[bool, str]:
    """The same until KeyboardInterrupt, and once more; whether for that it had to be loaded again, and the digest."""
    run = _load_encoder(folder)
    with suppress(KeyboardInterrupt):
        loaded.touch()
        while True:
            run()
    try:
        return False, run()
    except RuntimeError as error:
        assert "load the model again" in str(error), error
        return True, _load_encoder(folder)()


def _load_encoder(folder: Path) -> Callable[[], str]:
    """What runs the text encoder, and returns the digest of its output."""
    import hashlib

    import torch

    from optimum_pixart_neuron.artifact.loading import load_program

    ((program,),) = load_program(folder / "text_encoder", 1).values()
    ids = torch.arange(EXPORT_OPTIONS["sequence_length"]).reshape(1, -1) % 7
    return lambda: hashlib.sha256(program(ids)["last_hidden_state"].numpy().tobytes()).hexdigest()


def within(folder: Path, python_path: str | None, function: Callable, *arguments: Any) -> Any:
    """Another of these functions, with this current folder."""
    os.chdir(folder)
    os.environ.pop("PYTHONPATH", None)
    if python_path is not None:
        os.environ["PYTHONPATH"] = python_path
    return function(*arguments)


def try_hostile(cases: list[Any], folder: Path) -> list[str]:
    """Try hostile repositories, of `tests/hostile`; what must not have happened, with the name of the case."""
    from ..hostile.child import try_all
    from ..hostile.guards import bound_memory

    bound_memory()
    wrong = []
    for case, ending in try_all(cases, folder):
        wrong += [f"{case}: {each}" for each in ending.wrong]
        if case.must_be_refused and {"load", "export"}.intersection(ending.taken):
            wrong.append(f"{case}: it was taken")
    return wrong


def draw_alone(folder: Path) -> list[str]:
    """Digests of the latents of all prompts, drawn one after the other."""
    pipe = _load(folder)
    return [_draw(pipe, number) for number in range(len(PROMPTS))]


def draw_together(folder: Path, numbers: list[int], switch_interval: float) -> list[str]:
    """The same of some prompts, each in a thread of its own, which take turns after so many seconds."""
    import sys
    from concurrent.futures import ThreadPoolExecutor

    pipe, everybody = _load(folder), threading.Barrier(len(numbers))
    sys.setswitchinterval(switch_interval)

    def draw(number: int) -> str:
        everybody.wait()
        return _draw(pipe, number)

    with ThreadPoolExecutor(len(numbers)) as threads:
        return list(threads.map(draw, numbers))


def _load(folder: Path) -> Any:
    from optimum_pixart_neuron import NeuronPixArtSigmaPipeline

    pipe = NeuronPixArtSigmaPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _draw(pipe: Any, number: int) -> str:
    import hashlib

    import torch

    generator = torch.Generator().manual_seed(number)
    # The decoder would take most of the time, and has no state that threads could share.
    (latents,) = pipe(PROMPTS[number], num_inference_steps=3, generator=generator, output_type="latent").images
    return hashlib.sha256(latents.numpy().tobytes()).hexdigest()

"""The tiny checkpoint as validation opens it, two exports of it, and the validation of one in this process."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from optimum_pixart_neuron.checkpoint.checkpoint import PixArtCheckpoint
from optimum_pixart_neuron.components.common.original import Samples
from optimum_pixart_neuron.components.registry import COMPONENTS
from optimum_pixart_neuron.validation import validate as validation
from optimum_pixart_neuron.validation.programs import open_compiled

from ..checkpoints import opened
from ..e2e.conftest import exported, fresh_runtime, sdk  # noqa: F401

SMALL = {"height": 128, "width": 128, "sequence_length": 64}


@pytest.fixture(scope="module")
def bfloat16_folder(exported) -> Path:  # noqa: F811
    """Context mode: a rank for each half of the guidance pair, whose transformers differ in one small weight."""
    return exported(tensor_parallel_size=2, batch_size=2, with_vae_encoder=True, vae_parallel="one", **SMALL)


@pytest.fixture(scope="module")
def float32_folder(exported) -> Path:  # noqa: F811
    """Tensor mode, with tiles."""
    return exported(tensor_parallel_size=2, parallel_mode="tensor", torch_dtype="float32", vae_tile_size=64, **SMALL)


@pytest.fixture
def copied(tmp_path):
    """A folder of one's own to damage; without its manifest, which would refuse it first."""

    def copy(folder: Path) -> Path:
        target = tmp_path / "damaged"
        shutil.copytree(folder, target, ignore=shutil.ignore_patterns("neuron_manifest.json"))
        return target

    return copy


@pytest.fixture
def validate(monkeypatch):
    """Validate a folder in this process, or only the components that are named; records by component."""

    def run_here(folder: Path, checkpoint, *only: str, steps: int | None = None) -> dict:
        fresh_runtime()
        if only:
            chosen = [component for component in open_compiled(folder) if component.name in only]
            monkeypatch.setattr(validation, "open_compiled", lambda _: chosen)
        found = validation.validate_here(folder, checkpoint, atol=None, steps=steps)
        return {record.component: record for record in found}

    return run_here


def shard(folder: Path, component: str, rank: int) -> Path:
    return folder / component / "weights" / f"tp{rank}_sharded_checkpoint.safetensors"


@pytest.fixture(scope="session")
def checkpoint(tiny_checkpoint) -> PixArtCheckpoint:
    return opened(tiny_checkpoint)


@pytest.fixture(scope="session")
def other_checkpoint(tmp_path_factory) -> PixArtCheckpoint:
    """The same geometry, other weights."""
    from tests.tiny import build_tiny_checkpoint

    return opened(build_tiny_checkpoint(tmp_path_factory.mktemp("other") / "checkpoint", seed=9))


def run_original(
    checkpoint: PixArtCheckpoint, name: str, given: Mapping[str, Tensor], dtype: torch.dtype = torch.float32
) -> Tensor:
    part = COMPONENTS[name].part.name
    return COMPONENTS[name].original().run(checkpoint.config(part), checkpoint.weights(part), given, dtype)


@pytest.fixture(scope="session")
def given(checkpoint) -> dict[str, dict[str, Tensor]]:
    """The inputs of each component, as the validation of small programs makes them."""
    folder = checkpoint.sources["tokenizer"].folder.parent
    found: dict[str, dict[str, Tensor]] = {}
    outputs: dict[str, Tensor] = {}
    for name, batch, shape in (
        ("text_encoder", 2, ()),
        ("transformer", 2, (4, 16, 16)),
        ("vae_decoder", 1, (4, 8, 12)),
        ("vae_encoder", 1, (3, 64, 96)),
    ):
        sizes = dict(zip(("num_channels", "height", "width"), shape), sequence_length=SMALL["sequence_length"])
        config = checkpoint.config(COMPONENTS[name].part.name)
        wanted = Samples(folder=folder, batch=batch, sizes=sizes, config=config, inputs=found, outputs=outputs)
        found[name] = COMPONENTS[name].original().samples(wanted)
        if name == "text_encoder":
            outputs[name] = run_original(checkpoint, name, found[name])
    return found

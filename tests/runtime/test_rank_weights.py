"""Weights that a loaded pipeline reads again at every change are the ones that it was loaded with, or refused."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from optimum_pixart_neuron.checkpoint.weights import ComponentWeights
from optimum_pixart_neuron.components.registry import DENOISER
from optimum_pixart_neuron.errors import ArtifactError, CheckpointError
from optimum_pixart_neuron.lora.adapter import ActiveAdapter, changes_of, read_adapter
from optimum_pixart_neuron.runtime.rank_weights import ExportedWeights, StoredWeights

from ..checkpoints import change_weights
from ..lora.adapters import matrices, weights_of, write_diffusers

NAME = "proj_out.bias"


@pytest.fixture
def weights(tiny_checkpoint, tmp_path) -> Path:
    """The transformer's file, as a checkpoint's and as that of an export's only rank."""
    (tmp_path / "weights").mkdir()
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    shutil.copyfile(next((tiny_checkpoint / "transformer").glob("*.safetensors")), file)
    os.link(file, tmp_path / "weights" / "tp0_sharded_checkpoint.safetensors")
    return file


@pytest.mark.parametrize("change", ["written", "replaced", "removed"])
def test_files_that_are_not_what_they_were(weights, change):
    folder, rank = weights.parent, weights.parent / "weights" / "tp0_sharded_checkpoint.safetensors"
    stored = StoredWeights.of(ComponentWeights.find(folder, DENOISER.part.stem, None))
    exported = ExportedWeights(DENOISER, folder, SimpleNamespace(ranks=1))
    assert torch.equal(exported.by_rank([], None)[0][NAME], stored.read(NAME))
    for file in (weights, rank):
        if change == "written":
            change_weights(file, {NAME: torch.zeros(32)})
        elif change == "replaced":
            shutil.copyfile(file, file.with_name("new"))
            file.with_name("new").replace(file)
        else:
            file.unlink()
    message = "safetensors was changed or removed since it was loaded; load it again"
    with pytest.raises(CheckpointError, match=message):
        stored.read(NAME)
    with pytest.raises(ArtifactError, match=message):
        exported.by_rank([], None)


def test_an_adapter_in_memory_outlives_its_file(tiny_checkpoint, tmp_path):
    plain = weights_of(tiny_checkpoint)
    geometry = {"transformer": {name: tuple(weight.shape) for name, weight in plain.items()}}
    folder = write_diffusers(tmp_path / "lora", matrices(plain))
    (file,) = folder.iterdir()
    of_file = read_adapter(file, None, geometry)
    held = of_file.in_memory()
    weight = next(iter(held.changes["transformer"]))
    (before,) = changes_of([ActiveAdapter(of_file)], "transformer", weight)
    before = (before.down.clone(), before.up.clone())
    write_diffusers(folder, matrices(plain, seed=1))
    for _ in range(2):
        (now,) = changes_of([ActiveAdapter(held)], "transformer", weight)
        assert torch.equal(now.down, before[0]) and torch.equal(now.up, before[1])
        shutil.rmtree(folder, ignore_errors=True)

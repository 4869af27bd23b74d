"""Checkpoints that no export can be made of: refused in one line, with nothing written and no weight read.

In `tests/export/` are values that a model or an instance cannot have (`test_settings.py`), other places of a model
(`test_kinds.py`), checkpoints that do not fit (`test_checkpoints.py`) and other outputs (`test_output.py`); what the
command makes of an error is in `tests/commands/test_export_neuron.py`, but for two that go through the real one.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from optimum_pixart_neuron.checkpoint.weights import ComponentWeights
from optimum_pixart_neuron.errors import CheckpointError

from ..checkpoints import change_weights, rewrite
from ..refusals import refusal
from .conftest import export_to

pytestmark = pytest.mark.e2e

TRANSFORMER = Path("transformer", "diffusion_pytorch_model.safetensors")
TEXT_ENCODER = Path("text_encoder", "model.safetensors")


@pytest.fixture
def checkpoint(tiny_checkpoint, tmp_path):
    """A copy that a test may damage."""
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "models" / "pixart"))


def contents(folder: Path) -> dict[Path, int]:
    """Every path below `folder`, hidden ones too, with the time of its last change."""
    return {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}


def missing_shard(folder: Path) -> None:
    (folder / TRANSFORMER).unlink()
    index = {"metadata": {}, "weight_map": {"proj_out.bias": "diffusion_pytorch_model-00001-of-00002.safetensors"}}
    (folder / "transformer" / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))


def without_tokenizer_model(folder: Path) -> None:
    for name in ("spiece.model", "tokenizer.json"):
        (folder / "tokenizer" / name).unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: shutil.rmtree(folder / "tokenizer"), "has no tokenizer"),
        (lambda folder: rewrite(folder / "model_index.json", scheduler=None), "has no scheduler"),
        (lambda folder: rewrite(folder / "model_index.json", _class_name="FluxPipeline"), "is a FluxPipeline, not a"),
        (lambda folder: (folder / "vae" / "config.json").unlink(), "vae/config.json is missing"),
        (lambda folder: (folder / "vae" / "config.json").write_text("{"), "vae/config.json is damaged: EOF"),
        (
            lambda folder: rewrite(folder / "transformer" / "config.json", sample_size=None),
            "transformer/config.json has no sample_size",
        ),
        (without_tokenizer_model, "tokenizer holds neither spiece.model nor tokenizer.json"),
        (lambda folder: (folder / TRANSFORMER).unlink(), "diffusion_pytorch_model.safetensors is missing"),
        (missing_shard, "00001-of-00002.safetensors is missing, though .* names it"),
        (lambda folder: os.truncate(folder / TRANSFORMER, 100), "is not a readable safetensors file"),
        (
            lambda folder: change_weights(folder / TRANSFORMER, {"proj_out.bias": None}),
            "transformer: the checkpoint has no weight proj_out.bias",
        ),
        (
            lambda folder: change_weights(folder / TEXT_ENCODER, {"encoder.final_layer_norm.weight": torch.ones(3)}),
            r"final_layer_norm.weight has shape \(3,\), config.json asks for \(64,\)",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_incomplete_and_other_checkpoints(checkpoint, damage, message, tmp_path, monkeypatch):
    damage(checkpoint)
    before = contents(tmp_path)
    monkeypatch.setattr(ComponentWeights, "read", lambda _, name: pytest.fail(f"weight {name} was read"))
    assert re.search(message, refusal(CheckpointError, export_to, tmp_path / "exports" / "out", checkpoint))
    assert contents(tmp_path) == before


@pytest.mark.soak
@pytest.mark.parametrize(
    ("flags", "environment", "message"),
    [
        (["--tensor_parallel_size", "3"], {}, "--tensor_parallel_size 3 does not divide the 8 attention heads"),
        ([], {"NEURON_EMULATOR_INSTANCE": "trn9"}, "NEURON_EMULATOR_INSTANCE: unknown instance 'trn9': known are"),
    ],
)
def test_through_the_real_command(tiny_checkpoint, tmp_path, flags, environment, message):
    """The line stands after what optimum-neuron says at import on every machine without NeuronCores."""
    command = [Path(sys.executable).with_name("optimum-cli"), "export", "neuron", "--model", tiny_checkpoint]
    environment = {**os.environ, **environment}
    done = subprocess.run([*command, tmp_path / "out", *flags], env=environment, capture_output=True, text=True)
    *said, line = done.stderr.splitlines()
    assert not any("optimum-cli" in other or "Traceback" in other or "Error" in other for other in said), said
    assert done.returncode == 2 and line.startswith(f"optimum-cli export neuron: error: {message}")
    assert list(tmp_path.iterdir()) == []

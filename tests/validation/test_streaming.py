"""Streamed originals are the whole models bit for bit, and hold a bounded part of the weights."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, PixArtTransformer2DModel
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import T5Config, T5EncoderModel
from transformers.integrations.accelerate import init_empty_weights

from optimum_pixart_neuron.checkpoint.weights import ComponentWeights
from optimum_pixart_neuron.components.common.streaming import stream_weights
from optimum_pixart_neuron.components.registry import COMPONENTS
from optimum_pixart_neuron.cpu.products import FasterBfloat16
from optimum_pixart_neuron.errors import CheckpointError
from tests.tiny import build_tiny_checkpoint

from ..checkpoints import opened
from .conftest import run_original

WHOLE = {
    "text_encoder": T5EncoderModel,
    "transformer": PixArtTransformer2DModel,
    "vae_decoder": AutoencoderKL,
    "vae_encoder": AutoencoderKL,
}


@pytest.fixture(scope="module")
def in_small_files(tmp_path_factory):
    """A checkpoint in half precision, over several files."""
    folder = tmp_path_factory.mktemp("stored") / "checkpoint"
    return opened(build_tiny_checkpoint(folder, dtype=torch.float16, max_shard_size="100KB"))


@pytest.mark.seconds
@pytest.mark.parametrize(("stored", "dtype"), [("checkpoint", torch.float32), ("in_small_files", torch.bfloat16)])
@pytest.mark.parametrize("name", WHOLE)
@torch.no_grad()
def test_a_streamed_original_is_the_whole_one(request, stored, given, name, dtype):
    original, stored = COMPONENTS[name].original(), request.getfixturevalue(stored)
    whole = (
        WHOLE[name]
        .from_pretrained(stored.sources[COMPONENTS[name].part.name].folder, torch_dtype=torch.float32)
        .to(dtype)
    )
    tensors = {
        key: tensor.to(dtype) if tensor.is_floating_point() and key != "timestep" else tensor
        for key, tensor in given[name].items()
    }
    rows = [dict(zip(tensors, row)) for row in zip(*(tensor.split(original.rows) for tensor in tensors.values()))]
    with FasterBfloat16():  # for which an original is run in bfloat16 within it
        expected = torch.cat([original.call(whole.eval(), **row) for row in rows]).float()
    assert torch.equal(run_original(stored, name, given[name], dtype), expected)


def streamed(folder: Path) -> nn.Module:
    """The text encoder of a folder."""
    with init_empty_weights():
        model = T5EncoderModel(T5Config.from_pretrained(folder))
    return stream_weights(model, ComponentWeights.find(folder, "model", None))


def streamed_tiny(tiny_checkpoint: Path, folder: Path, change: Callable[[dict], object]) -> nn.Module:
    """That of the tiny checkpoint with changed weights."""
    weights = load_file(tiny_checkpoint / "text_encoder" / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")
    shutil.copy(tiny_checkpoint / "text_encoder" / "config.json", folder)
    return streamed(folder)


@torch.no_grad()
def test_a_tied_weight_is_found_under_its_other_name(tmp_path, tiny_checkpoint, given):
    def rename(weights):
        weights["encoder.embed_tokens.weight"] = weights.pop("shared.weight")

    whole = T5EncoderModel.from_pretrained(tiny_checkpoint / "text_encoder")
    model = streamed_tiny(tiny_checkpoint, tmp_path, rename)
    assert torch.equal(model(**given["text_encoder"])[0], whole(**given["text_encoder"])[0])


def test_a_missing_weight_is_named(tmp_path, tiny_checkpoint):
    name = "encoder.block.1.layer.1.DenseReluDense.wo.weight"
    with pytest.raises(CheckpointError, match=f"has no weight {name}"):
        streamed_tiny(tiny_checkpoint, tmp_path, lambda weights: weights.pop(name))


@torch.no_grad()
def test_a_weight_of_another_shape_is_named_and_nothing_stays_in_memory(tmp_path, tiny_checkpoint, given):
    name = "encoder.block.1.layer.1.DenseReluDense.wo.weight"
    model = streamed_tiny(tiny_checkpoint, tmp_path, lambda weights: weights.update({name: torch.zeros(3, 4)}))
    with pytest.raises(CheckpointError, match=f"{name} has shape \\(3, 4\\), config.json asks for \\(64, 128\\)"):
        model(**given["text_encoder"])
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}


@torch.no_grad()
def needed(folder: str) -> float:
    """MB that a call takes at its peak; of a process of its own, which has no free memory to take them from."""
    model, ids = streamed(Path(folder)), torch.ones(1, 16, dtype=torch.int64)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = peak()
    model(input_ids=ids)
    return peak() - before


def peak() -> float:
    (line,) = re.findall(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return int(line) / 1024


@pytest.mark.soak
def test_memory_does_not_grow_with_the_number_of_layers(tmp_path):
    """Weights of 24 layers are 250 MB in float32, of 4 layers 42 MB; what one call needs is 2 MB, and 2 MB of rest."""
    for layers in (4, 24):
        config = T5Config(d_model=512, d_kv=64, num_heads=8, d_ff=1024, num_layers=layers, vocab_size=1000)
        config.feed_forward_proj, config.is_gated_act, config.dense_act_fn = "gated-gelu", True, "gelu_new"
        config.save_pretrained(tmp_path / str(layers))
        with torch.device("meta"):
            names = {name: tensor.shape for name, tensor in T5EncoderModel(config).state_dict().items()}
        names.pop("encoder.embed_tokens.weight")
        save_file(
            {name: torch.zeros(shape) for name, shape in names.items()}, tmp_path / str(layers) / "model.safetensors"
        )
    measure = f"import sys; from {__name__} import needed; print(*map(needed, sys.argv[1:]))"
    argv = [sys.executable, "-c", measure, *(tmp_path / name for name in ("4", "4", "24"))]
    run = subprocess.run(argv, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert run.returncode == 0, run.stderr
    _, few, many = map(float, run.stdout.split())  # the first call of all loads libraries
    assert many < few + 8 and many < 30, run.stdout

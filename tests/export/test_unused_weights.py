"""Weights that no program reads are named; a checkpoint with more blocks than its configuration is refused."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from optimum_pixart_neuron.errors import CheckpointError
from optimum_pixart_neuron.export.unused import check_unused
from tests.tiny import build_tiny_checkpoint

from ..checkpoints import change_weights
from ..e2e.conftest import describe
from ..refusals import refusal

TRANSFORMER = "transformer/diffusion_pytorch_model.safetensors"


@pytest.fixture
def checkpoint(tmp_path):
    return build_tiny_checkpoint(tmp_path / "checkpoint", heads=4, layers=1, text_layers=1, text_heads=4, text_ff=32)


def check(folder) -> None:
    _, components = describe(folder, tensor_parallel_size=2)
    check_unused(components.values())


def test_weights_beside_the_models_are_named(checkpoint, logged):
    check(checkpoint)
    assert not [said for said in logged.messages if "not used" in said]
    name = "transformer_blocks.0.attn1.to_q.lora_A.weight"
    change_weights(checkpoint / TRANSFORMER, {name: torch.ones(4, 32)})
    check(checkpoint)
    assert f"  note        transformer: 1 weight is not used, {name} for one" in logged.messages


def test_more_blocks_than_the_configuration_has(checkpoint):
    """A deeper fine-tune with the configuration of what it was made from."""
    first = {name: tensor for name, tensor in load_file(checkpoint / TRANSFORMER).items() if ".0." in name[:22]}
    change_weights(checkpoint / TRANSFORMER, {name.replace(".0.", ".1.", 1): first[name].clone() for name in first})
    assert refusal(CheckpointError, check, checkpoint) == (
        "transformer: the weights have 2 transformer_blocks, config.json asks for 1 of them; mend config.json, or take"
        " the one that belongs to these weights"
    )


def test_a_pointer_of_git_lfs_is_called_by_name(checkpoint):
    (path,) = (checkpoint / "vae").glob("*.safetensors")
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 335304388\n")
    with pytest.raises(CheckpointError, match="is a git-LFS pointer, not the weights; run `git lfs pull` there"):
        check(checkpoint)
    assert json.loads((checkpoint / "vae" / "config.json").read_text())


@pytest.mark.parametrize(
    ("prefix", "wrapper"), [("_orig_mod.", "torch.compile"), ("module.", "torch's DistributedDataParallel")]
)
def test_prefixes_of_what_wrapped_the_model_are_called_by_name(checkpoint, prefix, wrapper):
    path = checkpoint / TRANSFORMER
    save_file({prefix + name: tensor for name, tensor in load_file(path).items()}, path)
    assert refusal(CheckpointError, check, checkpoint) == (
        f"{path}: weights are named {prefix}…, as {wrapper} saves a model that it wraps; save the model inside"
    )

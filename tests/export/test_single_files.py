"""Transformers as PixArt's own repository saves them, and other depths than the released ones."""

import json
import shutil

import pytest
import torch
from diffusers import PixArtTransformer2DModel
from safetensors.torch import load_file, save_file

from optimum_pixart_neuron.components.registry import DENOISER
from optimum_pixart_neuron.components.transformer.original_names import MODULES, TABLES, Piece, names_in_diffusers
from optimum_pixart_neuron.export.output import check_apart

from ..checkpoints import fetched, opened, refused


def pieces_of_diffusers(blocks: int) -> dict[str, Piece]:
    """Names in diffusers of the weights of a transformer -> where they lie in an original file, by the table."""
    general = [*(f"{module}.{kind}" for module in MODULES for kind in ("weight", "bias")), *TABLES]
    originals = {each.replace("*", str(block)): None for each in general for block in range(blocks)}
    named = {name: names_in_diffusers(name) for name in originals}
    return {each: Piece(name, number, len(ours)) for name, ours in named.items() for number, each in enumerate(ours)}


def as_original(weights: dict[str, torch.Tensor], *, tokens: int = 256) -> dict[str, torch.Tensor]:
    """A state dict of diffusers' under the names of PixArt's repository, with what that saves beside the weights."""
    shares: dict[str, dict[int, torch.Tensor]] = {}
    pieces = pieces_of_diffusers(blocks=100)
    for name, tensor in weights.items():
        piece = pieces[name]
        shares.setdefault(piece.name, {})[piece.number] = tensor
    fused = {name: torch.cat([parts[number] for number in sorted(parts)]) for name, parts in shares.items()}
    return fused | {"pos_embed": torch.zeros(1, tokens, 64), "y_embedder.y_embedding": torch.zeros(120, 64)}


@pytest.fixture(scope="module")
def plain(tiny_checkpoint):
    return load_file(tiny_checkpoint / "transformer" / "diffusion_pytorch_model.safetensors")


@pytest.fixture
def file(tiny_checkpoint, plain, tmp_path):
    """With diffusers' configuration beside it: the small model has 8 heads, the repository's have 16."""
    shutil.copy(tiny_checkpoint / "transformer" / "config.json", tmp_path)
    save_file(as_original(plain), tmp_path / "original.safetensors")
    return tmp_path / "original.safetensors"


def test_the_table_has_every_weight_once():
    with torch.device("meta"):
        config = {**DENOISER.part.released, "num_layers": 42, "use_additional_conditions": True}
        names = [name for name, _ in PixArtTransformer2DModel.from_config(config).named_parameters()]
    assert pieces_of_diffusers(blocks=42).keys() == set(names)
    ours = [each for several in (*MODULES.values(), *TABLES.values()) for each in several]
    assert len(set(ours)) == len(ours)
    # As the repository's own script names them.
    assert names_in_diffusers("blocks.41.attn.qkv.bias")[1] == "transformer_blocks.41.attn1.to_k.bias"
    assert names_in_diffusers("blocks.3.cross_attn.kv_linear.weight")[1] == "transformer_blocks.3.attn2.to_v.weight"
    assert names_in_diffusers("blocks.0.mlp.fc2.weight") == ("transformer_blocks.0.ff.net.2.weight",)
    assert names_in_diffusers("t_block.1.bias") == ("adaln_single.linear.bias",)


def test_an_original_file_is_the_same_transformer(tiny_checkpoint, plain, file):
    checkpoint = fetched(tiny_checkpoint, transformer=file)
    weights = checkpoint.weights("transformer")
    assert weights.files.keys() == plain.keys()
    for name, expected in plain.items():
        assert weights.shape(name) == tuple(expected.shape)
        assert torch.equal(weights.read(name), expected), name
    assert checkpoint.sources["transformer"].model == str(file)


def test_an_original_file_is_a_model_that_is_completed(tiny_checkpoint, file):
    checkpoint = opened(file, components_model=tiny_checkpoint)
    assert checkpoint.sources["vae"].model == str(tiny_checkpoint)
    assert checkpoint.config("transformer")["num_attention_heads"] == 8


def test_an_export_may_lie_beside_the_file(tiny_checkpoint, file):
    check_apart(file.parent / "exported", None, opened(tiny_checkpoint, transformer=file))


def test_sizes_are_told_by_shapes(tiny_checkpoint, plain, file):
    (file.parent / "config.json").unlink()
    told = opened(tiny_checkpoint, transformer=file).config("transformer")
    original = json.loads((tiny_checkpoint / "transformer" / "config.json").read_text())
    assert (told.pop("num_attention_heads"), told.pop("attention_head_dim")) == (16, 4)
    assert told.pop("interpolation_scale") == 0.5  # as the repository's script has it for 256 px
    assert told == {key: original[key] for key in told}


def test_what_is_no_such_file(tiny_checkpoint, plain, file, tmp_path):
    tensors = as_original(plain)
    save_file(tensors | {"blocks.0.attn.q_norm.weight": torch.zeros(8)}, file)
    assert "weight blocks.0.attn.q_norm.weight is none of PixArt's transformer" in refused(
        tiny_checkpoint, transformer=file
    )
    save_file(tensors | {"blocks.0.attn.qkv.bias": torch.zeros(64)}, file)
    assert "blocks.0.attn.qkv.bias of shape (64,) has no 3 equal shares" in refused(tiny_checkpoint, transformer=file)
    save_file(plain, file)
    assert "is no transformer under the names of PixArt's own repository" in refused(tiny_checkpoint, transformer=file)
    (file.parent / "config.json").unlink()
    save_file({name: each for name, each in tensors.items() if name != "pos_embed"}, file)
    assert "has no pos_embed of 3 dimensions, which tells sizes of the model" in refused(
        tiny_checkpoint, transformer=file
    )
    file.with_suffix(".pth").touch()
    said = refused(tiny_checkpoint, transformer=file.with_suffix(".pth"))
    assert "is pickled, and pickled files can run code; convert it to .safetensors" in said

"""Weights of a loaded pipeline are changed: pictures of diffusers with the merged weights, and back to the bit."""

import shutil

import numpy as np
import pytest
import torch
from diffusers import PixArtTransformer2DModel
from safetensors.torch import load_file, save_file

from optimum_pixart_neuron.errors import CheckpointError, InvalidArgument, LoadError
from optimum_pixart_neuron.files import full_digest

from ..checkpoints import change_weights, rewrite
from ..lora.adapters import (
    MODULES,
    TEXT_MODULES,
    matrices,
    merged_by_hand,
    merged_pipeline,
    weights_of,
    write_kohya,
    write_peft,
)
from ..parity import psnr
from .conftest import load_ours, picture, pictures, soak

pytestmark = [pytest.mark.e2e, pytest.mark.ranks]


@pytest.fixture(scope="module")
def plain(tiny_checkpoint):
    return {part: weights_of(tiny_checkpoint, part) for part in ("transformer", "text_encoder")}


@pytest.fixture(scope="module")
def style(plain, tmp_path_factory):
    """A folder of peft's, and the transformer's weights with it."""
    made = matrices(plain["transformer"])
    folder = write_peft(tmp_path_factory.mktemp("style"), made, lora_alpha=2)
    return folder, merged_by_hand(plain["transformer"], made, 0.5)


@pytest.fixture(scope="module")
def fine_tune(tiny_checkpoint, tmp_path_factory):
    """A transformer trained on, alone in a folder."""
    folder = tmp_path_factory.mktemp("fine-tune") / "transformer"
    shutil.copytree(tiny_checkpoint / "transformer", folder)
    (file,) = folder.glob("*.safetensors")
    generator, weights = torch.Generator().manual_seed(5), load_file(file)
    for each in weights.values():
        each += 0.3 * each.std() * torch.randn(each.shape, generator=generator)
    save_file(weights, file)
    return folder


TWO = {"torch_dtype": "float32", "batch_size": 2}
TENSOR = {"tensor_parallel_size": 2, "parallel_mode": "tensor", "vae_parallel": "one", **TWO}
CONTEXT = {"tensor_parallel_size": 2, **TWO}
COPIES = {"tensor_parallel_size": 2, "parallel_mode": "data", **TWO}
ONE_RANK = {"tensor_parallel_size": 1, **TWO}
"""Of one core, which two share for the guidance pair, as in `COPIES`: weights are in the file of the program."""


@pytest.mark.parametrize("options", [ONE_RANK, soak(TENSOR), soak(CONTEXT), soak(COPIES)], ids=str)
def test_a_lora_and_back(exported, tiny_checkpoint, style, options, reference_images, monkeypatch):
    folder = exported(**options)
    digests = {path: full_digest(path) for path in folder.rglob("*") if path.is_file()}
    pipe = load_ours(folder)
    before = pictures(pipe)
    if options is ONE_RANK:
        check_untaken_weights(pipe, style, monkeypatch)
    pipe.load_lora_weights(style[0], adapter_name="style")
    changed = pictures(pipe)
    expected = pictures(merged_pipeline(tiny_checkpoint, transformer=style[1]))
    assert psnr(expected, reference_images) < 30 and psnr(changed, expected) >= 55
    assert "LoRA style x 1" in repr(pipe)
    pipe.unload_lora_weights()
    assert np.array_equal(pictures(pipe), before)
    assert {path: full_digest(path) for path in folder.rglob("*") if path.is_file()} == digests


def check_untaken_weights(pipe, style, monkeypatch) -> None:
    """The second copy of a program does not take what its name has a digit in: all copies have the former weights."""
    import torch_neuronx

    real, calls = torch_neuronx.replace_weights, []

    def forgetful(program, weights):
        calls.append(program)
        broken = len(calls) == 2
        real(program, {name: each for name, each in weights.items() if not (broken and "attn1" in name)})

    with monkeypatch.context() as patch:
        patch.setattr(torch_neuronx, "replace_weights", forgetful)
        with pytest.raises(LoadError, match=r"transformer does not begin .*: \d+ of \d+ weights were not taken, such"):
            pipe.load_lora_weights(style[0])
    assert len(calls) == 4 and pipe.get_active_adapters() == []


@pytest.mark.parametrize("options", [TENSOR, soak(ONE_RANK)], ids=str)
def test_several_loras_and_another_transformer(
    exported, options, tiny_checkpoint, plain, style, fine_tune, tmp_path, caplog
):
    pipe = load_ours(exported(**options))
    image, text = matrices(plain["transformer"], MODULES[3:], seed=2), matrices(plain["text_encoder"], TEXT_MODULES)
    other = write_kohya(tmp_path / "other.safetensors", image, alpha=4.0, more=text)
    pipe.load_lora_weights(str(style[0]))
    pipe.load_lora_weights(other.parent, weight_name=other.name)
    assert pipe.get_active_adapters() == ["default_0"]
    assert pipe.get_list_adapters() == {"transformer": ["default_0", "default_1"], "text_encoder": ["default_1"]}
    pipe.set_adapters(["default_0", "default_1"], [1.0, -0.5])
    merged = plain["transformer"] | style[1]
    both = {
        "transformer": merged | merged_by_hand(merged, image, -0.5),
        "text_encoder": merged_by_hand(plain["text_encoder"], text, -0.5),
    }
    assert psnr(pictures(pipe), pictures(merged_pipeline(tiny_checkpoint, **both))) >= 55

    pipe.load_transformer(fine_tune)
    pipe.set_adapters("default_1", 0.25)
    tuned = weights_of(fine_tune.parent)
    one = {
        "transformer": tuned | merged_by_hand(tuned, image, 0.25),
        "text_encoder": merged_by_hand(plain["text_encoder"], text, 0.25),
    }
    assert psnr(pictures(pipe), pictures(merged_pipeline(tiny_checkpoint, **one))) >= 55
    pipe.save_pretrained(tmp_path / "saved")
    assert "saved with its own weights" in caplog.text


@pytest.mark.parametrize("options", [TENSOR, soak(ONE_RANK)], ids=str)
def test_what_does_not_fit_changes_nothing(exported, options, tiny_checkpoint, plain, fine_tune, tmp_path):
    pipe = load_ours(exported(**options))
    before = pictures(pipe)
    wide = {name: (torch.zeros(4, 65), up) for name, (_, up) in matrices(plain["transformer"], MODULES[4:5]).items()}
    with pytest.raises(CheckpointError, match=r"have shapes \(4, 65\)"):
        pipe.load_lora_weights(write_peft(tmp_path / "wide", wide))
    with pytest.raises(CheckpointError, match="load_lora_weights: ./nowhere: no such folder"):
        pipe.load_lora_weights("./nowhere")
    with pytest.raises(InvalidArgument, match="expected a folder, file or id, given dict"):
        pipe.load_lora_weights({})

    def refused(match: str, weights: dict | None = None, **configuration) -> None:
        changed = tmp_path / "changed" / "transformer"
        shutil.copytree(fine_tune, changed, dirs_exist_ok=True)
        rewrite(changed / "config.json", **configuration)
        change_weights(changed / "diffusion_pytorch_model.safetensors", weights or {})
        with pytest.raises(CheckpointError, match=match):
            pipe.load_transformer(changed)

    refused("the transformer has num_layers 3, the export was compiled for 2", num_layers=3)
    refused("the transformer has no weight proj_out.bias, which the export has", {"proj_out.bias": None})
    refused(r"weight proj_out.bias has shape \(7,\), the export's \(32,\)", {"proj_out.bias": torch.zeros(7)})
    refused("weight proj_out.bias is stored as I8", {"proj_out.bias": torch.zeros(32, dtype=torch.int8)})
    with pytest.raises(InvalidArgument, match="cannot be changed from inside a call"):
        picture(pipe, callback=lambda *_: pipe.load_transformer(fine_tune))
    assert np.array_equal(pictures(pipe), before)

    pipe.load_transformer(PixArtTransformer2DModel.from_pretrained(fine_tune))
    expected = pictures(merged_pipeline(tiny_checkpoint, transformer=weights_of(fine_tune.parent)))
    assert psnr(pictures(pipe), expected) >= 55
    pipe.load_transformer(None)
    assert np.array_equal(pictures(pipe), before)

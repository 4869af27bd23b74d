"""A LoRA merged at export: pictures of diffusers with the merged weights, and what the export says of it."""

import pytest
from safetensors.torch import load_file, save_file

from optimum_pixart_neuron.artifact.card import model_card
from optimum_pixart_neuron.artifact.manifest import Manifest
from optimum_pixart_neuron.errors import CheckpointError
from optimum_pixart_neuron.validation.source import original_of

from ..lora.adapters import TEXT_MODULES, matrices, merged_by_hand, merged_pipeline, weights_of, write_kohya
from ..parity import psnr
from .conftest import load_ours, load_stock, pictures

pytestmark = [pytest.mark.e2e, pytest.mark.ranks]


@pytest.fixture(scope="module")
def changed(tiny_checkpoint, tmp_path_factory):
    """A kohya file for both models, and the weights that it makes at a scale of a half."""
    plain = {part: weights_of(tiny_checkpoint, part) for part in ("transformer", "text_encoder")}
    image, text = matrices(plain["transformer"]), matrices(plain["text_encoder"], TEXT_MODULES, seed=1)
    file = write_kohya(tmp_path_factory.mktemp("lora") / "style.safetensors", image, alpha=2.0, more=text)
    made = {"transformer": image, "text_encoder": text}
    return file, {part: merged_by_hand(plain[part], each, 0.5 * 2 / 4) for part, each in made.items()}


@pytest.fixture(scope="module")
def folder(exported, changed):
    lora = {"lora_model_ids": (str(changed[0]),), "lora_scales": (0.5,), "lora_adapter_names": ("style",)}
    return exported(tensor_parallel_size=2, torch_dtype="float32", batch_size=2, vae_parallel="one", **lora)


def test_pictures_of_the_merged_weights(tiny_checkpoint, folder, changed, reference_images):
    expected = pictures(merged_pipeline(tiny_checkpoint, **changed[1]))
    assert psnr(expected, reference_images) < 30  # the LoRA is seen
    for load in (load_stock, load_ours):
        assert psnr(pictures(load(folder)), expected) >= 55


def test_the_export_says_what_was_merged(folder, changed):
    manifest = Manifest.read(folder)
    (merged,) = manifest.adapters
    assert (merged.name, merged.model, merged.file) == ("style", str(changed[0].parent), "style.safetensors")
    assert (merged.scale, merged.revision, merged.content.size) == (0.5, None, changed[0].stat().st_size)
    sources = {name: len(each.source.adapters) for name, each in manifest.components.items()}
    assert sources == {"text_encoder": 1, "transformer": 1, "vae_decoder": 0}
    card = model_card(manifest.for_others(), "me/pixart", None)
    assert "| `style` | the local adapter `lora0`, `style.safetensors` | 0.5 |" in card.replace("lora1", "lora0")


def test_the_original_is_found_again_with_its_lora(folder, changed, tmp_path):
    manifest, file = Manifest.read(folder), changed[0]
    name = "transformer_blocks.0.attn1.to_q.weight"
    found = original_of(folder, manifest, {}).weights("transformer").read(name)
    assert (found - changed[1]["transformer"][name]).abs().max() < 1e-5
    before = file.read_bytes()
    try:
        save_file({key: tensor * 1.5 for key, tensor in load_file(file).items()}, file)
        with pytest.raises(CheckpointError, match="style.safetensors is not the LoRA that was merged"):
            original_of(folder, manifest, {})
    finally:
        file.write_bytes(before)

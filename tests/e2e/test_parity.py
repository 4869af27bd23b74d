"""Components and pictures of sharded exports against unmodified diffusers.

Tolerances: float32 components 1e-5 relative and images 1e-4, because sharding changes only the order of sums (about
1e-6 here); 55 dB for a picture, three steps of guidance 4.5 later (above 110 dB here). bfloat16 has 8 bits: 38 dB, and
at most 3 dB below diffusers in bfloat16.
"""

import pytest
import torch
from diffusers import PixArtSigmaPipeline

from optimum_pixart_neuron.cpu.products import FasterBfloat16

from ..parity import psnr, relative_error
from .conftest import PROMPTS, assert_same_pictures, load_ours, load_stock, pictures, pipeline_arguments, soak

pytestmark = [pytest.mark.e2e, pytest.mark.ranks]


@pytest.fixture(scope="module", params=[1, soak(2), 4], ids=lambda ranks: f"{ranks}-ranks")
def float32_folder(request, exported):
    return exported(tensor_parallel_size=request.param, torch_dtype="float32", batch_size=2)


@pytest.fixture(scope="module")
def stock(float32_folder):
    return load_stock(float32_folder)


@torch.no_grad()
def test_float32_components_through_the_stock_class(stock, reference):
    tokens = reference.tokenizer(PROMPTS, padding="max_length", max_length=300, return_tensors="pt")
    expected = reference.text_encoder(tokens.input_ids, attention_mask=tokens.attention_mask)[0]
    embeddings = stock.text_encoder(tokens.input_ids, attention_mask=tokens.attention_mask)[0]
    assert relative_error(embeddings, expected) < 1e-5

    generator = torch.Generator().manual_seed(1)
    pair = {
        "hidden_states": torch.randn(4, 4, 32, 32, generator=generator),
        "encoder_hidden_states": torch.cat([expected, expected.flip(0)]),
        "encoder_attention_mask": torch.cat([tokens.attention_mask, tokens.attention_mask.flip(0)]),
    }
    conditions = {"resolution": None, "aspect_ratio": None}
    for step in (999, 3):
        timestep = torch.full((4,), step)
        (noise,) = reference.transformer(**pair, timestep=timestep, added_cond_kwargs=conditions, return_dict=False)
        predicted = stock.transformer(**pair, timestep=timestep, return_dict=False)[0]
        assert relative_error(predicted, noise) < 1e-5

    latents = torch.randn(2, 4, 32, 32, generator=generator)
    decoded = stock.vae.decode(latents, return_dict=False)[0]
    assert (decoded - reference.vae.decode(latents, return_dict=False)[0]).abs().max() < 1e-4


def test_float32_pictures(float32_folder, stock, reference_images):
    for pipe in (stock, load_ours(float32_folder)):
        assert_same_pictures(pictures(pipe), reference_images)


@pytest.mark.parametrize(
    "options", [soak({"tensor_parallel_size": 1}), {"tensor_parallel_size": 2, "attention": "nki"}], ids=str
)
def test_bfloat16_pictures(exported, tiny_checkpoint, reference_images, options):
    theirs = PixArtSigmaPipeline.from_pretrained(tiny_checkpoint, torch_dtype=torch.bfloat16)
    arguments = pipeline_arguments()
    bfloat16_latents = arguments["latents"].bfloat16()
    with FasterBfloat16():
        upstream = theirs(PROMPTS, **{**arguments, "latents": bfloat16_latents}).images
    images = load_stock(exported(**options, batch_size=2))(PROMPTS, **arguments).images
    for image, their_image, expected in zip(images, upstream, reference_images, strict=True):
        assert psnr(image, expected) >= 38
        assert psnr(image, expected) >= psnr(their_image, expected) - 3

"""What our class takes beyond the stock one: any number of images, guidance off, embeddings, binned sizes.

Exported for one prompt and one image at a time on two ranks, in float32, so that every larger request is cut and
padded; a picture must then equal diffusers' to 55 dB (float32 sums in another order, see test_parity).
"""

import numpy as np
import pytest
import torch

from optimum_pixart_neuron.artifact.manifest import Manifest
from optimum_pixart_neuron.errors import ProgramInputError

from ..parity import psnr
from .conftest import NEGATIVE, PROMPTS, assert_same_pictures, load_ours, load_stock, pipeline_arguments

pytestmark = [pytest.mark.e2e, pytest.mark.ranks]


@pytest.fixture(scope="module")
def folder(exported):
    return exported(tensor_parallel_size=2, torch_dtype="float32")


@pytest.fixture(scope="module")
def pipe(folder):
    return load_ours(folder)


def both(pipe, reference, *args, **kwargs):
    """The same call on both pipelines, each with its own copy of the generator."""
    results = []
    for each in (pipe, reference):
        seed = kwargs.get("generator")
        if isinstance(seed, int):
            call = {**kwargs, "generator": torch.Generator().manual_seed(seed)}
        elif isinstance(seed, list):
            call = {**kwargs, "generator": [torch.Generator().manual_seed(one) for one in seed]}
        else:
            call = kwargs
        results.append(each(*args, num_inference_steps=2, output_type="np", **call).images)
    return results


def test_three_prompts_two_images_each(pipe, reference):
    prompts = [*PROMPTS, "a lighthouse"]
    images, expected = both(pipe, reference, prompts, num_images_per_prompt=2, generator=7)
    assert_same_pictures(images, expected)
    assert psnr(images[0], images[1]) < 40  # distinct rows stay distinct


def test_a_generator_for_each_image(pipe, reference):
    assert_same_pictures(*both(pipe, reference, PROMPTS, negative_prompt=["rain", "snow"], generator=[3, 4]))


@pytest.mark.parametrize("images", [1, 3])
def test_guidance_off(pipe, reference, images):
    prompts = ["a tower"] * images
    assert_same_pictures(*both(pipe, reference, prompts, guidance_scale=1.0, generator=5))


@pytest.mark.soak
def test_one_core_takes_any_number_too(exported, reference):
    """At one core the stock loader splits the batch over two cores with DataParallel, one compiled batch each."""
    single = load_ours(exported(tensor_parallel_size=1, torch_dtype="float32"))
    assert_same_pictures(*both(single, reference, [*PROMPTS, "a lighthouse"], generator=8))
    assert_same_pictures(*both(single, reference, [*PROMPTS, "a lighthouse"], guidance_scale=1.0, generator=8))


def test_embeddings_given_directly(pipe, reference, reference_images):
    positive, mask, negative, negative_mask = reference.encode_prompt(PROMPTS, negative_prompt=NEGATIVE)
    arguments = pipeline_arguments()
    del arguments["negative_prompt"]
    images = pipe(
        prompt_embeds=positive,
        prompt_attention_mask=mask,
        negative_prompt=None,
        negative_prompt_embeds=negative,
        negative_prompt_attention_mask=negative_mask,
        **arguments,
    ).images
    assert_same_pictures(images, reference_images)


def test_seeds_reproduce(pipe):
    def picture(seed: int) -> np.ndarray:
        generator = torch.Generator().manual_seed(seed)
        return pipe("a tower", num_inference_steps=1, generator=generator, output_type="np").images[0]

    assert np.array_equal(picture(1), picture(1))
    assert not np.array_equal(picture(1), picture(2))


def test_output_types_and_callback(pipe):
    seen = []
    latents = pipe(
        PROMPTS,
        num_inference_steps=2,
        output_type="latent",
        callback=lambda step, timestep, latents: seen.append((step, tuple(latents.shape))),
    ).images
    assert tuple(latents.shape) == (2, 4, 32, 32)
    assert latents.dtype == torch.float32
    assert seen == [(0, (2, 4, 32, 32)), (1, (2, 4, 32, 32))]
    assert pipe("a tower", num_inference_steps=1).images[0].size == (256, 256)


def test_progress_bar(pipe, capsys):
    pipe.set_progress_bar_config(disable=False)
    pipe("a tower", num_inference_steps=2, output_type="latent")
    pipe.set_progress_bar_config(disable=True)
    assert "2/2" in capsys.readouterr().err


def test_a_size_that_is_binned_to_the_compiled_one(pipe, reference):
    images, expected = both(pipe, reference, "a tower", height=300, width=298, generator=9)
    assert images.shape == (1, 300, 298, 3)
    assert_same_pictures(images, expected)


def test_what_was_not_compiled_is_refused_before_a_program_runs(pipe, monkeypatch):
    def forbidden(*tensors):
        raise AssertionError("a program ran")

    for part in (pipe.text_encoder, pipe.transformer, pipe.vae_decoder):
        monkeypatch.setattr(part, "model", forbidden)
    message = r"128 x 512 px is made at .* px, compiled is 256 x 256 px; export with --height"
    with pytest.raises(ProgramInputError, match=message):
        pipe("a tower", num_inference_steps=1, height=512, width=128)


def test_a_saved_copy_passes_in_full_and_gives_identical_pictures(folder, tmp_path, pipe):
    pipe.save_pretrained(tmp_path / "copy")
    assert Manifest.read(tmp_path / "copy") == Manifest.read(folder)
    expected = pipe(PROMPTS[0], **pipeline_arguments(1)).images
    for load, how in ((load_stock, {}), (load_ours, {"verify": "full"})):
        assert np.array_equal(load(tmp_path / "copy", **how)(PROMPTS[0], **pipeline_arguments(1)).images, expected)

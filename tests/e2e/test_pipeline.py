"""What our class takes beyond the stock one: any number of images, guidance off, embeddings, binned sizes.

Exported for one prompt and one image at a time on two ranks, in float32, so that every larger request is cut and
padded; a picture must then equal diffusers' to 55 dB (float32 sums in another order, see test_parity).
"""

import numpy as np
import pytest
import torch

from optimum_pixart_neuron.artifact.manifest import Manifest

from ..parity import psnr
from .conftest import NEGATIVE, PROMPTS, assert_same_pictures, load_ours, load_stock, picture, pipeline_arguments

pytestmark = [pytest.mark.e2e, pytest.mark.ranks]


@pytest.fixture(scope="module")
def folder(exported):
    return exported(tensor_parallel_size=2, torch_dtype="float32")


@pytest.fixture(scope="module")
def pipe(folder):
    return load_ours(folder)


def both(pipe, reference, prompts, seeds, **asked):
    """The same call on both pipelines, with a generator for each image."""

    def draw(each) -> np.ndarray:
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        return each(prompts, generator=generators, num_inference_steps=2, output_type="np", **asked).images

    return draw(pipe), draw(reference)


def test_three_prompts_two_images_each(pipe, reference):
    prompts, negative = [*PROMPTS, "a lighthouse"], ["rain", "snow", "fog"]
    images, expected = both(pipe, reference, prompts, range(6), negative_prompt=negative, num_images_per_prompt=2)
    assert_same_pictures(images, expected)
    assert psnr(images[0], images[1]) < 40  # distinct rows stay distinct


@pytest.mark.parametrize("images", [1, 3])
def test_guidance_off(pipe, reference, images):
    assert_same_pictures(*both(pipe, reference, ["a tower"] * images, range(images), guidance_scale=1.0))


@pytest.mark.soak
@pytest.mark.parametrize("guidance_scale", [4.5, 1.0])
def test_one_core_takes_any_number_too(exported, reference, guidance_scale):
    """At one core the stock loader splits the batch over two cores with DataParallel, one compiled batch each."""
    single = load_ours(exported(tensor_parallel_size=1, torch_dtype="float32"))
    prompts = [*PROMPTS, "a lighthouse"]
    assert_same_pictures(*both(single, reference, prompts, range(3), guidance_scale=guidance_scale))


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


def test_a_size_that_is_binned_to_the_compiled_one(pipe, reference):
    images, expected = both(pipe, reference, "a tower", [9], height=300, width=298)
    assert images.shape == (1, 300, 298, 3)
    assert_same_pictures(images, expected)


def test_a_saved_copy_passes_in_full_and_gives_identical_pictures(folder, tmp_path, pipe):
    pipe.save_pretrained(tmp_path / "copy")
    assert Manifest.read(tmp_path / "copy") == Manifest.read(folder)
    expected = picture(pipe)
    assert np.array_equal(picture(load_stock(tmp_path / "copy")), expected)
    assert np.array_equal(picture(load_ours(tmp_path / "copy", verify="full")), expected)

"""Which of several programs draws what: sizes, one half of the guidance pair, and guidance in a part of the schedule.

The programs are stand-ins whose runs are counted; `tests/e2e/test_sizes.py` has pictures of real ones.
"""

import inspect
from collections import Counter
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from diffusers import PixArtSigmaPipeline

from optimum_pixart_neuron import NeuronPixArtSigmaPipeline
from optimum_pixart_neuron.deployment.sides import Sides
from optimum_pixart_neuron.errors import ProgramInputError
from optimum_pixart_neuron.runtime.sizes import CompiledSizes

from ..refusals import refusal
from .stand_in import draw as draw_few

draw = partial(draw_few, num_inference_steps=10)
TWO_MORE = {"others": ((24, 42), (42, 24))}
BINS = {"0.57": [192.0, 336.0], "1.0": [256.0, 256.0], "1.75": [336.0, 192.0]}
SIDES = Sides(cell=16, smallest=128, largest=512)
SEVERAL = CompiledSizes(((256, 256), (192, 336), (336, 192)), BINS, SIDES)


def runs(pipe) -> dict[int, int]:
    """How often the transformer ran on so many rows, since it was asked last."""
    counted = dict(Counter(pipe.stand_ins["transformer"][0].rows))
    pipe.stand_ins["transformer"][0].rows.clear()
    return counted


@pytest.mark.parametrize(
    ("size", "drawn"),
    [
        ((256, 256), (256, 256)),
        ((336, 192), (336, 192)),
        ((1080, 1920), (192, 336)),
        ((100, 101), (256, 256)),
        ((4000, 100), (336, 192)),
    ],
)
def test_a_request_goes_to_the_nearest_aspect_ratio(size, drawn):
    assert SEVERAL.check(*size, binning=True) == drawn


def test_of_equal_aspect_ratios_the_nearest_area_is_taken():
    squares = CompiledSizes(((512, 512), (256, 256)), BINS, SIDES)
    assert squares.check(200, 200, binning=True) == (256, 256)
    assert squares.check(1024, 1024, binning=True) == (512, 512)


@pytest.mark.parametrize(("binning", "bins"), [(False, BINS), (True, {})])
def test_what_is_not_compiled_is_refused_with_the_list(binning, bins):
    sizes = CompiledSizes(SEVERAL.sizes, bins, SIDES)
    assert refusal(ProgramInputError, sizes.check, 128, 256, binning=binning) == (
        "128 x 256 px (height x width): compiled for 256 x 256, 192 x 336, 336 x 192 px; export with"
        " --sizes 256x256 192x336 336x192"
        " 128x256"
    )


@pytest.mark.parametrize(
    ("size", "binning", "reason"),
    [
        ((240, 256), False, "--height 240 is not a positive multiple of 32, the pixels of one token"),
        ((256, 1024), False, "--width 1024: the checkpoint was trained for sides of 128 to 512 pixels"),
        ((256, 272), True, "--height 240 is not a positive multiple of 32, the pixels of one token"),
    ],
)
def test_a_size_that_no_export_takes_is_not_advised(size, binning, reason):
    """Such as diffusers' aspect ratios of a checkpoint whose tokens are larger than PixArt's."""
    sizes = CompiledSizes(((256, 256),), {"0.94": [240.0, 256.0]}, replace(SIDES, cell=32))
    told = refusal(ProgramInputError, sizes.check, *size, binning=binning)
    assert told.endswith(f"256 x 256 px; no export draws that: {reason}")


def test_each_size_is_drawn_and_others_are_resized_and_cropped(stand_in):
    pipe = stand_in(**TWO_MORE)
    assert pipe.compiled_sizes == ((256, 256), (192, 336), (336, 192))
    assert "256 x 256, 192 x 336, 336 x 192 px (height x width)" in repr(pipe)
    assert draw(pipe).shape == (1, 256, 256, 3)
    assert draw(pipe, height=192, width=336).shape == (1, 192, 336, 3)
    wide = draw(pipe, height=100, width=200)
    latents = draw(pipe, height=100, width=200, output_type="latent")
    assert wide.shape == (1, 100, 200, 3) and latents.shape == (1, 4, 24, 42), "drawn at 192 x 336"
    with pytest.raises(ProgramInputError, match="compiled for 256 x 256, 192 x 336, 336 x 192 px"):
        draw(pipe, height=96, width=200, use_resolution_binning=False)
    assert draw(pipe, latents=torch.zeros(1, 4, 42, 24), height=336, width=192).shape == (1, 336, 192, 3)
    with pytest.raises(ProgramInputError, match=r"expected \(1, 4, 32, 32\).*; call with height=336, width=192"):
        draw(pipe, latents=torch.zeros(1, 4, 42, 24))


def test_binning_is_diffusers_own_for_its_bins(stand_in):
    """Where the nearest compiled size is the one that diffusers' table names, the picture is diffusers' own."""
    pipe = stand_in(**TWO_MORE)
    asked = {"height": 120, "width": 210, "num_inference_steps": 3, "output_type": "np", "max_sequence_length": 20}
    own = PixArtSigmaPipeline.__call__(pipe, "a", generator=torch.Generator().manual_seed(0), **asked).images
    ours = draw(pipe, "a", **asked)
    assert own.shape == (1, 120, 210, 3) and np.array_equal(ours, own)


def test_without_guidance_one_half_is_run(stand_in):
    pair, both = stand_in(guided=True), stand_in(half=True)
    images = []
    for pipe, each in ((pair, {2: 10}), (both, {1: 10})):
        images.append(draw(pipe, guidance_scale=1.0))
        assert runs(pipe) == each
    assert np.array_equal(*images)
    draw(both)
    assert runs(both) == {2: 10}
    # Three rows without guidance are a pair and a half.
    draw(both, ["a", "b", "c"], negative_prompt="", guidance_scale=1.0)
    assert runs(both) == {2: 10, 1: 10}


@pytest.mark.parametrize(
    ("interval", "guided"),
    [((0.0, 0.7), range(7)), ((0.2, 0.8), range(2, 8)), ((0, 1), range(10)), ([0.5, 1.0], range(5, 10))],
)
def test_guidance_in_an_interval(stand_in, interval, guided):
    """Each step is what diffusers computes there with guidance or without."""
    pipe, seen = stand_in(half=True), []
    image = draw(pipe, guidance_interval=interval, callback=lambda step, t, latents: seen.append(latents.clone()))
    pairs = len(guided)
    assert runs(pipe) == {rows: count for rows, count in ((2, pairs), (1, 10 - pairs)) if count}
    # The same with the whole pair in every program, and the guidance taken out after it.
    whole, expected = stand_in(), []
    program = whole.transformer.model.copies[0].program
    compute = program.compute
    count = iter(range(10))

    def without_outside(latents, *others):
        output = compute(latents, *others)
        return output if next(count) in guided else torch.cat([output[1:], output[1:]])

    program.compute = without_outside
    reference = draw(whole, callback=lambda step, t, latents: expected.append(latents.clone()))
    assert all(map(torch.equal, seen, expected)) and np.array_equal(image, reference)


def test_an_interval_needs_a_program_for_one_half(stand_in):
    with pytest.raises(ProgramInputError, match="no program without guidance, which it needs; export it with --gui"):
        draw(stand_in(), guidance_interval=(0.0, 0.5))
    # A program of one core takes one half as it is.
    alone = stand_in(ranks=1, guided=False)
    draw(alone, guidance_interval=(0.0, 0.5))
    assert runs(alone) == {1: 15}


NO_INTERVALS = (0.7, (0.7,), (0.5, 0.5), (-0.1, 0.5), (0.0, 1.1), ("a", "b"), (0, float("nan")))


@pytest.mark.parametrize(
    "asked", [{"height": 512, "width": 128}, *({"guidance_interval": each} for each in NO_INTERVALS)], ids=str
)
def test_what_cannot_be_is_refused_before_anything_runs(stand_in, asked):
    pipe = stand_in(half=True)
    with pytest.raises(ProgramInputError, match="512 x 128 px .* made at .* compiled is|guidance_interval: expected "):
        draw(pipe, **asked)
    assert not any(program.rows for copies in pipe.stand_ins.values() for program in copies)


def test_without_guidance_an_interval_changes_nothing(stand_in):
    pipe = stand_in(half=True)
    assert np.array_equal(draw(pipe, guidance_scale=1.0, guidance_interval=(0, 0.5)), draw(pipe, guidance_scale=1.0))


def test_the_argument_is_shown():
    assert "guidance_interval" in inspect.signature(NeuronPixArtSigmaPipeline.__call__).parameters

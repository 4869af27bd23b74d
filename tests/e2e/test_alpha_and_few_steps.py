"""PixArt-Alpha, and checkpoints of few steps: both classes draw them as unmodified diffusers does in float32."""

import json
from importlib import import_module
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler

from optimum_pixart_neuron.artifact.compiled import Compiled
from optimum_pixart_neuron.artifact.manifest import Manifest
from optimum_pixart_neuron.errors import ArtifactError, InvalidExportOption, ProgramInputError
from tests.tiny import build_tiny_checkpoint

from ..checkpoints import rewrite
from ..parity import psnr
from .conftest import NEGATIVE, load, load_ours, load_stock, noise

pytestmark = [pytest.mark.e2e, pytest.mark.ranks]

SIZES = ((512, 576), (512, 512))
TWO_RANKS = {"tensor_parallel_size": 2, "torch_dtype": "float32", "vae_parallel": "one"}


@pytest.fixture(scope="module")
def conditioned(tmp_path_factory) -> Path:
    """For 1024 px, told of size and aspect ratio."""
    return build_tiny_checkpoint(
        tmp_path_factory.mktemp("alpha") / "tiny-alpha", alpha=True, heads=6, layers=1, sample_size=128
    )


@pytest.fixture(scope="module")
def one_step(tmp_path_factory) -> Path:
    """For 256 px, with the scheduler of a one-step checkpoint."""
    folder = build_tiny_checkpoint(tmp_path_factory.mktemp("alpha") / "tiny-alpha-dmd", alpha=True, layers=1)
    DDPMScheduler(beta_schedule="linear", beta_start=1e-4, beta_end=0.02).save_pretrained(folder / "scheduler")
    rewrite(folder / "model_index.json", scheduler=["diffusers", "DDPMScheduler"])
    return folder


def original(folder: Path) -> diffusers.DiffusionPipeline:
    pipe = diffusers.DiffusionPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def load_alpha(folder: Path, package: str):
    return load(import_module(package).NeuronPixArtAlphaPipeline, folder)


def draw(pipe, size: tuple[int, int] = (256, 256), **asked) -> np.ndarray:
    given = {"latents": noise(size=size), "generator": torch.Generator().manual_seed(5), "output_type": "np", **asked}
    given |= {"height": size[0], "width": size[1], "use_resolution_binning": False}
    return pipe("a red cat on a mat", negative_prompt=NEGATIVE, **given).images[0]


@pytest.mark.soak
def test_size_and_aspect_ratio_are_compiled_with_each_size(conditioned, exported):
    folder = exported(model=str(conditioned), **TWO_RANKS, sizes=("512x576", "512x512"))
    assert json.loads((folder / "model_index.json").read_text())["_class_name"] == "PixArtAlphaPipeline"
    assert Manifest.read(folder).pipeline == "PixArtAlphaPipeline"
    assert Compiled.read(folder / "text_encoder").sizes["sequence_length"] == 120
    reference = original(conditioned)
    expected = {size: draw(reference, size, num_inference_steps=2) for size in SIZES}
    ours = load_alpha(folder, "optimum_pixart_neuron")
    for size in SIZES:
        assert psnr(draw(ours, size, num_inference_steps=2), expected[size]) >= 55
    with pytest.raises(ProgramInputError, match="expected 2 or more, or a scheduler that gives .* 1 with DPMSolver"):
        draw(ours, SIZES[0], num_inference_steps=1)
    del ours
    assert psnr(draw(load_alpha(folder, "optimum.neuron"), SIZES[0], num_inference_steps=2), expected[SIZES[0]]) >= 55


def test_a_checkpoint_of_one_step_is_drawn_at_its_timestep(one_step, exported):
    folder = exported(model=str(one_step), **TWO_RANKS, default_timesteps=400, default_guidance_scale=1)
    asked = {"timesteps": [400], "num_inference_steps": 1, "guidance_scale": 1.0}
    expected = draw(original(one_step), **asked)
    assert psnr(draw(load_alpha(folder, "optimum_pixart_neuron")), expected) >= 55
    assert psnr(draw(load_alpha(folder, "optimum.neuron"), **asked), expected) >= 55
    with pytest.raises(ArtifactError, match="is PixArt-Alpha, not PixArt-Sigma; load it with NeuronPixArtAlphaPip"):
        load_ours(folder)


@pytest.mark.soak
def test_a_consistency_model_is_drawn_as_it_was_distilled(consistency, exported):
    folder = exported(model=str(consistency), **TWO_RANKS)
    few = {"num_inference_steps": 4, "guidance_scale": 0.0}
    manifest = Manifest.read(folder)
    assert manifest.call.arguments() == few and not manifest.guided
    reference, ours = original(consistency), load_ours(folder)
    assert ours.call_defaults == few
    assert psnr(draw(ours), draw(reference, **few)) >= 55
    assert psnr(draw(ours, num_inference_steps=2), draw(reference, num_inference_steps=2, guidance_scale=0.0)) >= 55
    guided = {"num_inference_steps": 2, "guidance_scale": 3.0}
    assert psnr(draw(ours, **guided), draw(reference, **guided)) >= 55
    assert psnr(draw(load_stock(folder), **few), draw(reference, **few)) >= 55


def test_a_checkpoint_of_the_other_class_is_refused_before_it_is_compiled(one_step, tiny_checkpoint, tmp_path):
    from optimum_pixart_neuron import NeuronPixArtAlphaPipeline, NeuronPixArtSigmaPipeline

    pairs = ((NeuronPixArtSigmaPipeline, one_step, "Alpha"), (NeuronPixArtAlphaPipeline, tiny_checkpoint, "Sigma"))
    for wrong, model, label in pairs:
        with pytest.raises(InvalidExportOption, match=f"is PixArt-{label}; NeuronPixArt{label}Pipeline.from_pretr"):
            wrong.from_pretrained(model, export=True, output=tmp_path / "out", tensor_parallel_size=2)
    assert not list(tmp_path.iterdir())
    assert issubclass(NeuronPixArtAlphaPipeline, diffusers.PixArtAlphaPipeline)

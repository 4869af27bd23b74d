"""A checkpoint of few steps, exported and drawn by both classes as diffusers draws it."""

import json

import diffusers
import numpy as np
import pytest
import torch

from optimum_pixart_neuron.artifact.manifest import Manifest

from ..parity import psnr
from .conftest import load_ours, load_stock

pytestmark = [pytest.mark.e2e, pytest.mark.ranks, pytest.mark.soak]


def test_a_consistency_model_is_drawn_as_it_was_distilled(consistency, exported, logged):
    folder = exported(model=str(consistency), tensor_parallel_size=2, torch_dtype="float32")
    assert any("4 step(s) (LCMScheduler), guidance scale 0 (LCMScheduler)" in line for line in logged.messages)
    manifest = Manifest.read(folder)
    assert manifest.call.arguments() == {"num_inference_steps": 4, "guidance_scale": 0.0}
    assert not manifest.guided
    assert json.loads((folder / "model_index.json").read_text())["scheduler"] == ["diffusers", "LCMScheduler"]
    reference = diffusers.PixArtSigmaPipeline.from_pretrained(consistency)
    reference.set_progress_bar_config(disable=True)
    latents = torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    few = {"num_inference_steps": 4, "guidance_scale": 0.0}

    def draw(pipe, **asked) -> np.ndarray:
        given = {"latents": latents, "generator": torch.Generator().manual_seed(3), "output_type": "np", **asked}
        return pipe("a red cat", **given).images[0]

    ours = load_ours(folder)
    assert ours.call_defaults == few
    assert psnr(draw(ours), draw(reference, **few)) >= 55
    assert psnr(draw(ours, num_inference_steps=2), draw(reference, num_inference_steps=2, guidance_scale=0.0)) >= 55
    guided = {"num_inference_steps": 2, "guidance_scale": 3.0, "negative_prompt": "blurry"}
    assert psnr(draw(ours, **guided), draw(reference, **guided)) >= 55
    assert psnr(draw(load_stock(folder), **few), draw(reference, **few)) >= 55

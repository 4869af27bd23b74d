"""A whole schedule of denoising steps, each from the original's latents: what errs at one step only is seen.

Teacher-forced: a step's error is its own, not that of the steps before. What goes wrong with a timestep, with the mask
or with noise of one amount shows at its step, where a few sampled timesteps may miss it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..components.registry import DENOISER
from ..components.transformer.spec import GUIDANCE_SCALE

Predict = Callable[[dict[str, Tensor]], Tensor]


def scheduled_inputs(
    scheduler: Any, steps: int, given: Mapping[str, Tensor], *, guided: bool, predict: Predict
) -> tuple[list[float], list[dict[str, Tensor]], list[Tensor]]:
    """Denoise with the original.

    Args:
        scheduler: of the checkpoint.
        steps: of the schedule.
        given: inputs of one run of the program, (rows, ...), of which latents and timesteps are replaced.
        guided: whether its first half of rows are the negative prompts of the second.
        predict: runs the original on inputs; returns (rows, ...).

    Returns:
        the timesteps, the inputs of each step, and what the original predicts from them.
    """
    scheduler.set_timesteps(steps)
    latents, timestep = DENOISER.stepped
    rows = len(given[latents])
    images = rows // 2 if guided else rows
    noise = torch.randn(images, *given[latents].shape[1:], generator=torch.Generator().manual_seed(7))
    current = noise * scheduler.init_noise_sigma
    times, inputs, predictions = [], [], []
    for at in scheduler.timesteps:
        scaled = scheduler.scale_model_input(current, at)
        step = {**given, latents: torch.cat([scaled] * (rows // images)), timestep: torch.full((rows,), float(at))}
        predicted = predict(step)
        times.append(float(at))
        inputs.append(step)
        predictions.append(predicted)
        current = scheduler.step(_noise(predicted, current, guided=guided), at, current, return_dict=False)[0]
    return times, inputs, predictions


def _noise(predicted: Tensor, latents: Tensor, *, guided: bool) -> Tensor:
    """As diffusers 0.35 `PixArtSigmaPipeline.__call__`: guidance, then the noise without its learned variance."""
    if guided:
        negative, positive = predicted.chunk(2)
        predicted = negative + GUIDANCE_SCALE * (positive - negative)
    return predicted[:, : latents.shape[1]]

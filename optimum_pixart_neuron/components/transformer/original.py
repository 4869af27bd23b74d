"""diffusers' transformer, and the latents of its comparison with the compiled program."""

import torch
from diffusers import PixArtTransformer2DModel
from torch import Generator, Tensor

from ..common.original import Original, Samples, smooth
from ..text_encoder.spec import NAME as TEXT_ENCODER
from .configuration import takes_conditions
from .size_conditions import condition_values

TIMESTEPS = (999, 875, 750, 500, 250, 20)
"""The first step of every schedule, others down to the last; in bfloat16 the first three are 1000, 876 and 752."""


def _predict_noise(
    model: PixArtTransformer2DModel,
    hidden_states: Tensor,
    encoder_hidden_states: Tensor,
    timestep: Tensor,
    encoder_attention_mask: Tensor,
    resolution: Tensor | None = None,
    aspect_ratio: Tensor | None = None,
) -> Tensor:
    return model(
        hidden_states,
        encoder_hidden_states=encoder_hidden_states,
        timestep=timestep,
        encoder_attention_mask=encoder_attention_mask,
        added_cond_kwargs={"resolution": resolution, "aspect_ratio": aspect_ratio},
    ).sample


def _samples(wanted: Samples) -> dict[str, Tensor]:
    """Latents at several timesteps, each row with another one and with the text of another prompt.

    Returns:
        the transformer's inputs by name; latents go from noise to smooth as they do in a request. Size and aspect
        ratio are of the original alone, where it takes them.
    """
    mask, embeddings = wanted.inputs[TEXT_ENCODER]["attention_mask"], wanted.outputs[TEXT_ENCODER]
    rows, shape = wanted.whole_runs(len(TIMESTEPS)), wanted.image_shape
    generator = Generator().manual_seed(1)
    timestep = torch.tensor([float(TIMESTEPS[row % len(TIMESTEPS)]) for row in range(rows)])
    noise = torch.randn(rows, *shape, generator=generator)
    share = (timestep / 1000)[:, None, None, None]
    prompt = torch.arange(rows) % len(embeddings)
    return {
        "hidden_states": share * noise + (1 - share**2).sqrt() * smooth(rows, shape, generator),
        "encoder_hidden_states": embeddings[prompt],
        "timestep": timestep,
        "encoder_attention_mask": mask[prompt],
        **_conditions(wanted, rows),
    }


def _conditions(wanted: Samples, rows: int) -> dict[str, Tensor]:
    config, sizes = wanted.config, wanted.sizes
    if not takes_conditions(config):
        return {}
    size, aspect = condition_values(*(sizes[side] * sizes["vae_scale_factor"] for side in ("height", "width")))
    return {"resolution": size.expand(rows, -1), "aspect_ratio": aspect.expand(rows, -1)}


ORIGINAL = Original(
    build=PixArtTransformer2DModel.from_config,
    call=_predict_noise,
    samples=_samples,
    uncast=("timestep",),  # diffusers' schedulers give integers to a model of any dtype
)

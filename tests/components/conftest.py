"""The unmodified models of the tiny checkpoint in float32: every bias, norm and mask changes what they compute."""

import pytest
import torch
from diffusers import AutoencoderKL, PixArtTransformer2DModel
from transformers import T5EncoderModel

from optimum_pixart_neuron.components.transformer.graph import PixArtTransformer


@pytest.fixture(scope="module")
def transformer(tiny_checkpoint) -> PixArtTransformer2DModel:
    return PixArtTransformer2DModel.from_pretrained(tiny_checkpoint / "transformer")


@pytest.fixture(scope="module")
def t5(tiny_checkpoint) -> T5EncoderModel:
    return T5EncoderModel.from_pretrained(tiny_checkpoint / "text_encoder")


@pytest.fixture(scope="module")
def vae(tiny_checkpoint) -> AutoencoderKL:
    return AutoencoderKL.from_pretrained(tiny_checkpoint / "vae")


def ours(
    original: PixArtTransformer2DModel,
    size: tuple[int, int] = (32, 32),
    dtype: torch.dtype = torch.float32,
    kernel=None,
) -> PixArtTransformer:
    """The same transformer for latents of one size, as it is compiled."""
    sizes = {"latent_height": size[0], "latent_width": size[1]}
    built = PixArtTransformer.build(dict(original.config), **sizes, dtype=dtype, kernel=kernel)
    built.load_state_dict(original.state_dict(), strict=True)
    return built


def transformer_inputs(height: int, width: int, channels: int = 64) -> tuple[torch.Tensor, ...]:
    """Latents, text of so many channels, timesteps and mask of two rows."""
    generator = torch.Generator().manual_seed(3)
    mask = torch.ones(2, 20, dtype=torch.int64)
    mask[0, 5:] = 0
    mask[1, 12:] = 0
    return (
        torch.randn(2, 4, height, width, generator=generator),
        torch.randn(2, 20, channels, generator=generator),
        torch.tensor([999.0, 3.0]),
        mask,
    )

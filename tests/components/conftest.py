"""The unmodified models of the tiny checkpoint in float32: every bias, norm and mask changes what they compute."""

import pytest
from diffusers import AutoencoderKL, PixArtTransformer2DModel
from transformers import T5EncoderModel


@pytest.fixture(scope="module")
def transformer(tiny_checkpoint) -> PixArtTransformer2DModel:
    return PixArtTransformer2DModel.from_pretrained(tiny_checkpoint / "transformer")


@pytest.fixture(scope="module")
def t5(tiny_checkpoint) -> T5EncoderModel:
    return T5EncoderModel.from_pretrained(tiny_checkpoint / "text_encoder")


@pytest.fixture(scope="module")
def vae(tiny_checkpoint) -> AutoencoderKL:
    return AutoencoderKL.from_pretrained(tiny_checkpoint / "vae")

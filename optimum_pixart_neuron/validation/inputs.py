"""What both are run on: several rows, all different, with the padding and the values of real requests."""

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from transformers import AutoTokenizer

from ..checkpoint.layout import TOKENIZER_MODELS

PROMPTS = (
    "",  # one token, the rest padding: the negative prompt of most requests
    "a red fox",
    "an astronaut riding a horse on mars, highly detailed, under two moons",
)
SENTENCE = "A sailing ship in a bottle on the kitchen table, at sunset, as on an old map. "
"""Repeated until it fills a row: the fourth prompt has no padding."""

TIMESTEPS = (999, 875, 750, 500, 250, 20)
"""The first step of every schedule, others down to the last; in bfloat16 the first three are 1000, 876 and 752."""


def text_inputs(tokenizer_folder: Path, batch: int, length: int) -> dict[str, Tensor]:
    """Tokenised prompts, as diffusers' `PixArtSigmaPipeline.encode_prompt` (0.35) makes them.

    Args:
        tokenizer_folder: of the export.
        batch: rows of one run.
        length: tokens of a prompt.

    Returns:
        `input_ids` and `attention_mask`, (rows, length) int64.
    """
    # The sentencepiece model as it is, where there is one, as diffusers loads it.
    fast = not (tokenizer_folder / TOKENIZER_MODELS[0]).exists()
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder, use_fast=fast, local_files_only=True)
    prompts = [*PROMPTS, SENTENCE * length]
    numbers = range(_whole_runs(len(prompts), batch))
    texts = [prompts[number % 4] if number < 4 else f"{number} {prompts[number % 4]}" for number in numbers]
    return dict(tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt"))


def transformer_inputs(
    text: dict[str, Tensor], embeddings: Tensor, batch: int, latent_shape: tuple[int, int, int]
) -> dict[str, Tensor]:
    """Latents at several timesteps, each row with another one and with the text of another prompt.

    Args:
        text: of `text_inputs`.
        embeddings: of these prompts by the original, (prompts, length, width) float32.
        batch: rows of one run, both halves of a guidance pair counted.
        latent_shape: (channels, height, width).

    Returns:
        the transformer's inputs by name; latents go from noise to smooth as they do in a request.
    """
    rows = _whole_runs(len(TIMESTEPS), batch)
    generator = Generator().manual_seed(1)
    timestep = torch.tensor([float(TIMESTEPS[row % len(TIMESTEPS)]) for row in range(rows)])
    noise = torch.randn(rows, *latent_shape, generator=generator)
    share = (timestep / 1000)[:, None, None, None]
    prompt = torch.arange(rows) % len(embeddings)
    return {
        "hidden_states": share * noise + (1 - share**2).sqrt() * _smooth(rows, latent_shape, generator),
        "encoder_hidden_states": embeddings[prompt],
        "timestep": timestep,
        "encoder_attention_mask": text["attention_mask"][prompt],
    }


def decoder_inputs(batch: int, latent_shape: tuple[int, int, int], scaling_factor: float) -> dict[str, Tensor]:
    """Latents of two images or tiles at least, in the scale that the decoder takes: `AutoencoderKL.decode`'s."""
    rows = _whole_runs(2, batch)
    return {"latent_sample": _smooth(rows, latent_shape, Generator().manual_seed(2)) / scaling_factor}


def encoder_inputs(batch: int, image_shape: tuple[int, int, int]) -> dict[str, Tensor]:
    """Two images at least, in [-1, 1]."""
    rows = _whole_runs(2, batch)
    return {"sample": _smooth(rows, image_shape, Generator().manual_seed(3)).clamp(-2, 2) / 2}


def _whole_runs(rows: int, batch: int) -> int:
    """`rows` rounded up to whole runs of `batch`."""
    return math.ceil(rows / batch) * batch


def _smooth(rows: int, shape: tuple[int, int, int], generator: Generator) -> Tensor:
    """Values of about unit variance that change slowly over the image, as latents of pictures do, and a grain."""
    channels, height, width = shape
    coarse = torch.randn(rows, channels, math.ceil(height / 8), math.ceil(width / 8), generator=generator)
    grain = torch.randn(rows, *shape, generator=generator)
    return F.interpolate(coarse, size=(height, width), mode="bicubic") + 0.3 * grain

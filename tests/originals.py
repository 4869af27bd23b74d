"""Originals and the inputs of a comparison, without an export."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from optimum_pixart_neuron.checkpoint.checkpoint import PixArtCheckpoint
from optimum_pixart_neuron.components.common.original import Samples
from optimum_pixart_neuron.components.registry import COMPONENTS


def run_original(
    checkpoint: PixArtCheckpoint, name: str, given: Mapping[str, Tensor], dtype: torch.dtype = torch.float32
) -> Tensor:
    part = COMPONENTS[name].part.name
    return COMPONENTS[name].original().run(checkpoint.config(part), checkpoint.weights(part), given, dtype)


def samples(
    name: str,
    batch: int,
    *,
    folder: Path = Path(),
    text: Mapping[str, Tensor] | None = None,
    embeddings: Tensor | None = None,
    config: dict | None = None,
    **sizes: int,
) -> dict[str, Tensor]:
    """The inputs of one component; `text` and `embeddings` are those of the text encoder's comparison."""
    wanted = Samples(
        folder=folder,
        batch=batch,
        sizes=sizes,
        config=config or {},
        inputs={"text_encoder": text or {}},
        outputs={} if embeddings is None else {"text_encoder": embeddings},
    )
    return COMPONENTS[name].original().samples(wanted)


def cells(shape: tuple[int, int, int]) -> dict[str, int]:
    """The sizes of latents or images of (channels, height, width)."""
    return dict(zip(("num_channels", "height", "width"), shape))

"""The released checkpoints of PixArt-Sigma, as far as they decide sizes: for plans without a checkpoint at hand."""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import Any

from ..checkpoint.layout import SIGMA
from ..components.registry import DENOISER, IMAGE_DECODER, PARTS
from ..errors import CheckpointError

SAMPLE_SIZES = (32, 64, 128, 256)
"""Latent cells a side of the releases for 256, 512, 1024 and 2048 pixels; they differ in nothing else."""


@dataclass(frozen=True)
class Released:
    """One release, by the `sample_size` of its transformer."""

    sample_size: int = 128

    source = "PixArt-Sigma-XL/2"
    kind = SIGMA

    @classmethod
    def nearest(cls, height: int | None, width: int | None) -> Released:
        """The release that is nearest to a size in pixels; that for 1024 pixels where none is given."""
        sides = [side for side in (height, width) if side]
        if not sides:
            return cls()
        cell = IMAGE_DECODER.pixels_per_cell(cls().config(IMAGE_DECODER.part.name))
        wanted = (sides[0] * sides[-1]) ** 0.5 / cell
        return cls(min(SAMPLE_SIZES, key=lambda size: abs(log(wanted / size))))

    @property
    def sources(self) -> list[str]:
        """The parts that the releases have and that decide sizes."""
        return [name for name, part in PARTS.items() if part.released]

    def config(self, part: str) -> dict[str, Any]:
        """A part's `config.json`; CheckpointError for one that the releases do not have."""
        released = PARTS[part].released
        if released is None:
            raise CheckpointError(f"the released checkpoints have no {part}; name a checkpoint with --model")
        return {**released, "sample_size": self.sample_size} if part == DENOISER.part.name else dict(released)

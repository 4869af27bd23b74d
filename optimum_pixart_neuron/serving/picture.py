"""One picture to be drawn, as a value: everything that decides its bytes, and nothing else."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import NamedTuple

LARGEST_SEED = 2**63 - 1
"""What `torch.Generator.manual_seed` takes and JSON readers of 64 bits hold."""


class Kind(NamedTuple):
    """What pictures must have in common to be drawn by the same programs at the same time.

    Attributes:
        height, width: in pixels.
        steps: denoising steps.
        guidance_scale: as diffusers' argument.
        guidance_interval: fractions of the schedule between which guidance is computed; None for all of it.
    """

    height: int
    width: int
    steps: int
    guidance_scale: float
    guidance_interval: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Picture:
    """What the pipeline is called with for one picture.

    Attributes:
        negative_prompt: empty for none.
        seed: of the initial noise, from 0 to `LARGEST_SEED`; a picture alone is `torch.Generator().manual_seed(seed)`.
    """

    prompt: str
    negative_prompt: str
    seed: int
    kind: Kind


def series(count: int, *, prompt: str, negative_prompt: str, seed: int, kind: Kind) -> list[Picture]:
    """Several pictures of one prompt; their seeds count up from the first one's."""
    seeds = ((seed + number) % (LARGEST_SEED + 1) for number in range(count))
    return [Picture(prompt=prompt, negative_prompt=negative_prompt, seed=each, kind=kind) for each in seeds]


def seed_of(base: int, row: int) -> int:
    """A seed for a row that names none: of 32 bits, the same in every run, and unlike its neighbours'."""
    return int.from_bytes(hashlib.sha256(f"{base}/{row}".encode()).digest()[:4], "little")

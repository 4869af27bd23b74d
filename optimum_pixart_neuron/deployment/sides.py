"""Which image sizes there are: the checkpoint's aspect ratios, and the sides that an export takes."""

from __future__ import annotations

from dataclasses import dataclass

# `sample_size` of the transformer -> name of its aspect-ratio table in diffusers 0.35 `pipeline_pixart_sigma.py`.
RESOLUTION_BINS = {
    32: "ASPECT_RATIO_256_BIN",
    64: "ASPECT_RATIO_512_BIN",
    128: "ASPECT_RATIO_1024_BIN",
    256: "ASPECT_RATIO_2048_BIN",
}

Size = tuple[int, int]
"""Height and width in pixels."""


def pixels(*sizes: Size, named: bool = True) -> str:
    """Sizes as they are shown, in the order of `--sizes` and of names of programs: `192 x 336 px (height x width)`.

    Args:
        named: whether the order is told where it matters; once in a message is enough.
    """
    shown = f"{', '.join(f'{tall} x {wide}' for tall, wide in sizes)} px"
    return shown if not named or all(tall == wide for tall, wide in sizes) else f"{shown} (height x width)"


def resolution_bins(sample_size: int) -> dict[str, list[float]]:
    """diffusers' table of aspect ratio -> (height, width) in pixels for a checkpoint's `sample_size` (latent cells).

    Requested sizes are mapped to these shapes. Empty for a size that diffusers has no table for.
    """
    if sample_size not in RESOLUTION_BINS:
        return {}
    from diffusers.pipelines.pixart_alpha import pipeline_pixart_sigma

    return getattr(pipeline_pixart_sigma, RESOLUTION_BINS[sample_size])


@dataclass(frozen=True)
class Sides:
    """What the sides of an image may be, in pixels.

    Attributes:
        cell: of one token, of which a side is a multiple.
        smallest: that the checkpoint was trained for.
        largest: likewise.
    """

    cell: int
    smallest: int
    largest: int

    @classmethod
    def of(cls, sample_size: int, *, patch_size: int, scale: int) -> Sides:
        """Of a checkpoint that was trained for a square of `sample_size` cells of `scale` pixels."""
        native = sample_size * scale
        bins = resolution_bins(sample_size).values()
        sides = [int(side) for shape in bins for side in shape] or [native // 2, native * 2]
        return cls(cell=scale * patch_size, smallest=min(sides), largest=max(sides))

    def refusal(self, size: Size) -> str | None:
        """Why an export does not take a size: the flag, its value and the limit; None if it does."""
        named = dict(zip(("height", "width"), size))
        for flag, side in named.items():
            if side < self.cell or side % self.cell:
                return f"--{flag} {side} is not a positive multiple of {self.cell}, the pixels of one token"
        for flag, side in named.items():
            if not self.smallest <= side <= self.largest:
                limits = f"{self.smallest} to {self.largest}"
                return f"--{flag} {side}: the checkpoint was trained for sides of {limits} pixels"
        return None

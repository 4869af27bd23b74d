"""Which of the compiled sizes a request is drawn at."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from diffusers.image_processor import PixArtImageProcessor

from ..errors import ProgramInputError

Size = tuple[int, int]
"""Height and width in pixels."""


@dataclass(frozen=True)
class CompiledSizes:
    """What an export draws.

    Attributes:
        sizes: the first one is drawn where a call names none.
        bins: the checkpoint's aspect ratio -> (height, width), by which diffusers maps other sizes; empty where there
            are none.
    """

    sizes: tuple[Size, ...]
    bins: Mapping[str, list[float]]

    def check(self, height: int, width: int, *, binning: bool) -> Size:
        """The compiled size that a request is drawn at.

        A size that is not compiled needs `use_resolution_binning`. diffusers then draws at the aspect ratio of the
        checkpoint that is nearest, resizes and crops: an export of one size does so where that is its own, an export
        of several at the nearest of its own.

        Raises:
            ProgramInputError: none; names the sizes that are compiled and the flag for another.
        """
        if (height, width) in self.sizes:
            return height, width
        compiled = f"{', '.join(map(_shown, self.sizes))} px"
        if not (binning and self.bins):
            raise ProgramInputError(
                f"{_shown((height, width))} px: compiled for {compiled}; export with {self._flags((height, width))}"
            )
        if len(self.sizes) > 1:
            return self._nearest(height, width)
        made = PixArtImageProcessor.classify_height_width_bin(height, width, ratios=self.bins)
        if made != self.sizes[0]:
            raise ProgramInputError(
                f"{_shown((height, width))} px is made at {_shown(made)} px, compiled is {compiled}; export with"
                f" {self._flags(made)}"
            )
        return made

    def _nearest(self, height: int, width: int) -> Size:
        """By aspect ratio as diffusers measures it; of equal ones the nearest in area."""
        ratio, area = height / width, height * width
        return min(self.sizes, key=lambda size: (abs(size[0] / size[1] - ratio), abs(size[0] * size[1] - area)))

    def _flags(self, wanted: Size) -> str:
        if len(self.sizes) == 1:
            return f"--height {wanted[0]} --width {wanted[1]}"
        return f"--sizes {' '.join(f'{tall}x{wide}' for tall, wide in (*self.sizes, wanted))}"


def drawing_at(size: Size, processor: Any) -> Any:
    """diffusers' image processor, which maps every requested size to this one."""
    own = copy.copy(processor)
    vars(own)["classify_height_width_bin"] = lambda height, width, ratios: size
    return own


def _shown(size: Size) -> str:
    height, width = size
    return f"{width} x {height}"

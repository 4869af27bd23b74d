"""Which of the compiled sizes a request is drawn at."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from diffusers.image_processor import PixArtImageProcessor

from ..deployment.sides import Sides, Size, pixels
from ..errors import ProgramInputError


@dataclass(frozen=True)
class CompiledSizes:
    """What an export draws.

    Attributes:
        sizes: the first one is drawn where a call names none.
        bins: the checkpoint's aspect ratio -> (height, width), by which diffusers maps other sizes; empty where there
            are none.
        sides: that an export of the checkpoint takes.
    """

    sizes: tuple[Size, ...]
    bins: Mapping[str, list[float]]
    sides: Sides

    def check(self, height: int, width: int, *, binning: bool) -> Size:
        """The compiled size that a request is drawn at.

        A size that is not compiled needs `use_resolution_binning`. diffusers then draws at the aspect ratio of the
        checkpoint that is nearest, resizes and crops: an export of one size does so where that is its own, an export
        of several at the nearest of its own.

        Raises:
            ProgramInputError: none; names the compiled sizes, and the flag for another or why no export has it.
        """
        if (height, width) in self.sizes:
            return height, width
        compiled = pixels(*self.sizes, named=False)
        if not (binning and self.bins):
            raise ProgramInputError(
                f"{pixels((height, width))}: compiled for {compiled}; {self.export_with((height, width))}"
            )
        if len(self.sizes) > 1:
            return self._nearest(height, width)
        tall, wide = PixArtImageProcessor.classify_height_width_bin(height, width, ratios=self.bins)
        made = int(tall), int(wide)
        if made != self.sizes[0]:
            raise ProgramInputError(
                f"{pixels((height, width))} is made at {pixels(made, named=False)}, compiled is"
                f" {compiled}; {self.export_with(made)}"
            )
        return made

    def _nearest(self, height: int, width: int) -> Size:
        """By aspect ratio as diffusers measures it; of equal ones the nearest in area."""
        ratio, area = height / width, height * width
        return min(self.sizes, key=lambda size: (abs(size[0] / size[1] - ratio), abs(size[0] * size[1] - area)))

    def export_with(self, wanted: Size) -> str:
        """What to do for another size: which flags give an export that draws a size, or why none does."""
        if refusal := self.sides.refusal(wanted):
            return f"no export draws that: {refusal}"
        if len(self.sizes) == 1:
            return f"export with --height {wanted[0]} --width {wanted[1]}"
        return f"export with --sizes {' '.join(f'{tall}x{wide}' for tall, wide in (*self.sizes, wanted))}"


def drawing_at(size: Size, processor: Any) -> Any:
    """diffusers' image processor, which maps every requested size to this one."""
    own = copy.copy(processor)
    vars(own)["classify_height_width_bin"] = lambda height, width, ratios: size
    return own

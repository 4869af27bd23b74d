"""What a plan is asked for."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ..deployment.decisions import check_side
from ..deployment.options import DeploymentOptions
from ..options import Count, Flag, Options
from .geometry import Geometry

# Bytes of one weight.
ITEMSIZES = {"bfloat16": 2, "float32": 4}


class StepOptions(Options):
    """The length of a run."""

    num_inference_steps: Annotated[Count, Flag(group="Run")] = Field(20, description="Denoising steps of an image.")


class Request(DeploymentOptions, StepOptions):
    """The pictures to make, by the names of the export's options; and the deployments to consider.

    `parallel_mode` and `tensor_parallel_size` are None for all of them.
    """

    @property
    def images(self) -> int:
        """Images of a compiled batch."""
        return self.batch_size * self.num_images_per_prompt

    @property
    def itemsize(self) -> int:
        """Bytes of a weight."""
        return ITEMSIZES[self.torch_dtype]

    def size(self, geometry: Geometry) -> tuple[int, int]:
        """Height and width in pixels."""
        native = geometry.native_side
        return native if self.height is None else self.height, native if self.width is None else self.width

    def tokens(self, geometry: Geometry) -> int:
        """Tokens of an image."""
        height, width = self.size(geometry)
        return height * width // geometry.token_pixels**2

    def check(self, geometry: Geometry) -> None:
        """Refuse a size that no export can have.

        Raises:
            InvalidExportOption: names value, limit and flag.
        """
        for flag, size in zip(("height", "width"), self.size(geometry)):
            check_side(flag, size, geometry.token_pixels)

"""What a plan is asked for."""

from __future__ import annotations

from dataclasses import dataclass

from ..deployment.decisions import check_dtype, check_side
from ..errors import InvalidExportOption
from .geometry import Geometry

# Bytes of one weight.
ITEMSIZES = {"bfloat16": 2, "float32": 4}


@dataclass(frozen=True, kw_only=True)
class Request:
    """The pictures to make. Attributes are named as the flags of the export, which decides by the same names.

    Attributes:
        height: pixels; None: what the checkpoint was trained for.
        width: likewise.
        num_inference_steps: denoising steps; the default is diffusers'.
        no_guidance: whether the transformer runs without the guidance pair and no negative prompt is encoded.
        batch_size: prompts of a compiled batch.
        num_images_per_prompt: images a prompt.
        sequence_length: tokens a prompt.
        torch_dtype: "bfloat16" or "float32".
        exchange: of context mode; None: whichever sends fewer bytes.
        vae_tile_size: pixels; None: whole images up to 1024 pixels.
        parallel_mode: only this mode; None: all of them.
        tensor_parallel_size: only this number of ranks; None: all of them.
    """

    height: int | None = None
    width: int | None = None
    num_inference_steps: int = 20
    no_guidance: bool = False
    batch_size: int = 1
    num_images_per_prompt: int = 1
    sequence_length: int = 300
    torch_dtype: str = "bfloat16"
    exchange: str | None = None
    vae_tile_size: int | None = None
    parallel_mode: str | None = None
    tensor_parallel_size: int | None = None

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
        """Refuse what no export can have.

        Raises:
            InvalidExportOption: names value, limit and flag.
        """
        for flag in ("num_inference_steps", "batch_size", "num_images_per_prompt", "sequence_length"):
            if getattr(self, flag) < 1:
                raise InvalidExportOption(f"--{flag} {getattr(self, flag)} is below 1")
        check_dtype(self.torch_dtype)
        if self.torch_dtype not in ITEMSIZES:
            raise InvalidExportOption(f"--torch_dtype {self.torch_dtype}: choose {' or '.join(ITEMSIZES)}")
        for flag, size in zip(("height", "width"), self.size(geometry)):
            check_side(flag, size, geometry.token_pixels)

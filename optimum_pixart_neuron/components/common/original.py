"""A component as diffusers or transformers has it, unmodified, with streamed weights, and what it is run on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from transformers.integrations.accelerate import init_empty_weights

from ...cpu.products import FasterBfloat16
from .streaming import stream_weights

if TYPE_CHECKING:
    from ...checkpoint.weights import ComponentWeights


@dataclass(frozen=True, kw_only=True)
class Original:
    """One component before compilation.

    Attributes:
        build: makes the module from its `config.json`.
        call: runs the module on the inputs of `samples`, by name; returns (rows, ...).
        samples: makes inputs of the comparison by name: those of the program in call order, and what only the original
            takes. Each (rows, ...), with rows a multiple of `Samples.batch` and all rows different.
        counted: which of them, (rows, n), says what entries along the second dimension of the output matter; None
            where all do.
        rows: of the inputs that one call takes; each call reads all weights once.
        uncast: inputs that keep their dtype where the module computes in another than float32.
    """

    build: Callable[[dict], nn.Module]
    call: Callable[..., Tensor]
    samples: Callable[[Samples], dict[str, Tensor]]
    counted: str | None = None
    rows: int = 1
    uncast: tuple[str, ...] = ()

    def run(
        self,
        config: dict,
        weights: ComponentWeights,
        inputs: Mapping[str, Tensor],
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """The original's output (rows, ...) float32, computed in `dtype` as diffusers does it.

        Raises:
            CheckpointError: a weight is missing or has another shape.
        """
        with init_empty_weights():
            model = self.build(config).to(dtype)
        model = stream_weights(model, weights)
        chunks = zip(*(self._cast(name, tensor, dtype).split(self.rows) for name, tensor in inputs.items()))
        with torch.no_grad(), FasterBfloat16() if dtype == torch.bfloat16 else nullcontext():
            return torch.cat([self.call(model, **dict(zip(inputs, chunk))).float() for chunk in chunks])

    def _cast(self, name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
        return tensor.to(dtype) if tensor.is_floating_point() and name not in self.uncast else tensor


@dataclass(frozen=True, kw_only=True)
class Samples:
    """What the inputs of one comparison are made for.

    Attributes:
        folder: of the export, with the parts that were copied.
        batch: rows of one run of the program, both halves of a guidance pair counted.
        sizes: that the program is compiled for, by axis.
        config: the component's `config.json` in the export.
        inputs: of the components compared before this one, by component.
        outputs: of their originals, (rows, ...) float32.
    """

    folder: Path
    batch: int
    sizes: Mapping[str, int]
    config: dict
    inputs: Mapping[str, Mapping[str, Tensor]]
    outputs: Mapping[str, Tensor]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of the latents or images that the program takes."""
        return self.sizes["num_channels"], self.sizes["height"], self.sizes["width"]

    def whole_runs(self, rows: int) -> int:
        """`rows` rounded up to whole runs of the program."""
        return math.ceil(rows / self.batch) * self.batch


def smooth(rows: int, shape: tuple[int, int, int], generator: Generator) -> Tensor:
    """Values of about unit variance that change slowly over the image, as latents of pictures do, and a grain."""
    channels, height, width = shape
    coarse = torch.randn(rows, channels, math.ceil(height / 8), math.ceil(width / 8), generator=generator)
    grain = torch.randn(rows, *shape, generator=generator)
    return F.interpolate(coarse, size=(height, width), mode="bicubic") + 0.3 * grain

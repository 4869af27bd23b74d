"""What adapters make of a weight. Computed in float32, one weight at a time, as peft's `merge` does it in the weight's
own type (0.21, `tuners/lora/layer.py` and `dora.py`): equal to that but for one rounding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LowRankChange:
    """What one adapter has for one weight, read.

    Attributes:
        down: (rank, in) or (rank, in, height, width).
        up: (out, rank) or (out, rank, 1, 1).
        scale: of the product, by the adapter and by its user.
        magnitude: DoRA's: one number for each row, (out,), (out, 1) or of a convolution (1, out, 1, 1), or for each
            column, (1, in); None without.
    """

    down: Tensor
    up: Tensor
    scale: float
    magnitude: Tensor | None = None


def merged(weight: Tensor, changes: Sequence[LowRankChange]) -> Tensor:
    """The weight with the changes made one after the other, in float32; the weight given is left as it is.

    Args:
        weight: (out, in) or (out, in, height, width), of any floating dtype.
    """
    result = weight.float()
    for change in changes:
        up, down = change.up.float().flatten(1), change.down.float().flatten(1)
        result = torch.addmm(result.flatten(1), up, down, alpha=change.scale).view(result.shape)
        if change.magnitude is not None:
            result = _with_norms(result, change.magnitude.float())
    return result


def _with_norms(weight: Tensor, norms: Tensor) -> Tensor:
    """The weight with its rows, or columns, stretched to these norms (arXiv 2402.09353, equation 5)."""
    if norms.dim() == 1 or weight.dim() == 4:
        norms = norms.reshape(-1, *[1] * (weight.dim() - 1))
    over = [dim for dim, size in enumerate(norms.shape) if size == 1]
    return weight * (norms / torch.linalg.vector_norm(weight, dim=over, keepdim=True))

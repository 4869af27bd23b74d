"""How far a result is from its original, how far it may be, and the verdict.

The yardstick is the original itself in bfloat16 on the same inputs: what rounding does to a checkpoint depends on its
depth and weights, so no fixed number is right for all of them. Errors in parts of the yardstick's, with random
checkpoints of 2 to 28 blocks, every parallel mode, 1 to 8 ranks on the emulator:

    compiled in bfloat16           0.9 to 1.3 the largest, 1.0 to 1.1 RMS
    compiled in float32            0.0006 at most
    a wrong mask, shard, row or timestep, in either precision (`tests/validation`)
                                   6 at least the largest, 9 RMS
"""

from dataclasses import dataclass

import torch
from torch import Tensor

ALLOWED = {"bfloat16": 3.0, "float32": 0.01}
"""Largest error of a compiled component by the precision of its matrix products, in parts of the yardstick's."""

LEAST_COSINE = 0.9
"""Whatever the yardstick says: a checkpoint that bfloat16 spoils as much is of no use in it."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Of two results, in the worst of their rows; NaN where one of them is not finite.

    Attributes:
        error: largest absolute difference.
        distance: one minus the cosine of a row with its original; about half the square of the relative RMS error.
        psnr: in dB, of the original's range over all rows.
    """

    error: float
    distance: float
    psnr: float

    @classmethod
    def between(cls, result: Tensor, original: Tensor, counted: Tensor | None = None) -> "Difference":
        """Compare (rows, ...) with (rows, ...).

        Args:
            counted: (rows, n) selects along the second dimension what counts; None for all.
        """
        pairs = [_row(result, original, counted, row) for row in range(len(original))]
        wholes = torch.cat([reference for _, reference in pairs])
        errors = torch.stack([(row - reference).abs().max() for row, reference in pairs])
        squares = torch.stack([(row - reference).square().mean() for row, reference in pairs])
        distances = torch.stack([_distance(row, reference) for row, reference in pairs])
        peak = (wholes.max() - wholes.min()).square()
        return cls(
            error=errors.max().item(),
            distance=distances.max().item(),
            psnr=(10 * torch.log10(peak / squares.max())).item(),
        )


def _row(result: Tensor, original: Tensor, counted: Tensor | None, row: int) -> tuple[Tensor, Tensor]:
    chosen = slice(None) if counted is None else counted[row].bool()
    return result[row][chosen].double().flatten(), original[row][chosen].double().flatten()


def _distance(row: Tensor, reference: Tensor) -> Tensor:
    """One minus the cosine, from the difference of the unit vectors: exact where the cosine rounds to one."""
    return (row / row.norm() - reference / reference.norm()).square().sum() / 2


@dataclass(frozen=True, kw_only=True)
class Limit:
    """What may differ.

    Attributes:
        error: largest absolute difference.
        distance: one minus the cosine; None for any.
        words: both, and why.
    """

    error: float
    distance: float | None
    words: str

    def holds(self, found: Difference) -> bool:
        """Whether a difference keeps it; one that is no number does not."""
        return found.error <= self.error and (self.distance is None or found.distance <= self.distance)


def limit_of(precision: str, yardstick: Difference | None, atol: float | None) -> Limit:
    """What may differ of a component.

    Args:
        precision: a key of `ALLOWED`.
        yardstick: the original in bfloat16 against the original in float32; not needed with `atol`.
        atol: the user's limit of the largest error, in place of every other, as in optimum-neuron.
    """
    if atol is not None:
        return Limit(error=atol, distance=None, words=f"max error {atol:g}, as given")
    assert yardstick is not None
    share = ALLOWED[precision]
    error = share * yardstick.error
    distance = min(share**2 * yardstick.distance, 1 - LEAST_COSINE)
    words = f"max error {error:.2g}, cosine {near_one(1 - distance)}: {share:g} x the original in bfloat16"
    return Limit(error=error, distance=distance, words=words)


def near_one(cosine: float) -> str:
    """A cosine with the digits that tell it from one."""
    if cosine == 1:
        return "1"
    return f"1 - {1 - cosine:.0e}" if 1 - cosine < 1e-3 else f"{cosine:.4f}"

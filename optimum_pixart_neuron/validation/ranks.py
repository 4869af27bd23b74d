"""The outputs of all ranks of a program, compared bit for bit: pictures are made of rank 0's alone.

The programs of this package end in a gather or in a reduction, so that every rank returns the same; a rank that does
not has other weights, runs another program, or computes wrongly (a compiler's fault, a core's).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..components.component import Component


class RankComparison:
    """Runs a loaded program on all ranks and remembers where they first disagreed.

    Args:
        program: as `torch.jit.load` returned it, initialised. NxD's `NxDModel.forward_ranked` (0.15 `trace/spmd.py`)
            takes a list of inputs for each rank and returns a list of outputs for each.
        ranks: that run it together.

    Attributes:
        disagreement: which output of which rank differs from rank 0's, and by how much; None while none did.
    """

    def __init__(self, program: Any, component: Component, ranks: int) -> None:
        self._ranked = getattr(getattr(program, "nxd_model", None), "forward_ranked", None) if ranks > 1 else None
        self._program, self._component, self._ranks = program, component, ranks
        self.disagreement: str | None = None

    def __call__(self, *tensors: Tensor) -> Any:
        """Run it; returns what the program does, or rank 0's outputs in the order of the program."""
        if self._ranked is None:
            return self._program(*tensors)
        outputs = [[output.cpu() for output in rank] for rank in self._ranked([list(tensors)] * self._ranks)]
        self.disagreement = self.disagreement or difference_of_ranks(self._component, outputs)
        return outputs[0]


def difference_of_ranks(component: Component, outputs: Sequence[Sequence[Tensor]]) -> str | None:
    """Where the outputs of ranks differ in a single bit, in words; None where they do not.

    Args:
        outputs: of every rank, in the order of `component.outputs`. Those in `component.rank_outputs`, which are not
            promised to be equal, are left out.
    """
    for index, name in enumerate(component.outputs):
        if name in component.rank_outputs:
            continue
        first = outputs[0][index]
        for rank, own in enumerate(outputs[1:], start=1):
            other = own[index]
            if _bits(first) == _bits(other):
                continue
            if other.shape != first.shape:
                return f"{name} of rank {rank} has shape {tuple(other.shape)}, of rank 0 {tuple(first.shape)}"
            apart = first.double().sub(other.double()).abs()
            count = int((apart != 0).sum())
            return (
                f"{name} of rank {rank} differs from rank 0's in {count} of {first.numel()} values, by"
                f" {apart.nan_to_num(torch.inf).max():.2g} at most"
            )
    return None


def _bits(tensor: Tensor) -> bytes:
    return tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes()

"""How one component is split over ranks: what it does to the module, and where each weight then lives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .sharding import ShardingPlan

if TYPE_CHECKING:  # modes are decided on without torch
    import torch
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Split(ABC):
    """One way to run a component on several ranks; here, all ranks work together and have copies of all weights.

    Attributes:
        ranks: W.
        exchange: how sequence ranks see each other's tokens, a name of `exchange.EXCHANGES`; None where none has to.
    """

    ranks: int
    exchange: str | None = None

    @abstractmethod
    def apply(self, model: Any, dtype: torch.dtype) -> None:
        """Make `model` the program of one rank, in place; `dtype` is that of the weights and reductions."""

    def divided_dims(self, parameter_names: list[str]) -> dict[str, int | None]:
        """The divided dimension of each of the unsplit module's parameters; None for a copy on every rank."""
        return dict.fromkeys(parameter_names)

    def added_weights(self) -> dict[str, Tensor]:
        """Whole weights that the split adds to the module, divided over dim 0."""
        return {}

    @property
    def groups(self) -> list[list[int]]:
        """The ranks that exchange with each other."""
        return [list(range(self.ranks))]

    def describe(self) -> dict:
        """The split for the artifact's `config.json`."""
        return {"groups": self.groups, "exchange": self.exchange}


@dataclass(frozen=True, kw_only=True)
class TensorSplit(Split):
    """Weights are divided, by a plan."""

    plan: ShardingPlan

    def apply(self, model: Any, dtype: torch.dtype) -> None:
        from .apply import apply_plan

        apply_plan(self.plan, model, tensor_parallel_size=self.ranks, dtype=dtype)

    def divided_dims(self, parameter_names: list[str]) -> dict[str, int | None]:
        return {name: placement.dim for name, placement in self.plan.placements(parameter_names).items()}


GROUP_NUMBER = 0
"""Entry of a rank's numbers: its group of the guidance pair."""
SLICE_NUMBERS = {2: 1, 1: 2}
"""Guidance groups -> entry of a rank's numbers: its slice of the tokens."""
NUMBERS = 3
"""Of each rank."""


@dataclass(frozen=True, kw_only=True)
class ContextSplit(Split):
    """Rows of the guidance pair and tokens of the image are divided, weights are copied.

    For modules with a method `divide_context`, which takes this and does it in place.

    Rank r of W belongs to guidance group r // w and owns slice r % w of the image tokens, w = W / groups: the ranks of
    one exchange group are adjacent cores. All ranks run one program, so what a rank is stands in a weight (NxD's
    `SPMDRank`), a number for each use; arithmetic on a single rank would lower to floating point. The weight is the
    same for programs with the guidance pair and without, which share their weights.

    Attributes:
        guidance_groups: 2 for a program that takes the guidance pair, 1 without guidance.
    """

    guidance_groups: int

    @property
    def sequence_ranks(self) -> int:
        """w, the ranks that share the tokens of a row."""
        return self.ranks // self.guidance_groups

    def apply(self, model: Any, dtype: torch.dtype) -> None:
        model.divide_context(self)

    def added_weights(self) -> dict[str, Tensor]:
        """The checkpoint's side of the rank numbers: (W * NUMBERS,) int32, those of rank 0 first."""
        import torch

        everyone, half = torch.arange(self.ranks, dtype=torch.int32), max(self.ranks // 2, 1)
        return {"rank_numbers.rank": torch.stack([everyone // half, everyone % half, everyone], dim=1).flatten()}

    @property
    def groups(self) -> list[list[int]]:
        """Contiguous ranks, one list a guidance group."""
        starts = range(0, self.ranks, self.sequence_ranks)
        return [list(range(start, start + self.sequence_ranks)) for start in starts]


@dataclass(frozen=True, kw_only=True)
class RowSplit(Split):
    """Rows of a picture are divided, weights are copied.

    For modules with a method `divide_rows(ranks)`, which does it in place and has a rank weight `band_rank`.
    """

    def apply(self, model: Any, dtype: torch.dtype) -> None:
        model.divide_rows(ranks=self.ranks)

    def added_weights(self) -> dict[str, Tensor]:
        import torch

        return {"band_rank.rank": torch.arange(self.ranks, dtype=torch.int32)}

"""How one component is split over ranks: what it does to the module, and where each weight then lives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from .sharding import ShardingPlan

if TYPE_CHECKING:  # modes are decided on without torch
    import torch
    from torch import Tensor, nn


class Split(Protocol):
    """One way to run a component on several ranks."""

    @property
    def ranks(self) -> int:
        """W."""

    def apply(self, model: nn.Module, dtype: torch.dtype) -> None:
        """Make `model` the program of one rank, in place; `dtype` is that of the weights and reductions."""

    def divided_dims(self, parameter_names: list[str]) -> dict[str, int | None]:
        """The divided dimension of each of the unsplit module's parameters; None for a copy on every rank."""

    def added_weights(self) -> dict[str, Tensor]:
        """Whole weights that the split adds to the module, divided over dim 0."""

    def describe(self) -> dict:
        """The split for the artifact's `config.json`."""


@dataclass(frozen=True, kw_only=True)
class TensorSplit:
    """Weights are divided, by a plan."""

    plan: ShardingPlan
    ranks: int

    def apply(self, model: nn.Module, dtype: torch.dtype) -> None:
        from .apply import apply_plan

        apply_plan(self.plan, model, tensor_parallel_size=self.ranks, dtype=dtype)

    def divided_dims(self, parameter_names: list[str]) -> dict[str, int | None]:
        return {name: placement.dim for name, placement in self.plan.placements(parameter_names).items()}

    def added_weights(self) -> dict[str, Tensor]:
        return {}

    def describe(self) -> dict:
        return {"groups": [list(range(self.ranks))], "exchange": None}


@dataclass(frozen=True, kw_only=True)
class ContextSplit:
    """Rows of the guidance pair and tokens of the image are divided, weights are copied.

    For modules with a method `divide_context(ranks, guidance_groups, exchange)`, which does it in place.

    Rank r of W belongs to guidance group r // w and owns slice r % w of the image tokens, w = W / groups: the ranks of
    one exchange group are adjacent cores. All ranks run one program, so what a rank is stands in a weight (NxD's
    `SPMDRank`), a number for each use; arithmetic on a single rank would lower to floating point. The weight is the
    same for programs with the guidance pair and without, which share their weights.

    Attributes:
        guidance_groups: 2 for a program that takes the guidance pair, 1 without guidance.
        exchange: how sequence ranks see each other's tokens, a name of `exchange.EXCHANGES`.
    """

    ranks: int
    guidance_groups: int
    exchange: str

    def apply(self, model: Any, dtype: torch.dtype) -> None:
        model.divide_context(ranks=self.ranks, guidance_groups=self.guidance_groups, exchange=self.exchange)

    def divided_dims(self, parameter_names: list[str]) -> dict[str, int | None]:
        return dict.fromkeys(parameter_names)

    def added_weights(self) -> dict[str, Tensor]:
        return rank_weights(self.ranks)

    def describe(self) -> dict:
        return {"groups": exchange_groups(self.ranks, self.guidance_groups), "exchange": self.exchange}


@dataclass(frozen=True, kw_only=True)
class RowSplit:
    """Rows of a picture are divided, weights are copied.

    For modules with a method `divide_rows(ranks)`, which does it in place and has a rank weight `band_rank`.
    """

    ranks: int

    def apply(self, model: Any, dtype: torch.dtype) -> None:
        model.divide_rows(ranks=self.ranks)

    def divided_dims(self, parameter_names: list[str]) -> dict[str, int | None]:
        return dict.fromkeys(parameter_names)

    def added_weights(self) -> dict[str, Tensor]:
        import torch

        return {"band_rank.rank": torch.arange(self.ranks, dtype=torch.int32)}

    def describe(self) -> dict:
        return {"groups": [list(range(self.ranks))], "exchange": None}


GROUP_NUMBER = 0
"""Entry of a rank's numbers: its group of the guidance pair."""
SLICE_NUMBERS = {2: 1, 1: 2}
"""Guidance groups -> entry of a rank's numbers: its slice of the tokens."""
NUMBERS = 3
"""Of each rank."""


def rank_weights(ranks: int) -> dict[str, Tensor]:
    """The checkpoint's side of the rank numbers: (W * NUMBERS,) int32, those of rank 0 first."""
    import torch

    everyone = torch.arange(ranks, dtype=torch.int32)
    half = max(ranks // 2, 1)
    return {"rank_numbers.rank": torch.stack([everyone // half, everyone % half, everyone], dim=1).flatten()}


def exchange_groups(ranks: int, guidance_groups: int) -> list[list[int]]:
    """The replica groups of the sequence exchange: contiguous ranks, one list a guidance group."""
    size = ranks // guidance_groups
    return [list(range(start, start + size)) for start in range(0, ranks, size)]

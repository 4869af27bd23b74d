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
    one exchange group are adjacent cores. All ranks run one program, so the rank is a weight (NxD's `SPMDRank`), one
    tensor for each of the two indices; arithmetic on a single rank would lower to floating point.

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
        return rank_weights(self.ranks, self.guidance_groups)

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


def rank_weights(ranks: int, guidance_groups: int) -> dict[str, Tensor]:
    """The checkpoint's side of the rank tensors: (W,) int32 each, one entry a rank.

    Only those that the program reads: a weight that no operation uses is no parameter of a compiled program.
    """
    import torch

    sequence_ranks = ranks // guidance_groups
    everyone = torch.arange(ranks, dtype=torch.int32)
    weights = {}
    if guidance_groups > 1:
        weights["guidance_rank.rank"] = everyone // sequence_ranks
    if sequence_ranks > 1:
        weights["sequence_rank.rank"] = everyone % sequence_ranks
    return weights


def exchange_groups(ranks: int, guidance_groups: int) -> list[list[int]]:
    """The replica groups of the sequence exchange: contiguous ranks, one list a guidance group."""
    size = ranks // guidance_groups
    return [list(range(start, start + size)) for start in range(0, ranks, size)]

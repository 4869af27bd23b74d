"""How one component is split over ranks: what it does to the module, and where each weight then lives."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from ..components.transformer.context import exchange_groups, rank_weights, split_by_context
from .apply import apply_plan
from .sharding import ShardingPlan


class Split(Protocol):
    """One way to run a component on several ranks.

    Attributes:
        mode: its `--parallel_mode`.
        ranks: W.
    """

    mode: str
    ranks: int

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
    mode: str = "tensor"

    def apply(self, model: nn.Module, dtype: torch.dtype) -> None:
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

    Attributes:
        guidance_groups: 2 for a program that takes the guidance pair, 1 without guidance.
        exchange: how sequence ranks see each other's tokens, a name of `exchange.EXCHANGES`.
    """

    ranks: int
    guidance_groups: int
    exchange: str
    mode: str = "context"

    def apply(self, model: nn.Module, dtype: torch.dtype) -> None:
        split_by_context(model, ranks=self.ranks, guidance_groups=self.guidance_groups, exchange=self.exchange)

    def divided_dims(self, parameter_names: list[str]) -> dict[str, int | None]:
        return dict.fromkeys(parameter_names)

    def added_weights(self) -> dict[str, Tensor]:
        return rank_weights(self.ranks, self.guidance_groups)

    def describe(self) -> dict:
        return {"groups": exchange_groups(self.ranks, self.guidance_groups), "exchange": self.exchange}

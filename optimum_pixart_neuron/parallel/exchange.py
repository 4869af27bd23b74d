"""How sequence ranks see each other's tokens in self-attention.

Each of w ranks owns S/w tokens of an image. Shapes: B batch, S tokens of the image, C channels, H heads, D head width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:  # a plan compares exchanges without torch
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class SequenceExchange(ABC):
    """One way to exchange; `name` is its word on the command line.

    Attributes:
        ranks: w, the size of a group.
        group: the process group of this rank, with the mesh of all groups in `_mesh`.
    """

    name: ClassVar[str]
    ranks: int
    group: Any = None

    @abstractmethod
    def bytes_sent(self, tokens: int, width: int) -> float:
        """Bytes one rank sends for one image and attention, in units of one element; ring algorithm."""

    @abstractmethod
    def attended(self, tokens: int, heads: int) -> tuple[int, int, int]:
        """Query tokens, key tokens and heads that the attention of one rank then has."""

    @abstractmethod
    def spread(self, query: Tensor, key: Tensor, value: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor, int]:
        """Own tokens, (B, S/w, C) each -> queries, keys and values to attend over, and the heads in them."""

    @abstractmethod
    def collect(self, attended: Tensor) -> Tensor:
        """The attention's output -> own tokens (B, S/w, C)."""


class _KeyValueGather(SequenceExchange):
    """Every rank gathers all keys and values, for its own queries; one collective, any number of heads."""

    name = "gather"

    def bytes_sent(self, tokens: int, width: int) -> float:
        return (self.ranks - 1) * 2 * tokens / self.ranks * width

    def attended(self, tokens: int, heads: int) -> tuple[int, int, int]:
        return tokens // self.ranks, tokens, heads

    def spread(self, query: Tensor, key: Tensor, value: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor, int]:
        """(B, S/w, C) each -> the same queries, (B, S, C) keys and values, all heads."""
        import torch
        from neuronx_distributed.parallel_layers.mappings import gather_from_tensor_model_parallel_region_with_dim

        both = torch.cat([key, value], dim=-1)
        gathered = gather_from_tensor_model_parallel_region_with_dim(both, 1, process_group=self.group)
        key, value = gathered.chunk(2, dim=-1)
        return query, key, value, heads

    def collect(self, attended: Tensor) -> Tensor:
        return attended


class HeadAllToAll(SequenceExchange):
    """Ulysses (arXiv:2309.14509): ranks trade their tokens of all heads for all tokens of their heads, and back.

    Two collectives; needs a number of heads that w divides.
    """

    name = "all-to-all"

    def bytes_sent(self, tokens: int, width: int) -> float:
        return 4 * tokens / self.ranks * width * (self.ranks - 1) / self.ranks

    def attended(self, tokens: int, heads: int) -> tuple[int, int, int]:
        return tokens, tokens, heads // self.ranks

    def spread(self, query: Tensor, key: Tensor, value: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor, int]:
        """(B, S/w, C) each -> (B, S, C/w) each, the heads of this rank."""
        import torch

        stacked = torch.stack([query, key, value], dim=2).unflatten(-1, (heads, -1))  # (B, S/w, 3, H, D)
        query, key, value = self._all_to_all(stacked, split_dim=3, concat_dim=1).flatten(3).unbind(dim=2)
        return query, key, value, heads // self.ranks

    def collect(self, attended: Tensor) -> Tensor:
        """(B, S, C/w) -> (B, S/w, C)."""
        return self._all_to_all(attended, split_dim=1, concat_dim=2)

    def _all_to_all(self, tensor: Tensor, *, split_dim: int, concat_dim: int) -> Tensor:
        import torch_xla.core.xla_model as xm

        # With XLA's default pinned layout every rank would write slot 0 of an SPMD program.
        groups = self.group._mesh
        return xm.all_to_all(tensor, split_dim, concat_dim, self.ranks, groups=groups, pin_layout=False)


EXCHANGES = {exchange.name: exchange for exchange in (_KeyValueGather, HeadAllToAll)}


def choose_exchange(*, tokens: int, heads: int, head_width: int, ranks: int) -> str:
    """The name of the exchange that sends fewer bytes; the gather, with fewer collectives, if they are equal."""
    gather, trade = (kind(ranks=ranks).bytes_sent(tokens, heads * head_width) for kind in EXCHANGES.values())
    return _KeyValueGather.name if heads % ranks or gather <= trade else HeadAllToAll.name

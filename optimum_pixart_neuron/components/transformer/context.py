"""Split the transformer by guidance and sequence: rows of the guidance pair over groups, image tokens inside a group.

Which rank owns what says `parallel.split.ContextSplit`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ...parallel.exchange import EXCHANGES
from ...parallel.split import GROUP_NUMBER, NUMBERS, SLICE_NUMBERS, ContextSplit

if TYPE_CHECKING:
    from .graph import PixArtTransformer


def split_by_context(model: PixArtTransformer, split: ContextSplit) -> None:
    """Make `model` the program of one rank of a split, in place.

    Rows are picked as they come in, tokens after the patch embedding; cross-attention, feed-forward, norms and
    modulation then need no other rank. The last projection is gathered, so every rank returns the whole prediction.
    Called inside NxD's parallel state, whose tensor-parallel group is all ranks.
    """
    guidance_groups, sequence_ranks = split.guidance_groups, split.sequence_ranks
    model.rank_numbers = _rank_numbers(split.ranks)

    def number(entry: int) -> Tensor:
        return model.rank_numbers.get_rank()[entry : entry + 1]

    if guidance_groups > 1:

        def pick_rows(module: PixArtTransformer, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return tuple(_own_part(tensor, 0, guidance_groups, number(GROUP_NUMBER)) for tensor in inputs)

        model.register_forward_pre_hook(pick_rows)

    if sequence_ranks > 1:
        assert split.exchange is not None  # see `ContextParallel.settled`

        def pick_tokens(module: nn.Module, inputs: tuple[Tensor, ...], tokens: Tensor) -> Tensor:
            return _own_part(tokens, 1, sequence_ranks, number(SLICE_NUMBERS[guidance_groups]))

        model.pos_embed.register_forward_hook(pick_tokens)
        group = _exchange_group(split.groups)
        for block in model.transformer_blocks:
            block.attn1.processor.exchange = EXCHANGES[split.exchange](ranks=sequence_ranks, group=group)

    def gather_all(module: nn.Module, inputs: tuple[Tensor, ...], prediction: Tensor) -> Tensor:
        return _gather(prediction, guidance_groups, sequence_ranks)

    model.proj_out.register_forward_hook(gather_all)


def _rank_numbers(ranks: int) -> nn.Module:
    """What this rank is, as the weight that `ContextSplit.added_weights` holds the values of."""
    from neuronx_distributed.parallel_layers.layers import SPMDRank
    from neuronx_distributed.parallel_layers.utils import set_tensor_model_parallel_attributes

    numbers = SPMDRank(ranks)
    numbers.rank = nn.Parameter(torch.zeros(NUMBERS, dtype=torch.int32), requires_grad=False)
    set_tensor_model_parallel_attributes(numbers.rank, True, 0, 1, num_partitions=ranks)
    return numbers


def _own_part(tensor: Tensor, dim: int, parts: int, rank: Tensor) -> Tensor:
    """This rank's of `parts` equal parts of `dim`: one index, so one gather of a contiguous slice."""
    return tensor.unflatten(dim, (parts, -1)).index_select(dim, rank).squeeze(dim)


def _gather(prediction: Tensor, guidance_groups: int, sequence_ranks: int) -> Tensor:
    """(n, S/w, c) of every rank -> (groups * n, S, c), rows and tokens in their order."""
    from neuronx_distributed.parallel_layers.mappings import gather_from_tensor_model_parallel_region_with_dim

    gathered = gather_from_tensor_model_parallel_region_with_dim(prediction.unsqueeze(0), 0)
    by_group = gathered.unflatten(0, (guidance_groups, sequence_ranks)).transpose(1, 2)  # (g, n, w, S/w, c)
    return by_group.flatten(2, 3).flatten(0, 1)


def _exchange_group(mesh: list[list[int]]):
    """A process group whose replica groups are `mesh`.

    Called by attribute and positionally: NxD's mock of `torch.distributed` replaces the attribute and takes only
    these two arguments (NxD 0.15 and 0.18 `trace/mock_torchdist.py`).
    """
    return torch.distributed.new_group(mesh[0], {"xla_pg_options": {"mesh": mesh}})

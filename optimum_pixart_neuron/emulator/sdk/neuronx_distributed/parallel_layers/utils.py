"""Arithmetic, parameter marks and the state of a program that set none up (NxD 0.15 `parallel_layers/utils.py`)."""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed

from . import parallel_state

_MARK_DEFAULTS = {"tensor_model_parallel": False, "partition_dim": -1, "partition_stride": 1, "num_partitions": 1}


def divide(numerator: int, denominator: int) -> int:
    """The exact quotient; AssertionError with both numbers when there is a remainder."""
    assert numerator % denominator == 0, f"{numerator} is not divisible by {denominator}"
    return numerator // denominator


def get_padding_length(numerator: int, denominator: int) -> int:
    """What has to be added to `numerator` to make it a multiple of `denominator`."""
    return -numerator % denominator


class EmbeddingUtility:
    """The half-open range of vocabulary indices that one rank holds."""

    @staticmethod
    def range_from_per_partition_vocab_size(
        per_partition_vocab_size: int, rank: int, world_size: int
    ) -> tuple[int, int]:
        return rank * per_partition_vocab_size, (rank + 1) * per_partition_vocab_size

    @staticmethod
    def range_from_global_vocab_size(global_vocab_size: int, rank: int, world_size: int) -> tuple[int, int]:
        size = divide(global_vocab_size, world_size)
        return EmbeddingUtility.range_from_per_partition_vocab_size(size, rank, world_size)


def set_tensor_model_parallel_attributes(
    tensor: Any,
    is_parallel: bool,
    dim: int,
    stride: int,
    num_partitions: int = -1,
    rank_ordering: list[int] | None = None,
) -> None:
    """Mark a parameter for the sharder, with attributes that its type does not have.

    AssertionError when it is marked already; ValueError when `rank_ordering` misses a rank of the TP group.
    """
    for name in _MARK_DEFAULTS:
        assert not hasattr(tensor, name), f"the tensor is marked already: it has {name}"
    if num_partitions == -1:
        num_partitions = parallel_state.get_tensor_model_parallel_size()
        warnings.warn(f"num_partitions is not given: taking the tensor-parallel size {num_partitions}", stacklevel=2)
    if rank_ordering is not None:
        missing = set(range(parallel_state.get_tensor_model_parallel_size())) - set(rank_ordering)
        if missing:
            raise ValueError(f"rank_ordering {rank_ordering} misses the ranks {sorted(missing)}")
    tensor.tensor_model_parallel = is_parallel
    tensor.partition_dim = dim
    tensor.partition_stride = stride
    tensor.num_partitions = num_partitions
    tensor.rank_ordering = rank_ordering


def set_defaults_if_not_set_tensor_model_parallel_attributes(tensor: torch.Tensor) -> None:
    """Give an unmarked parameter the marks of a replicated one."""
    for name, default in _MARK_DEFAULTS.items():
        if not hasattr(tensor, name):
            setattr(tensor, name, default)


def copy_tensor_model_parallel_attributes(destination_tensor: torch.Tensor, source_tensor: torch.Tensor) -> None:
    """Copy the marks a parameter has; `rank_ordering` is not among them."""
    for name in _MARK_DEFAULTS:
        if hasattr(source_tensor, name):
            setattr(destination_tensor, name, getattr(source_tensor, name))


def param_is_not_tensor_parallel_duplicate(param: torch.Tensor) -> bool:
    """True for a sharded parameter, and for a replicated one on tensor-parallel rank 0."""
    sharded = getattr(param, "tensor_model_parallel", False)
    return bool(sharded) or parallel_state.get_tensor_model_parallel_rank() == 0


def split_tensor_along_dim(
    tensor: torch.Tensor, dim: int, num_partitions: int, contiguous_split_chunks: bool = False
) -> Sequence[torch.Tensor]:
    """Equal chunks along `dim`; AssertionError when they do not come out equal."""
    chunks = torch.split(tensor, divide(tensor.size(dim), num_partitions), dim=dim)
    return tuple(chunk.contiguous() for chunk in chunks) if contiguous_split_chunks else list(chunks)


def split_tensor_along_last_dim(
    tensor: torch.Tensor, num_partitions: int, contiguous_split_chunks: bool = False
) -> Sequence[torch.Tensor]:
    return split_tensor_along_dim(tensor, tensor.dim() - 1, num_partitions, contiguous_split_chunks)


def split_tensor_along_second_dim(
    tensor: torch.Tensor, num_partitions: int, contiguous_split_chunks: bool = False
) -> Sequence[torch.Tensor]:
    return split_tensor_along_dim(tensor, 1, num_partitions, contiguous_split_chunks)


def indices_split_along_dim(
    tensor: torch.Tensor | None, dim: int, rank: int, num_partitions: int
) -> torch.Tensor | None:
    """Indices of `rank`'s slice of `dim`; `rank` may be a tensor, which keeps it out of the program's constants."""
    if tensor is None:
        return None
    size = divide(tensor.size(dim), num_partitions)
    return torch.arange(size, device=tensor.device) + rank * size


def initialize_fallback_parallel_state(device: torch.device | None = None) -> None:
    """The state of a world of one, for parallel layers built outside any.

    NxD opens a real gloo group of size 1 here; the emulator needs none. Like there, it is a ValueError when
    torch.distributed is up already, because a process joins one default group only.
    """
    from ..trace.mock_torchdist import MockDistributed, mock_distributed

    if torch.distributed.is_initialized() and not isinstance(torch.distributed, MockDistributed):
        raise ValueError("torch.distributed is initialized, model parallel is not: call initialize_model_parallel")
    with mock_distributed(world_size=1):
        torch.distributed.init_process_group("xla", rank=0, world_size=1)
        parallel_state.initialize_model_parallel(skip_collective_init=True)

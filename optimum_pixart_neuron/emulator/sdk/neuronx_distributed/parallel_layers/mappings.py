"""Moving a tensor between whole and split over a group (NxD 0.15 `parallel_layers/mappings.py`), forward only.

Each function takes the group as `process_group`, the tensor-parallel one when it is None, and returns its input
when the group has one member. Those that split without being given a rank use the rank of the trace, which is 0
in the program of every rank; `scatter_to_process_group_spmd` takes the rank as a tensor instead.
"""

from typing import Any

import torch
import torch_xla.core.xla_model as xm
from torch import Tensor

from .comm import all_gather, all_reduce, reduce_scatter
from .parallel_state import get_tensor_model_parallel_group
from .utils import divide


def _or_tensor_parallel(process_group: Any | None) -> Any:
    return get_tensor_model_parallel_group() if process_group is None else process_group


def _reduce(input_: Tensor, computation: str = xm.REDUCE_SUM, process_group: Any | None = None) -> Tensor:
    group = _or_tensor_parallel(process_group)
    if group.size() == 1:
        return input_
    return all_reduce(computation, input_, groups=group)[0]


def _split_along_dim(input_: Tensor, partition_dim: int, process_group: Any | None = None) -> Tensor:
    group = _or_tensor_parallel(process_group)
    if group.size() == 1:
        return input_
    size = divide(input_.shape[partition_dim], group.size())
    indices = torch.arange(size, device=input_.device) + group.rank() * size
    return torch.index_select(input_, partition_dim, indices)


def _with_dim_first(x: Tensor, dim: int) -> Tensor:
    """Swap `dim` with dim 0; its own inverse."""
    return x if dim == 0 else x.transpose(0, dim)


def _gather_along_dim(x: Tensor, partition_dim: int, process_group: Any | None = None) -> Tensor:
    group = _or_tensor_parallel(process_group)
    if group.size() == 1:
        return x
    # the collective runs on dim 0; pin_layout=False because the pinned form writes rank 0's slot on every rank
    gathered = all_gather(_with_dim_first(x, partition_dim), dim=0, groups=group, pin_layout=False).contiguous()
    return _with_dim_first(gathered, partition_dim)


def _reduce_scatter_along_dim(
    x: Tensor, partition_dim: int, computation: str = xm.REDUCE_SUM, process_group: Any | None = None
) -> Tensor:
    group = _or_tensor_parallel(process_group)
    if group.size() == 1:
        return x
    if x.shape[partition_dim] % group.size():
        raise RuntimeError(f"dim {partition_dim} of shape {tuple(x.shape)} does not divide by {group.size()} ranks")
    first = _with_dim_first(x, partition_dim).contiguous()
    scattered = reduce_scatter(
        computation, first, scale=1, scatter_dim=0, shard_count=group.size(), groups=group, pin_layout=False
    )
    return _with_dim_first(scattered, partition_dim)


def copy_to_tensor_model_parallel_region(input_: Tensor, process_group: Any | None = None) -> Tensor:
    """The input itself: only its gradient would be reduced."""
    _or_tensor_parallel(process_group)
    return input_


def reduce_from_tensor_model_parallel_region(input_: Tensor, process_group: Any | None = None) -> Tensor:
    """Sum over the group; `input_` is overwritten with the sum, as on XLA."""
    return _reduce(input_, process_group=process_group)


def reduce_from_context_model_parallel_region(input_: Tensor, process_group: Any | None = None) -> Tensor:
    """Sum over the group, which is the tensor-parallel one when none is given."""
    return _reduce(input_, process_group=process_group)


def scatter_to_tensor_model_parallel_region(input_: Tensor, process_group: Any | None = None) -> Tensor:
    """The trace's rank's slice of the last dim."""
    return _split_along_dim(input_, input_.dim() - 1, process_group)


def scatter_input_channels_to_tensor_model_parallel_region(input_: Tensor) -> Tensor:
    """The trace's rank's slice of dim 1."""
    return _split_along_dim(input_, 1)


def gather_from_tensor_model_parallel_region(input_: Tensor, process_group: Any | None = None) -> Tensor:
    """(..., n) on each rank -> (..., n * size) on all."""
    return _gather_along_dim(input_, input_.dim() - 1, process_group)


def gather_from_tensor_model_parallel_region_with_dim(
    input_: Tensor, gather_dim: int, process_group: Any | None = None
) -> Tensor:
    """Concatenate the ranks' tensors along `gather_dim`."""
    return _gather_along_dim(input_, gather_dim, process_group)


def reduce_scatter_to_tensor_model_parallel_region_with_dim(
    input_: Tensor, partition_dim: int, process_group: Any | None = None
) -> Tensor:
    """Sum over the group and keep the true rank's slice of `partition_dim`; RuntimeError when it does not divide."""
    return _reduce_scatter_along_dim(input_, partition_dim, process_group=process_group)


def scatter_to_sequence_parallel_region(
    input_: Tensor, sequence_dimension: int = 0, process_group: Any | None = None
) -> Tensor:
    """The trace's rank's slice of `sequence_dimension`."""
    return _split_along_dim(input_, sequence_dimension, process_group)


def gather_from_sequence_parallel_region(
    input_: Tensor,
    sequence_dimension: int = 0,
    to_model_parallel: bool = True,
    process_group: Any | None = None,
    tile_cc: bool = False,
) -> Tensor:
    """Concatenate along `sequence_dimension`; the remaining arguments choose a gradient and a schedule."""
    return _gather_along_dim(input_, sequence_dimension, process_group)


def reduce_scatter_to_sequence_parallel_region(
    input_: Tensor,
    sequence_dimension: int = 0,
    process_group: Any | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Sum over the group and keep the true rank's slice; `dtype` is that of the gradient."""
    return _reduce_scatter_along_dim(input_, sequence_dimension, process_group=process_group)


def _assert_divides(input_: Tensor, dim: int, group: Any) -> None:
    assert input_.size(dim) % group.size() == 0, (
        f"size {input_.size(dim)} of dim {dim} is not a multiple of the group size {group.size()}"
    )


def scatter_to_process_group_spmd(
    input_: Tensor, partition_dim: int, rank: Tensor, process_group: Any | None = None
) -> Tensor:
    """The slice of `partition_dim` that belongs to `rank`, an integer tensor of shape (1,) or ()."""
    group = _or_tensor_parallel(process_group)
    _assert_divides(input_, partition_dim, group)
    size = input_.size(partition_dim) // group.size()
    indices = torch.arange(size, device=input_.device) + rank * size
    return torch.index_select(input_, partition_dim, indices)


def round_robin_scatter_to_process_group_spmd(
    input_: Tensor, partition_dim: int, rank: Tensor, process_group: Any | None = None
) -> Tensor:
    """Every `size`-th entry, starting at `rank`; written for `partition_dim` 1 of a 3-D tensor, as in NxD."""
    group = _or_tensor_parallel(process_group)
    _assert_divides(input_, partition_dim, group)
    indices = torch.arange(0, input_.size(1), group.size(), device=input_.device) + rank
    repeats = [1 if dim == partition_dim else size for dim, size in enumerate(input_.shape)]
    return torch.gather(input_, partition_dim, indices.unsqueeze(-1).repeat(*repeats))

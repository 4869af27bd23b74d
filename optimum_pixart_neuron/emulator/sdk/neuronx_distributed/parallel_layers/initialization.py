"""Values and marks of a sharded parameter (NxD 0.15 `parallel_layers/layers.py`)."""

import warnings
from collections.abc import Callable

import torch
from torch import nn
from torch.nn.parameter import Parameter

from .parallel_state import (
    get_aot_mode,
    get_tensor_model_parallel_rank,
    get_tensor_model_parallel_size,
    model_parallel_is_initialized,
)
from .utils import divide, initialize_fallback_parallel_state, set_tensor_model_parallel_attributes


class BaseParallelLayer(nn.Module):
    """A layer that needs a parallel state; built outside any, it warns and sets up a world of one."""

    def __init__(self, device: torch.device | None = None):
        super().__init__()
        if not model_parallel_is_initialized():
            warnings.warn("the parallel state is not initialized: building parallel layers for one rank", stacklevel=2)
            initialize_fallback_parallel_state(device)


def select_partition(
    full: torch.Tensor, dim: int, per_partition_size: int, stride: int, rank: int, partitions: int
) -> list[torch.Tensor]:
    """The `stride` chunks of `full` that form partition `rank`: every `partitions`-th chunk, starting at `rank`."""
    return list(torch.split(full, divide(per_partition_size, stride), dim=dim)[rank::partitions])


def create_local_weight(
    full_weight: torch.Tensor,
    partition_dim: int,
    per_partition_size: int,
    stride: int,
    out_weight: torch.Tensor | None = None,
) -> torch.Tensor:
    """This tensor-parallel rank's part of `full_weight`, written into `out_weight` when given."""
    rank, size = get_tensor_model_parallel_rank(), get_tensor_model_parallel_size()
    chunks = select_partition(full_weight, partition_dim, per_partition_size, stride, rank, size)
    with torch.no_grad():
        return torch.cat(chunks, dim=partition_dim, out=out_weight)


def initialize_sharded_cpu(
    param: Parameter,
    partition_dim: int,
    num_partitions: int,
    init_method: Callable[[torch.Tensor], None],
    param_dtype: torch.dtype,
    stride: int = 1,
    return_master_param: bool = False,
) -> torch.Tensor | None:
    """Mark `param` and fill it with its rank's part of a whole weight drawn in float32.

    Returns that whole weight when asked. While a module is built to be traced nothing is drawn and `param` itself is
    returned, so that a layer's `master_weight` is then a second name of its weight. The mark has no `rank_ordering`.
    """
    set_tensor_model_parallel_attributes(param, True, partition_dim, stride, num_partitions)
    if get_aot_mode():
        return param
    shape = list(param.shape)
    shape[partition_dim] *= get_tensor_model_parallel_size()
    master = torch.empty(shape, dtype=torch.float32)
    init_method(master)
    master = master.to(param_dtype)
    create_local_weight(master, partition_dim, param.shape[partition_dim], stride, out_weight=param)
    return master if return_master_param else None


def refuse_device(device: torch.device | str | None) -> None:
    """RuntimeError unless weights are asked for on cpu or meta, or nowhere in particular: there is no other device."""
    if device is not None and torch.device(device).type not in ("cpu", "meta"):
        raise RuntimeError(f"parallel layers of the emulator are built on cpu or meta, not on {device}")

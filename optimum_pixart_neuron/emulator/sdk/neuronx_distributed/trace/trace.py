"""Cutting a whole checkpoint into one rank's (NxD 0.15 `trace/trace.py`)."""

import itertools
import logging
import warnings
from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn

from ..parallel_layers.initialization import select_partition
from ..parallel_layers.layers import (
    BaseParallelLinear,
    ColumnParallelLinear,
    InputChannelParallelConv2d,
    OutputChannelParallelConv2d,
    ParallelEmbedding,
    RowParallelLinear,
    SPMDRank,
)
from ..parallel_layers.utils import divide

logger = logging.getLogger("Neuron")

Checkpoint = dict[str, Tensor]

# parameters of any other module are copied whole to every rank, whatever marks they carry
_SHARDED_MODULES = (
    ColumnParallelLinear,
    RowParallelLinear,
    ParallelEmbedding,
    OutputChannelParallelConv2d,
    InputChannelParallelConv2d,
    BaseParallelLinear,
    SPMDRank,
)


def create_local_weight(
    rank: int,
    world_size: int,
    full_weight: Tensor,
    partition_dim: int,
    per_partition_size: int,
    stride: int,
    out_weight: Tensor | None = None,
) -> Tensor:
    """Rank's part of `full_weight`; a view of it at stride 1, where `out_weight` is not used."""
    chunks = select_partition(full_weight, partition_dim, per_partition_size, stride, rank, world_size)
    if stride == 1:
        return chunks[0]
    with torch.no_grad():
        return torch.cat(chunks, dim=partition_dim, out=out_weight)


def create_local_weight_qkv(
    rank: int,
    world_size: int,
    full_weight: Tensor,
    partition_dim: int,
    q_len: int,
    kv_len: int,
    out_weight: Tensor | None = None,
) -> Tensor:
    """Rank's part of a fused weight: its query rows, then its key rows, then its value rows."""
    parts = []
    for whole in torch.split(full_weight, [q_len, kv_len, kv_len], dim=partition_dim):
        size = divide(whole.shape[partition_dim], world_size)
        parts += select_partition(whole, partition_dim, size, 1, rank, world_size)
    with torch.no_grad():
        return torch.cat(parts, dim=partition_dim, out=out_weight)


def invoke_preshard_hook(module: nn.Module | None, checkpoint: Checkpoint, prefix: str) -> None:
    """Let the outermost modules with a `preshard_hook(checkpoint, name)` change their entries of the checkpoint.

    A module that has the hook is asked about its weight, and about its bias if it has `add_bias`; nothing inside it
    is asked.
    """
    if module is None:
        return
    hook: Any = getattr(module, "preshard_hook", None)
    if hook is not None:
        hook(checkpoint, prefix + "weight")
        if getattr(module, "add_bias", False):
            hook(checkpoint, prefix + "bias")
        return
    for name, child in module._modules.items():  # unlike named_children, a module under two names counts twice
        invoke_preshard_hook(child, checkpoint, f"{prefix}{name}.")


def preprocess_checkpoint(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Make a whole checkpoint fit `model`, in place: hooks first, then entries that it does not have are dropped."""
    _warn_of_shared_memory(checkpoint)
    invoke_preshard_hook(model, checkpoint, "")
    if hasattr(model, "lora_wrapped_model"):
        update: Any = model.update_weights_for_lora
        checkpoint = update(checkpoint)
    wanted = model.state_dict().keys()
    redundant = [name for name in checkpoint if name not in wanted]
    if redundant:
        warnings.warn(f"dropping checkpoint entries that the model does not have: {redundant}", stacklevel=2)
    for name in redundant:
        del checkpoint[name]


def _warn_of_shared_memory(checkpoint: Checkpoint) -> None:
    """Entries whose bytes overlap cannot be saved to safetensors later; say so while the names are known."""
    by_storage = defaultdict(list)
    for name, tensor in checkpoint.items():
        if tensor.numel() and not tensor.is_meta:
            start = tensor.data_ptr()
            by_storage[tensor.untyped_storage().data_ptr()].append((start, start + tensor.nbytes, name))
    for regions in by_storage.values():
        regions.sort()
        for (_, end, first), (start, _, second) in itertools.pairwise(regions):
            if start < end:
                logger.warning("checkpoint entries %s and %s share memory: saving them will fail", first, second)


def get_sharded_checkpoint(
    checkpoint: Checkpoint, model: nn.Module, rank: int, tp_degree: int, is_cached: bool = False
) -> None:
    """Replace, in place, the entries of `checkpoint` by `rank`'s parts; `is_cached` says it is preprocessed."""
    if not is_cached:
        preprocess_checkpoint(model, checkpoint)
    dtype = getattr(getattr(model, "config", None), "torch_dtype", None)
    shard_children(model, checkpoint, "", dtype, rank, tp_degree)


def shard_children(
    module: nn.Module | None, checkpoint: Checkpoint, prefix: str, dtype: Any, rank: int, tp_degree: int
) -> None:
    """Shard the entries of `module` and all below it, in place. Entries that are missing are passed over in silence.

    RuntimeError when a part has not the shape of its parameter. `dtype` and `tp_degree` are not read: each
    parameter's own marks say how it is split.
    """
    if module is None:
        return
    for name, child in module._modules.items():
        shard_children(child, checkpoint, f"{prefix}{name}.", dtype, rank, tp_degree)
    if not isinstance(module, _SHARDED_MODULES):
        return
    parameter: Any  # which has attributes that its type does not have
    for name, parameter in module.named_parameters(recurse=False):
        key = prefix + name
        if hasattr(parameter, "get_tensor_from_state_dict"):
            tensor = parameter.get_tensor_from_state_dict(prefix, checkpoint)
        elif key in checkpoint:
            tensor = checkpoint[key]
        else:
            continue
        if hasattr(parameter, "expert_model_parallel"):
            raise NotImplementedError(f"{key}: sharding by expert is not emulated")
        if getattr(parameter, "rank_ordering", None) is not None:
            # 0.15 keeps the mapped rank for the module's next parameter, which maps it again; 0.18 does not
            rank = parameter.rank_ordering[rank]
        checkpoint[key] = _part(parameter, tensor, rank)
        if checkpoint[key].shape != parameter.shape:
            raise RuntimeError(f"{key}: expected shape {tuple(parameter.shape)}, found {tuple(checkpoint[key].shape)}")


def _part(parameter: Any, tensor: Tensor, rank: int) -> Tensor:
    if not getattr(parameter, "tensor_model_parallel", False):
        return tensor
    dim, partitions = parameter.partition_dim, parameter.num_partitions
    if hasattr(parameter, "fused_qkv"):
        q_len = parameter.num_attention_heads * parameter.head_dim
        kv_len = parameter.num_key_value_heads * parameter.head_dim
        return create_local_weight_qkv(rank % partitions, partitions, tensor, dim, q_len, kv_len)
    size = tensor.shape[dim] // partitions
    return create_local_weight(rank % partitions, partitions, tensor, dim, size, parameter.partition_stride)


def _refuse_separate_processes(name: str) -> None:
    raise NotImplementedError(
        f"{name} is unsupported from Neuron SDK 2.27 and is not emulated: build the model with "
        "neuronx_distributed.trace.model_builder.ModelBuilder"
    )


def parallel_model_trace(*args: Any, **kwargs: Any) -> Any:
    _refuse_separate_processes("parallel_model_trace")


def parallel_model_save(*args: Any, **kwargs: Any) -> Any:
    _refuse_separate_processes("parallel_model_save")


def parallel_model_load(*args: Any, **kwargs: Any) -> Any:
    _refuse_separate_processes("parallel_model_load")


__all__: list[str] = [
    "create_local_weight",
    "create_local_weight_qkv",
    "get_sharded_checkpoint",
    "invoke_preshard_hook",
    "parallel_model_load",
    "parallel_model_save",
    "parallel_model_trace",
    "preprocess_checkpoint",
    "shard_children",
]

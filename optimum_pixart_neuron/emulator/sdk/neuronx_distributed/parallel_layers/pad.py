"""Padding a sharded model to a head count that divides (NxD 0.15 `parallel_layers/pad.py`)."""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F
from torch_neuronx.utils import get_platform_target

from ..utils.utils import hardware
from .layers import ColumnParallelLinear, RowParallelLinear


def get_number_of_extra_heads(n_head: int, tp_degree: int) -> int:
    """Heads to add so that `tp_degree` divides the count."""
    return -n_head % tp_degree


def pad_model(
    model: nn.Module,
    tp_degree: int,
    n_heads: int,
    wrapped_classes=(),
    pad_hook_fn: Callable[[nn.Module, float], None] | None = None,
) -> nn.Module:
    """Pad the shards of column and row layers with zeros, in the ratio of padded to given heads; returns `model`.

    With `wrapped_classes` only layers inside such modules are padded. `pad_hook_fn(module, ratio)` is called for each
    module visited there, children first.
    """
    ratio = (n_heads + get_number_of_extra_heads(n_heads, tp_degree)) / n_heads
    wrapped_classes = tuple(wrapped_classes)

    def visit(module: nn.Module, inside: bool) -> None:
        for child in module.children():
            visit(child, inside or isinstance(child, wrapped_classes))
        if not inside:
            return
        if pad_hook_fn is not None:
            pad_hook_fn(module, ratio)
        if isinstance(module, ColumnParallelLinear):
            extra = int(module.weight.shape[0] * ratio - module.weight.shape[0])
            module.weight = nn.Parameter(F.pad(module.weight.data, (0, 0, 0, extra)))
            if module.bias is not None:
                module.bias = nn.Parameter(F.pad(module.bias.data, (0, extra)))
        elif isinstance(module, RowParallelLinear):
            extra = int(module.weight.shape[1] * ratio - module.weight.shape[1])
            module.weight = nn.Parameter(F.pad(module.weight.data, (0, extra)))

    visit(model, not wrapped_classes or isinstance(model, wrapped_classes))
    return model


def generate_padding_mask(
    num_heads: int,
    num_heads_with_pad: int,
    num_kv_heads: int,
    tp_degree: int,
    tp_rank: int,
    hardware_type: hardware | None = None,
) -> torch.Tensor:
    """Bool (query heads per rank,): which of this rank's query heads are real, under grouped key/value heads.

    Replicas of a key/value head are `num_kv_heads` ranks apart on trn1 and neighbours on trn2; RuntimeError for any
    other hardware.
    """
    hardware_type = hardware_type or hardware(get_platform_target())
    per_rank = num_heads_with_pad // tp_degree
    real_heads = num_heads // num_kv_heads
    if hardware_type is hardware.TRN1:
        replica = tp_rank // num_kv_heads
    elif hardware_type is hardware.TRN2:
        replicas = max(tp_degree // num_kv_heads, 1)
        replica = tp_rank % replicas
        real_heads *= num_kv_heads * replicas // tp_degree
    else:
        raise RuntimeError(f"the layout of key/value heads on {hardware_type} is not known")
    return torch.arange(per_rank * replica, per_rank * (replica + 1)) < real_heads

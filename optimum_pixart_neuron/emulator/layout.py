"""Kernels of the CPU that want more of their inputs than they look at.

A graph is traced with fake tensors. Where a dimension has size 1 its stride is free, and real tensors can come to
another one than fake ones, so that what was dense in the trace does not count as dense in the run (torch 2.8 to 2.13,
the middle block of a VAE). On the device every buffer is dense.

Two kernels take sizes on trust, from arguments or from one of their inputs (torch 2.13, `group_norm_kernel.cpp` and
`FlashAttentionKernel.cpp`): a damaged program would have them read and write beyond a tensor's end.
"""

from typing import Any

import torch
from torch import Tensor


def densified(operation: Any) -> Any:
    """The operation, made to take any strides and no wrong sizes."""
    return _CAREFUL.get(operation, operation)


def _native_group_norm(
    tensor: Tensor, weight: Any, bias: Any, images: int, channels: int, pixels: int, groups: int, eps: float
) -> Any:
    fits = tensor.numel() == images * channels * pixels and groups > 0 and channels % groups == 0
    if not fits or any(each is not None and each.shape != (channels,) for each in (weight, bias)):
        raise RuntimeError(f"group norm of {list(tensor.shape)} as {[images, channels, pixels]} in {groups} groups")
    return torch.ops.aten.native_group_norm.default(
        tensor.contiguous(), weight, bias, images, channels, pixels, groups, eps
    )


def _flash_attention(query: Tensor, key: Tensor, value: Tensor, *arguments: Any, **keywords: Any) -> Any:
    fits = query.ndim == 4 and key.shape == value.shape and query.shape[:2] == key.shape[:2]
    if not fits or query.shape[3] != key.shape[3]:
        raise RuntimeError(f"attention of {[list(each.shape) for each in (query, key, value)]}")
    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default(
        query, key, value, *arguments, **keywords
    )


_CAREFUL = {
    torch.ops.aten.native_group_norm.default: _native_group_norm,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default: _flash_attention,
}

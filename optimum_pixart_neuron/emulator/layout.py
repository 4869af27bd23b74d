"""Kernels of the CPU that ask for dense inputs, given whatever strides a run comes to.

A graph is traced with fake tensors. Where a dimension has size 1 its stride is free, and real tensors can come to
another one than fake ones, so that what was dense in the trace does not count as dense in the run (torch 2.8 to 2.13,
the middle block of a VAE). On the device every buffer is dense.
"""

from typing import Any

import torch
from torch import Tensor


def densified(operation: Any) -> Any:
    """The operation, made to take any strides if it would refuse some."""
    return _DENSE.get(operation, operation)


def _native_group_norm(tensor: Tensor, *arguments: Any, **keywords: Any) -> Any:
    return torch.ops.aten.native_group_norm.default(tensor.contiguous(), *arguments, **keywords)


_DENSE = {torch.ops.aten.native_group_norm.default: _native_group_norm}

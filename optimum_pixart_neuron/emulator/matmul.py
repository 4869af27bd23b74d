"""Float32 matrix products of a core, by oneDNN instead of the BLAS that PyTorch was built with.

The CPU builds of PyTorch on PyPI multiply float32 matrices with MKL, which on processors of other makers than Intel
reaches half of what oneDNN does. oneDNN is in the same build, and PyTorch's own compiler calls it through the same
operator (torch 2.8 to 2.13, `torch/_inductor/fx_passes/mkldnn_fusion.py`).
"""

from typing import Any

import torch
from torch import Tensor


def preferred(operation: Any) -> Any:
    """The faster equivalent of an ATen operation; the operation itself where there is none."""
    return _FASTER.get(operation, operation) if _has_onednn() else operation


def _addmm(bias: Tensor, left: Tensor, right: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    if (beta, alpha) != (1, 1) or bias.shape != right.shape[1:] or not _fits(left, right):
        return torch.ops.aten.addmm.default(bias, left, right, beta=beta, alpha=alpha)
    return torch.ops.mkldnn._linear_pointwise(left, right.t(), bias, "none", [], "")


def _mm(left: Tensor, right: Tensor) -> Tensor:
    if not _fits(left, right):
        return torch.ops.aten.mm.default(left, right)
    return torch.ops.mkldnn._linear_pointwise(left, right.t(), None, "none", [], "")


def _fits(left: Tensor, right: Tensor) -> bool:
    """Whether it is a linear layer in float32: rows times a weight that is stored output by input."""
    return (
        left.dtype == right.dtype == torch.float32
        and left.ndim == right.ndim == 2
        and left.shape[1] == right.shape[0]  # oneDNN does not look
        and min(left.shape) > 0
        and left.is_contiguous()
        and right.t().is_contiguous()
    )


def _has_onednn() -> bool:
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


_FASTER = {torch.ops.aten.addmm.default: _addmm, torch.ops.aten.mm.default: _mm}

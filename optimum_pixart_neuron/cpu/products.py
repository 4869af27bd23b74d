"""Matrix products and convolutions of this processor, by the faster of its kernels.

float32: the CPU builds of PyTorch on PyPI multiply matrices with MKL, which on processors of other makers than Intel
reaches half of what oneDNN does. oneDNN is in the same build, and PyTorch's own compiler calls it through the same
operator (torch 2.8 to 2.13, `torch/_inductor/fx_passes/mkldnn_fusion.py`).

bfloat16: oneDNN has kernels for processors with AVX-512 only (torch 2.13, `aten/src/ATen/native/mkldnn/Utils.h`
`mkldnn_bf16_device_check`). Elsewhere PyTorch's plain loops take 50 to 100 times as long as float32, for what is the
same to the rounding of sums: bfloat16 factors, float32 sums, one rounding at the end.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


def preferred(operation: Any) -> Any:
    """The faster equivalent of an ATen operation; the operation itself where there is none."""
    faster = _FLOAT32.get(operation, operation) if _has_onednn() else operation
    return _by_float32(faster) if _is_slow_in_bfloat16(operation) else faster


class FasterBfloat16(TorchDispatchMode):
    """Within it PyTorch's own operators on bfloat16 are the faster ones; those on other dtypes stay what they are."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        operation = _by_float32(func) if _is_slow_in_bfloat16(func) else func
        return operation(*args, **(kwargs or {}))


def _by_float32(operation: Any) -> Callable[..., Any]:
    def run(*arguments: Any, **keywords: Any) -> Any:
        if not (isinstance(arguments[0], Tensor) and arguments[0].dtype == torch.bfloat16):
            return operation(*arguments, **keywords)
        return operation(*map(_widened, arguments), **keywords).to(torch.bfloat16)

    return run


def _widened(argument: Any) -> Any:
    return argument.float() if isinstance(argument, Tensor) and argument.dtype == torch.bfloat16 else argument


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


def _is_slow_in_bfloat16(operation: Any) -> bool:
    if operation not in _PRODUCTS:
        return False
    return not (torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported())


_FLOAT32 = {torch.ops.aten.addmm.default: _addmm, torch.ops.aten.mm.default: _mm}

_PRODUCTS = {
    getattr(torch.ops.aten, name).default
    for name in ("mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "convolution", "linear", "matmul")
}

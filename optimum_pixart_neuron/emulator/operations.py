"""The operations and dtypes of programs: pure computations on tensors, views of them, and the ranks' collectives.

A program is data from a file. What it may name is listed here, so that none of PyTorch's other operations, some of
which open files, skip bounds checks or call back into Python, is reached from one. The tracer refuses the same names.
"""

import operator
from typing import Any

import torch

GETITEM = "getitem"

_POINTWISE = """
    abs acos acosh add addcdiv addcmul asin asinh atan atan2 atanh bitwise_and bitwise_left_shift bitwise_not
    bitwise_or bitwise_right_shift bitwise_xor ceil celu clamp clamp_max clamp_min copysign cos cosh deg2rad div elu eq
    erf erfc erfinv exp exp2 expm1 floor floor_divide fmax fmin fmod frac ge gelu glu gt hardsigmoid hardswish hardtanh
    hypot isfinite isinf isnan le leaky_relu lerp lgamma log log10 log1p log2 log_sigmoid_forward logaddexp logaddexp2
    logical_and logical_not logical_or logical_xor logit lt masked_fill maximum minimum mish mul nan_to_num ne neg pow
    prelu _prelu_kernel rad2deg reciprocal relu relu6 remainder round rsqrt rsub selu sgn sigmoid sign signbit silu sin
    sinc sinh softplus sqrt square sub tan tanh threshold trunc where xlogy
"""
_REDUCTIONS = """
    all amax amin aminmax any argmax argmin argsort count_nonzero cummax cummin cumprod cumsum linalg_vector_norm
    logcumsumexp logsumexp max mean median min nansum norm prod sort std std_mean sum topk var var_mean
"""
_REARRANGEMENTS = """
    _unsafe_view alias as_strided cat channel_shuffle chunk clone constant_pad_nd contiguous copy detach
    diag_embed diagonal expand flip gather im2col index index_add index_copy index_fill index_put index_select
    lift_fresh lift_fresh_copy masked_scatter narrow permute pixel_shuffle pixel_unshuffle reflection_pad1d
    reflection_pad2d reflection_pad3d repeat replication_pad1d replication_pad2d replication_pad3d reshape roll scatter
    scatter_add scatter_reduce select select_scatter slice slice_scatter split split_with_sizes squeeze stack t take
    transpose tril triu unbind unfold unsafe_split unsafe_split_with_sizes unsqueeze view
"""
_CREATIONS = """
    _to_copy arange empty empty_like eye fill full full_like linspace new_empty new_full new_ones new_zeros ones
    ones_like scalar_tensor to zero zeros zeros_like
"""
_LAYERS = """
    _adaptive_avg_pool2d _fused_rms_norm _log_softmax _safe_softmax _scaled_dot_product_attention_math
    _scaled_dot_product_flash_attention_for_cpu _softmax _upsample_bilinear2d_aa _upsample_nearest_exact1d
    _upsample_nearest_exact2d addbmm addmm addmv avg_pool2d avg_pool3d baddbmm bmm col2im convolution dot embedding
    linear matmul max_pool2d_with_indices mm mv native_group_norm native_layer_norm scaled_dot_product_attention
    upsample_bicubic2d upsample_bilinear2d upsample_linear1d upsample_nearest1d upsample_nearest2d upsample_nearest3d
    upsample_trilinear3d
"""
_ATEN = frozenset(" ".join((_POINTWISE, _REDUCTIONS, _REARRANGEMENTS, _CREATIONS, _LAYERS)).split())
_OWN = frozenset(("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "collective_permute", "attention"))

# Dtypes of tensors, by name.
DTYPES = {
    name: getattr(torch, name)
    for name in (
        *("float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"),
        *("int64", "int32", "int16", "int8", "uint8", "bool"),
    )
}
# Constants of PyTorch that arguments can be, by kind and name.
ENUMERATIONS = {
    "dtype": DTYPES,
    "layout": {"strided": torch.strided},
    "memory_format": {
        name: getattr(torch, name)
        for name in ("contiguous_format", "preserve_format", "channels_last", "channels_last_3d")
    },
}


def operation_name(target: Any) -> str:
    """The name of a traced operation, `namespace::name.overload`; RuntimeError unless programs may have it."""
    if target is operator.getitem:
        return GETITEM
    if not isinstance(target, torch._ops.OpOverload):
        raise RuntimeError(f"operation {target} cannot be compiled: only operators can")
    name = f"{target._schema.name}.{target._overloadname}"
    if not _is_listed(name):
        raise RuntimeError(f"operation {name} cannot be compiled: the emulator has it not among its operations")
    return name


def resolve_operation(name: str) -> Any:
    """The callable of an operation name; RuntimeError when programs may not have it, or this torch does not."""
    if name == GETITEM:
        return operator.getitem
    if not _is_listed(name):
        raise RuntimeError(f"operation {name[:80]!r} is none that programs may have")
    namespace, _, rest = name.partition("::")
    base, _, overload = rest.partition(".")
    try:
        return getattr(getattr(getattr(torch.ops, namespace), base), overload)
    except AttributeError:
        raise RuntimeError(f"operation {name} is unknown to torch {torch.__version__}: compile again") from None


def _is_listed(name: str) -> bool:
    namespace, _, rest = name.partition("::")
    base, _, overload = rest.partition(".")
    if not overload.isidentifier() or overload.endswith("out") or overload.startswith("__"):
        return False
    if namespace == "aten":
        return base in _ATEN or base.removesuffix("_") in _ATEN  # in place
    return namespace == "neuron_emulator" and base in _OWN

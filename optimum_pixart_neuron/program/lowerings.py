"""Operations that PyTorch/XLA lowers: any other one is computed on the host, and from SDK 2.27 on a tracer dies of it.

An operation without a lowering that touches a weight ends neuronx_distributed's tracer with SIGABRT (aws-neuron-sdk
#1265); elsewhere it falls back to the CPU. Names are those of ATen, without overloads, as far as a model may have
them. Source: PyTorch/XLA 2.8, `codegen/xla_native_functions.yaml`; what ATen itself composes of others is lowered with
these.
"""

import torch
from torch._ops import OpOverload

_LOWERED = frozenset(
    """
    abs acos add addcdiv addcmul addmm alias all amax amin any arange argmax argmin as_strided asin atan atan2
    avg_pool2d baddbmm bitwise_and bitwise_not bitwise_or bitwise_xor bmm cat ceil clamp clamp_max clamp_min
    clone constant_pad_nd convolution copy cos cosh cumsum detach diagonal div dot elu embedding empty eq erf
    erfc exp expand expm1 fill flip floor floor_divide fmod frac full gather ge gelu glu gt hardsigmoid
    hardswish hardtanh index index_add index_copy index_fill index_put index_select isnan le leaky_relu lerp
    lift linspace log log10 log1p log2 log_softmax logical_and logical_not logical_or logical_xor logsumexp lt
    masked_fill masked_scatter max max_pool2d_with_indices maximum mean min minimum mish mm mul mv nan_to_num
    native_batch_norm native_dropout native_group_norm native_layer_norm ne neg norm permute pixel_shuffle
    pixel_unshuffle pow prod reciprocal reflection_pad2d relu remainder repeat replication_pad2d reshape roll
    round rsqrt rsub scatter scatter_add scatter_reduce select select_scatter sgn sigmoid sign silu sin sinh
    slice slice_scatter softmax softplus sort split split_with_sizes sqrt squeeze stack std sub sum t tan tanh
    threshold to_copy topk transpose tril triu trunc unbind unsafe_view unsqueeze upsample_bilinear2d
    upsample_nearest2d var var_mean view where xlogy zero
    """.split()
)
_COMPOSED = ("CompositeImplicitAutograd", "CompositeExplicitAutograd", "CompositeExplicitAutogradNonFunctional")


def is_lowered(operation: OpOverload) -> bool:
    """Whether PyTorch/XLA lowers an operation, or ATen composes it; those of other libraries are not asked about."""
    if operation.namespace != "aten":
        return True
    name = operation.overloadpacket.__name__.strip("_")
    if name in _LOWERED or name.removesuffix("_copy") in _LOWERED:
        return True
    return any(torch._C._dispatch_has_kernel_for_dispatch_key(operation.name(), key) for key in _COMPOSED)

"""The attention kernel that the installed Neuron SDK has, for unmasked attention in bfloat16.

Kernels are data: where to import them, which sizes they take, how they are called. The choice is made once, at export.
Shapes: B batch, H heads (of this rank), Q query tokens, K key tokens, D head width.

Sources of the limits and calling conventions:
    [isa]    neuronxcc 2.21 (SDK 2.26) `nki.isa.attention_kernel`: layouts and variants.
    [nxdi]   neuronx-distributed-inference 0.6 (SDK 2.26), `attention_base.py` `get_flash_attention_strategy`: sizes;
             `flux/modeling_flux.py`: both calls, also with fewer queries than keys under context parallelism.
    [nkilib] nki-library, `core/attention/attention_cte.py`: argument checks and tested ranges.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # a plan chooses kernels without torch
    import torch
    from torch import Tensor

from ...errors import InvalidExportOption

WRITTEN_OUT = "math"
"""The name, in options and artifacts, of attention without a kernel."""


@dataclass(frozen=True, kw_only=True)
class TokenLimits:
    """How many query tokens and how many key tokens a kernel takes.

    Attributes:
        minimum: fewest.
        maximum: most; None without a limit.
        divisor: what divides every number below `any_from`.
        any_from: from here on any number does.
    """

    minimum: int = 1
    maximum: int | None = None
    divisor: int = 1
    any_from: int = 1

    def refusal(self, tokens: int) -> str | None:
        """What is asked of a number of tokens that is not taken; None for one that is."""
        if tokens < self.minimum:
            return f"at least {self.minimum}"
        if self.maximum is not None and tokens > self.maximum:
            return f"at most {self.maximum}"
        if tokens < self.any_from and tokens % self.divisor:
            return f"multiples of {self.divisor} below {self.any_from}"
        return None


@dataclass(frozen=True, kw_only=True)
class AttentionKernel:
    """One kernel of the SDK.

    Attributes:
        name: how options, artifacts and errors call it.
        imports: (module, attribute) of everything the call needs; an SDK that lacks one does not offer the kernel.
        call: takes the imported things, query (B * H, Q, D), key and value (B * H, K, D), the scale and the number of
            physical cores of a logical one; returns (B * H, Q, D).
        max_head_width: largest D.
        tokens: limits of Q and K by LNC.
        max_batch_heads: largest B * H; None without a limit.
        max_products: largest B * H * Q * K; None without a limit.
        dtype: of its matmuls, by name.
    """

    name: str
    imports: tuple[tuple[str, str], ...]
    call: Callable[..., Tensor]
    max_head_width: int
    tokens: dict[int, TokenLimits]
    max_batch_heads: int | None = None
    max_products: int | None = None
    dtype: str = "bfloat16"

    def refusal(
        self,
        *,
        head_width: int,
        query_tokens: int,
        key_tokens: int,
        batch_heads: int,
        lnc: int,
        dtype: torch.dtype | str,
    ) -> str | None:
        """Why a size is not taken, with the size, the limit and the flag that changes it; None when it is."""
        if _name(dtype) != self.dtype:
            return f"computes in {self.dtype}, not in {_name(dtype)}; change --torch_dtype"
        if lnc not in self.tokens:
            return f"does not run at LNC {lnc}; change --instance_type"
        if head_width > self.max_head_width:
            return f"takes heads of at most {self.max_head_width} channels, the checkpoint's have {head_width}"
        for kind, tokens in (("query", query_tokens), ("key", key_tokens)):
            asked = self.tokens[lnc].refusal(tokens)
            if asked:
                return (
                    f"takes {asked} {kind} tokens at LNC {lnc}, a core has {tokens};"
                    " change --height, --width or --tensor_parallel_size"
                )
        if self.max_batch_heads is not None and batch_heads > self.max_batch_heads:
            return (
                f"takes at most {self.max_batch_heads} heads of all images, a core has {batch_heads};"
                " change --batch_size or --num_images_per_prompt"
            )
        products = batch_heads * query_tokens * key_tokens
        if self.max_products is not None and products > self.max_products:
            return (
                f"takes at most {self.max_products} scores (heads x query x key tokens), a core has {products};"
                " change --batch_size, --height or --width"
            )
        return None

    def load(self) -> list[Any]:
        """Import what `call` needs; ImportError or AttributeError when the installed SDK lacks it."""
        return [getattr(import_module(module), attribute) for module, attribute in self.imports]


def _name(dtype: torch.dtype | str) -> str:
    return str(dtype).removeprefix("torch.")


def _call_isa(imported: list[Any], query: Tensor, key: Tensor, value: Tensor, scale: float, lnc: int) -> Tensor:
    """[isa]: query and key as (B * H, D, tokens); the result is written into a buffer (B * H, Q, D)."""
    nki_jit, attention_isa_kernel, nc = imported
    launch = nki_jit()(attention_isa_kernel)
    if lnc > 1:
        launch = launch[(nc(lnc),)]
    out = query.new_zeros(query.shape)
    variant = "AttentionMMSoftmaxMMWithoutSwap"  # unmasked, scores not transposed
    launch(query.transpose(1, 2), key.transpose(1, 2), value, scale, out, kernel_name=variant)
    return out


def _call_cte(imported: list[Any], query: Tensor, key: Tensor, value: Tensor, scale: float, lnc: int) -> Tensor:
    """[nkilib]: all of them (B * H, tokens, D); the flags say so, and the kernel transposes while it reads."""
    (attention_cte,) = imported
    launch = attention_cte[lnc] if lnc > 1 else attention_cte
    return launch(query, key, value, scale, causal_mask=False, tp_q=True, tp_k=True, tp_out=False)


# The later one first: an SDK that has both is in transition to it.
_KERNELS = (
    AttentionKernel(
        name="nkilib.attention_cte",
        imports=(("nkilib.core.attention.attention_cte", "attention_cte"),),
        call=_call_cte,
        max_head_width=128,
        tokens={1: TokenLimits(maximum=131072), 2: TokenLimits(maximum=131072)},
        max_batch_heads=512,
        max_products=32 * 36864**2,
    ),
    AttentionKernel(
        name="attention_isa_kernel",
        imports=(
            ("torch_neuronx.xla_impl.ops", "nki_jit"),
            ("neuronxcc.nki._private_kernels.attention", "attention_isa_kernel"),
            ("neuronxcc.nki.language", "nc"),
        ),
        call=_call_isa,
        max_head_width=128,
        # [nxdi]. It tells tokens from channels by size, so more tokens than the widest head has channels.
        tokens={1: TokenLimits(minimum=512), 2: TokenLimits(minimum=512, divisor=512, any_from=1024)},
    ),
)
KERNELS = {kernel.name: kernel for kernel in _KERNELS}
"""By name, in order of preference."""


def available_kernels() -> tuple[str, ...]:
    """Names of the kernels that the installed SDK, or the emulator in its place, offers."""
    return tuple(kernel.name for kernel in KERNELS.values() if _is_installed(kernel))


def _is_installed(kernel: AttentionKernel) -> bool:
    try:
        kernel.load()
    except (ImportError, AttributeError):
        return False
    return True


def choose_kernel(
    requested: str,
    *,
    head_width: int,
    query_tokens: int,
    key_tokens: int,
    batch_heads: int,
    lnc: int,
    dtype: torch.dtype | str,
    available: Collection[str],
) -> str | None:
    """Decide what computes self-attention.

    Args:
        requested: "math" for no kernel, "auto" for one that takes the size if there is one, "nki" insists on it.
        head_width: D.
        query_tokens: Q of one core.
        key_tokens: K of one core.
        batch_heads: B * H of one core.
        lnc: physical cores per logical core.
        dtype: of weights and matmuls, or its name.
        available: names of kernels, see `available_kernels`.

    Returns:
        the name of a kernel, None for the written-out form.

    Raises:
        InvalidExportOption: a kernel was insisted on and none takes this; names size, limit and flag.
    """
    if requested == WRITTEN_OUT:
        return None
    refusals = []
    for kernel in [kernel for name, kernel in KERNELS.items() if name in available]:
        refusal = kernel.refusal(
            head_width=head_width,
            query_tokens=query_tokens,
            key_tokens=key_tokens,
            batch_heads=batch_heads,
            lnc=lnc,
            dtype=dtype,
        )
        if refusal is None:
            return kernel.name
        refusals.append(f"{kernel.name} {refusal}")
    if requested == "auto":
        return None
    reason = "; ".join(refusals) or "the installed SDK has no attention kernel"
    raise InvalidExportOption(f"--attention nki: {reason}, or choose --attention auto")


@dataclass(frozen=True, kw_only=True)
class KernelAttention:
    """Unmasked attention by one kernel, as an attention processor calls it.

    Attributes:
        name: a key of `KERNELS`.
        lnc: physical cores per logical core, which share the work.
    """

    name: str
    lnc: int

    def __call__(self, query_BHQD: Tensor, key_BHKD: Tensor, value_BHKD: Tensor) -> Tensor:
        """Softmax in float32, matmuls in bfloat16, scale exactly 1/sqrt(D). Returns (B, H, Q, D)."""
        scale = query_BHQD.shape[-1] ** -0.5
        flat = [tensor.flatten(0, 1) for tensor in (query_BHQD, key_BHKD, value_BHKD)]
        return launch(self.name, self.lnc, *flat, scale).unflatten(0, query_BHQD.shape[:2])


def launch(name: str, lnc: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """Call a kernel of the SDK: query (B * H, Q, D), key and value (B * H, K, D) -> (B * H, Q, D)."""
    kernel = KERNELS[name]
    return kernel.call(kernel.load(), query, key, value, scale, lnc)

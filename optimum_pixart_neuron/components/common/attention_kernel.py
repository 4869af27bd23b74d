"""The attention kernel that the installed Neuron SDK has, in bfloat16.

Kernels are data: where to import them, which sizes they take, how they are called. The choice is made once, at export.
They take no mask and not every number of tokens. A mask is one more channel of the heads: queries have 1 there, keys
what the mask adds to their scores. Keys that fill up a number of tokens are masked more strongly than any other.
Shapes: B batch, H heads (of this rank), Q query tokens, K key tokens, D head width.

Sources of the limits and calling conventions:
    [isa]    neuronxcc 2.21 (SDK 2.26) `nki.isa.attention_kernel`: layouts and variants.
    [nxdi]   neuronx-distributed-inference 0.6 (SDK 2.26), `attention_base.py` `get_flash_attention_strategy`: sizes;
             `flux/modeling_flux.py`: both calls, also with fewer queries than keys under context parallelism.
    [nkilib] nki-library, `core/attention/attention_cte.py`: argument checks and tested ranges.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ...errors import InvalidExportOption
from ...hardware import Instance

if TYPE_CHECKING:  # the options name kernels, and are read without torch
    import torch
    from torch import Tensor

WRITTEN_OUT = "math"
"""The name, in options and artifacts, of attention without a kernel."""


@dataclass(frozen=True, kw_only=True)
class _TokenLimits:
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

    def filled(self, tokens: int) -> int:
        """The number of tokens that so many are filled up to."""
        tokens = max(tokens, self.minimum)
        return tokens if tokens >= self.any_from else -(-tokens // self.divisor) * self.divisor


@dataclass(frozen=True, kw_only=True)
class Attended:
    """The attention of one block on one core: D, Q, K, B * H, and whether keys are masked."""

    head_width: int
    query_tokens: int
    key_tokens: int
    batch_heads: int
    masked: bool = False

    def filled_scores(self, limits: _TokenLimits) -> int:
        """B * H * Q * K with both numbers of tokens filled up."""
        return self.batch_heads * limits.filled(self.query_tokens) * limits.filled(self.key_tokens)


@dataclass(frozen=True, kw_only=True)
class _AttentionKernel:
    """One kernel of the SDK.

    Attributes:
        name: how options, artifacts and errors call it.
        imports: (modules, attribute) of everything the call needs, from the first module that has it; an SDK that
            lacks one does not offer the kernel.
        call: takes the imported things, query (B * H, Q, D), key and value (B * H, K, D), the scale and the number of
            physical cores of a logical one; returns (B * H, Q, D).
        max_head_width: largest D.
        tokens: limits of Q and K by LNC.
        max_batch_heads: largest B * H; None without a limit.
        max_products: largest B * H * Q * K; None without a limit.
        dtype: of its matmuls, by name.
    """

    name: str
    imports: tuple[tuple[tuple[str, ...], str], ...]
    call: Callable[..., Tensor]
    max_head_width: int
    tokens: dict[int, _TokenLimits]
    max_batch_heads: int | None = None
    max_products: int | None = None
    dtype: str = "bfloat16"

    def refusal(self, attended: Attended, lnc: int, dtype: torch.dtype | str) -> str | None:
        """Why a size is not taken, with the size, the limit and the flag that changes it; None when it is."""
        if _name(dtype) != self.dtype:
            return f"computes in {self.dtype}, not in {_name(dtype)}; change --torch_dtype"
        if lnc not in self.tokens:
            return f"does not run at LNC {lnc}; change --instance_type"
        width, limits = attended.head_width, self.tokens[lnc]
        if width + self.has_mask_channel(attended.key_tokens, lnc, attended.masked) > self.max_head_width:
            return f"takes heads of at most {self.max_head_width} channels, the checkpoint's have {width}"
        for kind, tokens in (("query", attended.query_tokens), ("key", attended.key_tokens)):
            if limits.maximum is not None and tokens > limits.maximum:
                return (
                    f"takes at most {limits.maximum} {kind} tokens at LNC {lnc}, a core has {tokens};"
                    " change --height, --width or --tensor_parallel_size"
                )
        if self.max_batch_heads is not None and attended.batch_heads > self.max_batch_heads:
            return (
                f"takes at most {self.max_batch_heads} heads of all images, a core has {attended.batch_heads};"
                " change --batch_size or --num_images_per_prompt"
            )
        products = attended.filled_scores(limits)
        if self.max_products is not None and products > self.max_products:
            return (
                f"takes at most {self.max_products} scores (heads x query x key tokens), a core has {products};"
                " change --batch_size, --height or --width"
            )
        return None

    def has_mask_channel(self, key_tokens: int, lnc: int, masked: bool) -> bool:
        """Whether heads get one more channel: for a mask, or because keys are filled up."""
        return masked or self.tokens[lnc].filled(key_tokens) != key_tokens

    def gains(self, attended: Attended, instance: Instance, lnc: int) -> bool:
        """Whether it is sooner done than the written-out form, by the peaks of the instance.

        Written out, scores travel between memory and engines ten times as float32: the program has five results of
        their size a block (counted in the HLO of torch_xla 2.8.1), each written and read. The kernel computes whole
        filled-up tiles, and a head takes the systolic array as long as one of 128 channels.
        """
        scores = attended.batch_heads * attended.query_tokens * attended.key_tokens
        share = lnc / instance.chip.physical_cores
        written_out = 10 * 4 * scores / (instance.chip.hbm_bandwidth * share)
        filled = attended.filled_scores(self.tokens[lnc])
        products = 4 * filled * _ARRAY_WIDTH / instance.bf16_flops_per_core(lnc)
        return max(products, filled / (instance.chip.exponentials * share)) < written_out

    def load(self) -> list[Any]:
        """Import what `call` needs; ImportError or AttributeError when the installed SDK lacks it."""
        return [_first_of(modules, attribute) for modules, attribute in self.imports]


def _first_of(modules: tuple[str, ...], attribute: str) -> Any:
    *others, last = modules
    for module in others:
        try:
            return getattr(import_module(module), attribute)
        except (ImportError, AttributeError):
            continue
    return getattr(import_module(last), attribute)


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
    _AttentionKernel(
        name="nkilib.attention_cte",
        imports=((("nkilib.core.attention.attention_cte",), "attention_cte"),),
        call=_call_cte,
        max_head_width=128,
        tokens={1: _TokenLimits(maximum=131072), 2: _TokenLimits(maximum=131072)},
        max_batch_heads=512,
        max_products=32 * 36864**2,
    ),
    _AttentionKernel(
        name="attention_isa_kernel",
        imports=(
            (("torch_neuronx.xla_impl.ops",), "nki_jit"),
            # optimum-neuron 0.4.5 looks in both (`modeling_flux_transformer_2d.py`).
            (("neuronxcc.nki._private_kernels.attention", "neuronxcc.nki.kernels.attention"), "attention_isa_kernel"),
            (("neuronxcc.nki.language",), "nc"),
        ),
        call=_call_isa,
        max_head_width=128,
        # [nxdi]. It tells tokens from channels by size, so more tokens than the widest head has channels.
        tokens={1: _TokenLimits(minimum=512), 2: _TokenLimits(minimum=512, divisor=512, any_from=1024)},
    ),
)
KERNELS = {kernel.name: kernel for kernel in _KERNELS}
"""By name, in order of preference."""


def available_kernels() -> tuple[str, ...]:
    """Names of the kernels that the installed SDK, or the emulator in its place, offers."""
    found = []
    for kernel in KERNELS.values():
        with suppress(ImportError, AttributeError):
            kernel.load()
            found.append(kernel.name)
    return tuple(found)


_ARRAY_WIDTH = 128
"""Channels of the systolic array (NKI `nki.isa.nc_matmul`)."""


def choose_kernel(
    requested: str,
    attended: Attended,
    *,
    instance: Instance,
    lnc: int,
    dtype: torch.dtype | str,
    available: Collection[str],
) -> str | None:
    """Decide what computes an attention.

    Args:
        requested: "math" for no kernel, "auto" for one that takes the sizes and gains by it if there is one, "nki"
            insists on it.
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
        refusal = kernel.refusal(attended, lnc, dtype)
        if refusal:
            refusals.append(f"{kernel.name} {refusal}")
        elif requested == "nki" or kernel.gains(attended, instance, lnc):
            return kernel.name
    if requested == "auto":
        return None
    reason = "; ".join(refusals) or "the installed SDK has no attention kernel"
    raise InvalidExportOption(f"--attention nki: {reason}, or choose --attention auto")


_BEYOND = -4.0e4
"""Added to the scores of keys that only fill up a number: diffusers (0.35) adds -10000 to those of padding tokens."""


@dataclass(frozen=True, kw_only=True)
class KernelAttention:
    """Attention by one kernel, as an attention processor calls it.

    Attributes:
        name: a key of `KERNELS`.
        lnc: physical cores per logical core, which share the work.
        masked: whether it computes masked attention as well.
    """

    name: str
    lnc: int
    masked: bool = False

    def __call__(
        self, query_BHQD: Tensor, key_BHKD: Tensor, value_BHKD: Tensor, bias_B11K: Tensor | None = None
    ) -> Tensor:
        """Softmax in float32, matmuls in bfloat16, scale exactly 1/sqrt(D). Returns (B, H, Q, D).

        Args:
            bias_B11K: added to the scores of each key; at least `_BEYOND` where it is not an exact zero.
        """
        import torch
        from torch.nn import functional as F

        scale, limits = query_BHQD.shape[-1] ** -0.5, KERNELS[self.name].tokens[self.lnc]
        queries, keys, width = query_BHQD.shape[2], key_BHKD.shape[2], query_BHQD.shape[3]
        more_queries, more_keys = limits.filled(queries) - queries, limits.filled(keys) - keys
        channel = int(KERNELS[self.name].has_mask_channel(keys, self.lnc, bias_B11K is not None))
        if channel:
            bias = key_BHKD.new_zeros(1, 1, 1, keys) if bias_B11K is None else bias_B11K.float() / scale
            marks = F.pad(bias, (0, more_keys), value=_BEYOND / scale).to(key_BHKD.dtype)
            query_BHQD = F.pad(query_BHQD, (0, 1), value=1.0)
            key_BHKD = F.pad(key_BHKD, (0, 0, 0, more_keys))
            marks = marks.transpose(-1, -2).expand(*key_BHKD.shape[:3], 1)
            key_BHKD = torch.cat([key_BHKD, marks], dim=-1)
            value_BHKD = F.pad(value_BHKD, (0, 1, 0, more_keys))
        query_BHQD = F.pad(query_BHQD, (0, 0, 0, more_queries)) if more_queries else query_BHQD
        query, key, value = (tensor.flatten(0, 1) for tensor in (query_BHQD, key_BHKD, value_BHKD))
        result = launch(self.name, self.lnc, query, key, value, scale).unflatten(0, query_BHQD.shape[:2])
        return result[:, :, :queries, :width] if channel or more_queries else result


def launch(name: str, lnc: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """Call a kernel of the SDK: query (B * H, Q, D), key and value (B * H, K, D) -> (B * H, Q, D)."""
    kernel = KERNELS[name]
    return kernel.call(kernel.load(), query, key, value, scale, lnc)

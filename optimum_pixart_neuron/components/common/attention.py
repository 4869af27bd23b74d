"""Attention: written out, or by a kernel of the hardware where one was chosen.

Shapes: B batch, H heads (of this rank), Q query tokens, K key tokens, D head width.
"""

import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn
from torch.nn import functional as F

from ...parallel.exchange import SequenceExchange
from .attention_kernel import KernelAttention


def attend(query_BHQD: Tensor, key_BHKD: Tensor, value_BHKD: Tensor, bias: Tensor | None = None) -> Tensor:
    """Scaled dot-product attention: matmuls in the dtype of the inputs, softmax in float32.

    `F.scaled_dot_product_attention` is not used: in bfloat16 it lowers to float32 matmuls. The scale is the exact
    1/sqrt(D) of PyTorch's definition.

    Args:
        bias: added to the scores in float32; broadcastable to (B, H, Q, K).

    Returns:
        (B, H, Q, D) in the dtype of `value_BHKD`.
    """
    scores = torch.matmul(query_BHQD, key_BHKD.transpose(-1, -2)).float() * query_BHQD.shape[-1] ** -0.5
    if bias is not None:
        scores = scores + bias.float()
    # The function and not the tensor's method: torch_neuronx puts its own lowering in the function's place.
    return torch.matmul(F.softmax(scores, dim=-1).to(value_BHKD.dtype), value_BHKD)


class WrittenOutAttnProcessor:
    """A diffusers attention processor that calls `attend`; the weights of the `Attention` module keep their names.

    Covers what PixArt's transformer and the VAE's mid block use: self- and cross-attention over tokens (B, N, C), or
    self-attention over an image (B, C, h, w) with its group norm and residual. An attention module with anything
    else switched on is refused when the processor is installed, see `write_out_attention`.

    Attributes:
        exchange: with other ranks, around self-attention; None where this rank has all tokens.
        kernel: computes attention in place of `attend`, masked as far as it can; None for `attend` always.
    """

    exchange: SequenceExchange | None = None
    kernel: KernelAttention | None = None

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """Args as diffusers passes them; `attention_mask` is an additive bias (B, 1, K) that broadcasts over heads."""
        residual = hidden_states
        tokens = self.normalized(attn, hidden_states)
        context = tokens if encoder_hidden_states is None else encoder_hidden_states
        hidden_states = attn.to_out[0](self.attended(attn, tokens, context, attention_mask))
        if residual.ndim == 4:
            # Dense again, as every buffer on the device: a view would make the rest of the VAE channels-last.
            hidden_states = hidden_states.transpose(1, 2).contiguous().view(residual.shape)
        if attn.residual_connection:
            hidden_states = hidden_states + residual
        if attn.rescale_output_factor != 1:
            hidden_states = hidden_states / attn.rescale_output_factor
        return hidden_states

    def normalized(self, attn: Attention, hidden_states: Tensor) -> Tensor:
        """(B, N, C) or (B, C, h, w) -> tokens (B, N, C), after the group norm."""
        if hidden_states.ndim == 4:
            hidden_states = hidden_states.flatten(2).transpose(1, 2)
        if attn.group_norm is not None:
            hidden_states = attn.group_norm(hidden_states.transpose(1, 2)).transpose(1, 2)
        return hidden_states

    def attended(self, attn: Attention, tokens: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        """What tokens (B, N, C) gather of the context (B, K, C): (B, N, C)."""
        query, key, value = attn.to_q(tokens), attn.to_k(context), attn.to_v(context)
        heads = attn.heads
        if self.exchange is not None:
            query, key, value, heads = self.exchange.spread(query, key, value, heads)
        query, key, value = (each.unflatten(-1, (heads, -1)).transpose(1, 2) for each in (query, key, value))
        bias = None if mask is None else mask.unsqueeze(1)
        if self.kernel is not None and (bias is None or self.kernel.masked):
            attended = self.kernel(query, key, value, bias)
        else:
            attended = attend(query, key, value, bias)
        attended = attended.transpose(1, 2).flatten(2)
        return attended if self.exchange is None else self.exchange.collect(attended)


def write_out_attention(module: nn.Module) -> None:
    """Install `WrittenOutAttnProcessor` on every diffusers `Attention` inside `module`, in place.

    Raises:
        ValueError: an attention uses a feature that the processor does not compute; names the module.
    """
    unsupported = ("spatial_norm", "norm_q", "norm_k", "norm_cross", "add_k_proj")
    for name, child in module.named_modules():
        if isinstance(child, Attention):
            used = [feature for feature in unsupported if getattr(child, feature, None)]
            if used:
                raise ValueError(f"{name}: attention with {', '.join(used)} is not part of PixArt")
            child.set_processor(WrittenOutAttnProcessor())

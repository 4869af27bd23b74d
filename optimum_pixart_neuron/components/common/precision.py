"""Normalisation statistics in float32, whatever the dtype of the weights.

In bfloat16 both norms lower to statistics in bfloat16, which costs about two decimal digits in every block. T5's
RMSNorm computes in float32 upstream (transformers 4.57 `T5LayerNorm`) and is left alone.
"""

import torch.nn.functional as F
from torch import Tensor, nn


class _Float32LayerNorm(nn.LayerNorm):
    """`nn.LayerNorm` computed in float32; returns the dtype of its input."""

    def forward(self, input: Tensor) -> Tensor:
        weight = None if self.weight is None else self.weight.float()
        bias = None if self.bias is None else self.bias.float()
        return F.layer_norm(input.float(), self.normalized_shape, weight, bias, self.eps).to(input.dtype)


class Float32GroupNorm(nn.GroupNorm):
    """`nn.GroupNorm` computed in float32; returns the dtype of its input.

    The weights keep the model's dtype: diffusers' `Decoder` (0.35) takes the dtype of its up blocks from the first
    parameter it finds there, which is a norm's, and casts the activations to it.
    """

    def forward(self, input: Tensor) -> Tensor:
        weight, bias = self.weight.float(), self.bias.float()
        return F.group_norm(input.float(), self.num_groups, weight, bias, self.eps).to(input.dtype)


_FLOAT32_CLASS = {nn.LayerNorm: _Float32LayerNorm, nn.GroupNorm: Float32GroupNorm}


def normalize_in_float32(module: nn.Module) -> None:
    """Give every layer norm and group norm inside `module` float32 statistics, in place; names stay as they are."""
    for child in module.modules():
        float32_class = _FLOAT32_CLASS.get(type(child))
        if float32_class is not None:
            child.__class__ = float32_class

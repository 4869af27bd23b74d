"""Layer norm with replicated weights (NxD 0.15 `parallel_layers/layer_norm.py`)."""

import os
from typing import Any

import torch


class LayerNorm(torch.nn.LayerNorm):
    """`torch.nn.LayerNorm` whose weights say whether they take part in sequence parallelism.

    With `XLA_DOWNCAST_BF16=1` the input is normalised in float64 and the result stays float64: NxD casts back and
    drops what the cast returns.
    """

    def __init__(
        self,
        normalized_shape,
        eps=1e-5,
        elementwise_affine=True,
        bias=True,
        device=None,
        dtype=None,
        sequence_parallel_enabled=False,
    ):
        super().__init__(normalized_shape, eps, elementwise_affine, bias, device, dtype)
        self.sequence_parallel_enabled = sequence_parallel_enabled
        parameter: Any  # which takes attributes that its type does not have
        for parameter in self.parameters():
            parameter.sequence_parallel_enabled = sequence_parallel_enabled

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if os.environ.get("XLA_DOWNCAST_BF16") == "1":
            input = input.double()
        return super().forward(input)

"""The rank as data (NxD 0.15 `parallel_layers/layers.py`)."""

import torch
from torch import nn

from .parallel_state import get_tensor_model_parallel_size
from .utils import set_tensor_model_parallel_attributes


class SPMDRank(nn.Module):
    """An int32 weight of shape (1,) that holds a different number on each rank.

    The checkpoint must have `<path>.rank = arange(world_size, dtype=int32)`, or any int32 table of that length; the
    sharder gives each rank its entry. It is the only way a program that all ranks share can tell them apart.
    """

    def __init__(self, world_size: int, tensor_model_parallel_size: int | None = None):
        super().__init__()
        self.world_size = world_size
        if tensor_model_parallel_size is None:
            tensor_model_parallel_size = get_tensor_model_parallel_size()
        self.tensor_model_parallel_size = tensor_model_parallel_size
        self.rank = nn.Parameter(torch.zeros(1, dtype=torch.int32), requires_grad=False)
        self._mark(self.rank)

    def _mark(self, parameter: nn.Parameter) -> None:
        set_tensor_model_parallel_attributes(parameter, True, dim=0, stride=1, num_partitions=self.world_size)

    def get_rank(self) -> torch.Tensor:
        return self.rank

    def initialize_expert_indices(self, num_local_experts: int) -> None:
        """Add `local_expert_indices`, int32 (1, num_local_experts), a row of a table with one row per rank."""
        self.local_expert_indices = nn.Parameter(
            torch.zeros((1, num_local_experts), dtype=torch.int32), requires_grad=False
        )
        self._mark(self.local_expert_indices)

    def get_local_expert_indices(self) -> torch.Tensor:
        return self.local_expert_indices

"""Embedding split by vocabulary or by width (NxD 0.15 `parallel_layers/layers.py`)."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch.nn import init
from torch.nn.parameter import Parameter

from .initialization import BaseParallelLayer, initialize_sharded_cpu, refuse_device
from .mappings import (
    gather_from_tensor_model_parallel_region,
    reduce_from_tensor_model_parallel_region,
    reduce_scatter_to_sequence_parallel_region,
)
from .parallel_state import get_tensor_model_parallel_group
from .spmd_rank import SPMDRank
from .utils import EmbeddingUtility, divide, get_padding_length, set_tensor_model_parallel_attributes


class ParallelEmbedding(BaseParallelLayer):
    """`torch.nn.Embedding` over the tensor-parallel group: ids of any shape -> (..., embedding_dim) on every rank.

    Split over the vocabulary, each rank looks up the ids in its range and the results are summed. Without
    `use_spmd_rank` that range is a constant of the trace, rank 0's on every rank; with it, the range comes from the
    weight `rank_util.rank`. With `shard_across_embedding` each rank looks up a part of the width and the parts are
    gathered, which needs no rank. `pad` adds zero rows (or columns) until the split is even; inference only.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        init_method: Callable[[torch.Tensor], Any] = init.normal_,
        device: torch.device | None = None,
        dtype: torch.dtype = torch.float32,
        shard_across_embedding: bool = False,
        pad: bool = False,
        sequence_parallel_enabled: bool = False,
        tensor_model_parallel_group: Any | None = None,
        use_spmd_rank: bool = False,
        sequence_dimension: int | None = None,
        tile_cc: bool = False,
        rank_ordering: list[int] | None = None,
    ):
        super().__init__(device=device)
        group = tensor_model_parallel_group
        if group is None:
            group = get_tensor_model_parallel_group()
        size = group.size()
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.max_norm = max_norm
        self.norm_type = norm_type
        self.scale_grad_by_freq = scale_grad_by_freq
        self.sparse = sparse
        self.tensor_model_parallel_group = group
        self.tensor_model_parallel_size = size
        self.shard_across_embedding = shard_across_embedding
        self.stride = 1
        self.pad = pad
        self.sequence_parallel_enabled = sequence_parallel_enabled
        self.sequence_dim = sequence_dimension
        self.tile_cc = tile_cc
        self.rank_util = SPMDRank(size) if use_spmd_rank else None
        self.rank_ordering = rank_ordering
        self.init_method = init_method
        self.dtype = dtype

        self.padding_idx = None
        if shard_across_embedding:
            if pad:
                self.pad_size = get_padding_length(self.embedding_dim, size)
                self.embedding_dim += self.pad_size
            self.num_embeddings_per_partition = self.num_embeddings
            self.embedding_dim_per_partition = divide(self.embedding_dim, size)
            self.per_partition_size = self.embedding_dim_per_partition
            self.weight_partition_dim = 1
            if padding_idx:
                self.padding_idx = padding_idx
        else:
            if pad:
                self.pad_size = get_padding_length(self.num_embeddings, size)
                self.num_embeddings += self.pad_size
            self.start_index, self.end_index = EmbeddingUtility.range_from_global_vocab_size(
                self.num_embeddings, group.rank(), size
            )
            self.num_embeddings_per_partition = self.end_index - self.start_index
            self.embedding_dim_per_partition = self.embedding_dim
            self.per_partition_size = self.num_embeddings_per_partition
            self.weight_partition_dim = 0
            if padding_idx and self.start_index <= padding_idx < self.end_index:
                self.padding_idx = padding_idx - self.start_index

        refuse_device(device)
        # `device="meta"` alone does not put the weight there, only `init_on_device` does: so it is in NxD
        self.weight = Parameter(
            torch.empty(self.num_embeddings_per_partition, self.embedding_dim_per_partition, dtype=dtype)
        )
        if self.weight.is_meta:
            set_tensor_model_parallel_attributes(
                self.weight, True, self.weight_partition_dim, 1, size, rank_ordering=rank_ordering
            )
        else:
            self.init_weight_cpu()

    def init_weight_cpu(self) -> None:
        initialize_sharded_cpu(
            self.weight, self.weight_partition_dim, self.tensor_model_parallel_size, self.init_method, self.dtype
        )

    def _look_up(self, ids: torch.Tensor) -> torch.Tensor:
        return F.embedding(
            ids.long(),
            self.weight,
            self.padding_idx,
            self.max_norm,
            self.norm_type,
            self.scale_grad_by_freq,
            self.sparse,
        )

    def _forward_shard_across_vocab(self, input_: torch.Tensor) -> torch.Tensor:
        if self.tensor_model_parallel_size == 1:
            output = self._look_up(input_)
        else:
            start: int | torch.Tensor = self.start_index
            end: int | torch.Tensor = self.end_index
            if self.rank_util is not None:
                rank = self.rank_util.get_rank()
                start = self.num_embeddings_per_partition * rank
                end = self.num_embeddings_per_partition * (rank + 1)
            mine = (input_ >= start) & (input_ < end)
            output = self._look_up((input_ - start) * mine.long())
            # whatever is not float32 leaves as bfloat16, float16 included
            mask_dtype = torch.float32 if self.dtype == torch.float32 else torch.bfloat16
            output = (output * mine.to(mask_dtype).unsqueeze(-1)).to(mask_dtype)
        if not self.sequence_parallel_enabled:
            return reduce_from_tensor_model_parallel_region(output, process_group=self.tensor_model_parallel_group)
        if self.sequence_dim:
            return output
        return reduce_scatter_to_sequence_parallel_region(
            output.transpose(0, 1).contiguous(), process_group=self.tensor_model_parallel_group
        )

    def _forward_shard_across_embed(self, input_: torch.Tensor) -> torch.Tensor:
        output = gather_from_tensor_model_parallel_region(
            self._look_up(input_), process_group=self.tensor_model_parallel_group
        )
        if self.pad and self.pad_size > 0:
            output = output.narrow(-1, 0, self.embedding_dim - self.pad_size)
        return output

    def forward(self, input_: torch.Tensor) -> torch.Tensor:
        if self.pad and self.training:
            raise RuntimeError("pad=True is for inference: call eval() first")
        if self.shard_across_embedding:
            return self._forward_shard_across_embed(input_)
        return self._forward_shard_across_vocab(input_)

    def preshard_hook(self, model_state_dict: dict[str, torch.Tensor], prefix: str) -> None:
        """Pad the whole weight `prefix` of the checkpoint; RuntimeError when it has not the size it was built for."""
        if not self.pad or self.pad_size == 0:
            return
        padded_size = self.embedding_dim if self.shard_across_embedding else self.num_embeddings
        size = model_state_dict[prefix].shape[self.weight_partition_dim]
        if padded_size != size + self.pad_size:
            raise RuntimeError(f"{prefix} has size {size} in the checkpoint, expected {padded_size - self.pad_size}")
        padding = (0, self.pad_size) if self.shard_across_embedding else (0, 0, 0, self.pad_size)
        model_state_dict[prefix] = F.pad(model_state_dict[prefix], padding)

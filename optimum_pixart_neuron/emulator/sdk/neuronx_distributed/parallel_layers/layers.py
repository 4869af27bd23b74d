"""Linear layers over the tensor-parallel group, and the home of every parallel layer's name.

NxD 0.15 `parallel_layers/layers.py`. `dtype` is float32 unless given: build with it or cast the module afterwards.
"""

import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.parameter import Parameter

from .conv import InputChannelParallelConv2d, OutputChannelParallelConv2d
from .embedding import ParallelEmbedding
from .initialization import BaseParallelLayer, create_local_weight, initialize_sharded_cpu, refuse_device
from .mappings import (
    _gather_along_dim,
    copy_to_tensor_model_parallel_region,
    gather_from_tensor_model_parallel_region,
    reduce_from_tensor_model_parallel_region,
    reduce_scatter_to_sequence_parallel_region,
    scatter_to_tensor_model_parallel_region,
)
from .parallel_state import get_tensor_model_parallel_group
from .spmd_rank import SPMDRank
from .utils import (
    divide,
    get_padding_length,
    param_is_not_tensor_parallel_duplicate,
    set_tensor_model_parallel_attributes,
)

__all__ = [
    "BaseParallelLayer",
    "BaseParallelLinear",
    "ColumnParallelLinear",
    "InputChannelParallelConv2d",
    "OutputChannelParallelConv2d",
    "ParallelEmbedding",
    "RowParallelLinear",
    "SPMDRank",
    "create_local_weight",
    "param_is_not_tensor_parallel_duplicate",
]

LinearOutput = torch.Tensor | tuple[torch.Tensor, torch.Tensor | None]


class BaseParallelLinear(BaseParallelLayer):
    """What column and row layers share. Weights are (out, in), split on `weight_partition_dim`."""

    weight_shape: tuple[int, int]
    weight_partition_dim: int
    bias_shape: tuple[int] | None
    pad_size: int  # with `pad`

    def _keep_arguments(
        self,
        *,
        input_size: int,
        output_size: int,
        bias: bool,
        dtype: torch.dtype,
        device: torch.device | None,
        stride: int,
        init_method: Callable[[torch.Tensor], Any] | None,
        sequence_parallel_enabled: bool,
        sequence_dimension: int | None,
        keep_master_weight: bool,
        skip_bias_add: bool,
        pad: bool,
        tensor_model_parallel_group: Any | None,
        reduce_dtype: torch.dtype | None,
        rank_ordering: list[int] | None,
    ) -> None:
        self.input_size = input_size
        self.output_size = output_size
        self.add_bias = bias
        self.dtype = dtype
        self.device = device
        self.stride = stride
        self.arg_init_method = init_method
        self.sequence_parallel_enabled = sequence_parallel_enabled
        self.sequence_dimension = sequence_dimension
        self.keep_master_weight = keep_master_weight
        self.skip_bias_add = skip_bias_add
        self.pad = pad
        self.reduce_dtype = dtype if reduce_dtype is None else reduce_dtype
        self.rank_ordering = rank_ordering
        group = tensor_model_parallel_group
        self.tensor_parallel_group = get_tensor_model_parallel_group() if group is None else group

    def _default_sequence_dimension(self) -> None:
        if self.sequence_parallel_enabled and self.sequence_dimension is None:
            warnings.warn("sequence_parallel_enabled without a sequence_dimension: taking dimension 0", stacklevel=3)
            self.sequence_dimension = 0

    def _mark(self, parameter: Parameter, dim: int) -> None:
        partitions = self.tensor_parallel_group.size()
        set_tensor_model_parallel_attributes(
            parameter, True, dim, self.stride, partitions, rank_ordering=self.rank_ordering
        )

    def _init_weight(self, weight: torch.Tensor) -> None:
        if self.arg_init_method is None:
            nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
        else:
            self.arg_init_method(weight)

    def _bias_fan_in(self) -> int:
        return self.weight.shape[1]

    def _init_bias(self) -> None:
        bound = 1 / math.sqrt(self._bias_fan_in()) if self._bias_fan_in() > 0 else 0
        nn.init.uniform_(self.bias, -bound, bound)

    def set_weight_and_bias_config(self) -> None:
        raise NotImplementedError

    def initialize_weight_and_bias(self) -> None:
        """Create `weight` and `bias` in the shapes of `set_weight_and_bias_config`, marked for the sharder."""
        self.set_weight_and_bias_config()
        refuse_device(self.device)
        self.weight = Parameter(torch.empty(self.weight_shape, device=self.device, dtype=self.dtype))
        self.device = self.weight.device  # `init_on_device` may have moved it
        if self.weight.is_meta:
            self._mark(self.weight, self.weight_partition_dim)
        else:
            self.init_weight_cpu()
        if self.bias_shape is None:
            self.register_parameter("bias", None)
            return
        self.bias = Parameter(torch.empty(self.bias_shape, device=self.device, dtype=self.dtype))
        if not self.bias.is_meta:
            self._init_bias()

    def init_weight_cpu(self) -> None:
        self.master_weight = initialize_sharded_cpu(
            self.weight,
            self.weight_partition_dim,
            self.tensor_parallel_group.size(),
            self._init_weight,
            self.dtype,
            stride=self.stride,
            return_master_param=self.keep_master_weight,
        )

    def _check_pad_false_for_training(self) -> None:
        if self.pad and self.training:
            raise RuntimeError("pad=True is for inference: call eval() first")

    def _add_bias(self, output: torch.Tensor) -> LinearOutput:
        if self.skip_bias_add:
            return output, self.bias
        return output if self.bias is None else output + self.bias

    def _check_checkpoint_size(self, size: int, built_for: int, name: str) -> None:
        if built_for != size + self.pad_size:
            raise RuntimeError(f"{name} has size {size} in the checkpoint, expected {built_for - self.pad_size}")


def _matmul(input: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """(..., m) x (n, m) -> (..., n), by the same contraction as NxD so that the bits agree."""
    return torch.einsum("...m,mn->...n", input, weight.t())


class ColumnParallelLinear(BaseParallelLinear):
    """Linear layer whose outputs are split over the ranks: (..., in) -> (..., out / size), or (..., out) gathered.

    The bias is split too, unless `gather_output`: then it is whole on each rank and added after the gather. `pad`
    enlarges the output until `size * pad_alignment_size_per_rank` divides it: weights are padded with zeros, a bias
    with the most negative number of its dtype (meant for logits), and a gathered output is cut back unless
    `keep_padded_output`. With `sequence_parallel_enabled` the input is first gathered along `sequence_dimension`.
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        bias: bool = True,
        gather_output: bool = True,
        dtype: torch.dtype = torch.float32,
        device: torch.device | None = None,
        stride: int = 1,
        init_method: Callable[[torch.Tensor], Any] | None = None,
        sequence_parallel_enabled: bool = False,
        sequence_dimension: int | None = None,
        keep_master_weight: bool = False,
        skip_bias_add: bool = False,
        pad: bool = False,
        pad_alignment_size_per_rank: int = 1,
        keep_padded_output: bool = False,
        tensor_model_parallel_group: Any | None = None,
        reduce_dtype: torch.dtype = torch.float32,
        rank_ordering: list[int] | None = None,
    ):
        super().__init__(device=device)
        self._keep_arguments(
            input_size=input_size,
            output_size=output_size,
            bias=bias,
            dtype=dtype,
            device=device,
            stride=stride,
            init_method=init_method,
            sequence_parallel_enabled=sequence_parallel_enabled,
            sequence_dimension=sequence_dimension,
            keep_master_weight=keep_master_weight,
            skip_bias_add=skip_bias_add,
            pad=pad,
            tensor_model_parallel_group=tensor_model_parallel_group,
            reduce_dtype=reduce_dtype,
            rank_ordering=rank_ordering,
        )
        self.gather_output = gather_output
        self.keep_padded_output = keep_padded_output
        size = self.tensor_parallel_group.size()
        if pad:
            self.pad_size = get_padding_length(self.output_size, pad_alignment_size_per_rank * size)
            self.output_size += self.pad_size
        self.output_size_per_partition = divide(self.output_size, size)
        self.initialize_weight_and_bias()
        self.async_tensor_model_parallel_allreduce = not sequence_parallel_enabled and size > 1
        if sequence_parallel_enabled and size <= 1:
            warnings.warn(f"sequence_parallel_enabled has no effect in a group of {size}", stacklevel=2)
        self._default_sequence_dimension()

    def set_weight_and_bias_config(self) -> None:
        self.weight_shape = (self.output_size_per_partition, self.input_size)
        self.weight_partition_dim = 0
        self.bias_shape = None
        if self.add_bias:
            self.bias_shape = (self.output_size if self.gather_output else self.output_size_per_partition,)
            self.bias_partition_dim = 0

    def initialize_weight_and_bias(self) -> None:
        super().initialize_weight_and_bias()
        if self.add_bias and not self.gather_output:
            self._mark(self.bias, self.bias_partition_dim)

    def forward(self, input: torch.Tensor, slice_indices: torch.Tensor | None = None) -> LinearOutput:
        """`slice_indices` picks rows of this rank's weight. Returns (output, bias) with `skip_bias_add`."""
        self._check_pad_false_for_training()
        if self.sequence_parallel_enabled:
            input = _gather_along_dim(input, self.sequence_dimension or 0, process_group=self.tensor_parallel_group)
        else:
            input = copy_to_tensor_model_parallel_region(input, process_group=self.tensor_parallel_group)
        weight = self.weight if slice_indices is None else self.weight[slice_indices, :]
        output = _matmul(input, weight)
        if self.gather_output:
            assert not self.sequence_parallel_enabled, "gather_output does not go with sequence_parallel_enabled"
            output = gather_from_tensor_model_parallel_region(output, process_group=self.tensor_parallel_group)
            if self.pad and self.pad_size > 0 and not self.keep_padded_output:
                output = output.narrow(-1, 0, self.output_size - self.pad_size)
        return self._add_bias(output)

    def preshard_hook(self, model_state_dict: dict[str, torch.Tensor], prefix: str) -> None:
        """Pad the whole tensor `prefix`, a weight or a bias; RuntimeError when it has not the size built for."""
        if not self.pad or self.pad_size == 0:
            return
        tensor = model_state_dict[prefix]
        self._check_checkpoint_size(tensor.shape[0], self.output_size, prefix)
        if prefix.endswith("weight"):
            model_state_dict[prefix] = F.pad(tensor, (0, 0, 0, self.pad_size))
        elif prefix.endswith("bias"):
            model_state_dict[prefix] = F.pad(tensor, (0, self.pad_size), value=torch.finfo(tensor.dtype).min)
        else:
            raise RuntimeError(f"cannot pad {prefix}: the name ends neither in weight nor in bias")


class RowParallelLinear(BaseParallelLinear):
    """Linear layer whose inputs are split over the ranks: (..., in / size) -> (..., out), summed over the group.

    With `input_is_parallel=False` the input is whole and each rank takes a slice of it; which one is a constant of
    the trace, rank 0's on every rank. The sum runs in `reduce_dtype` and is cast back; the bias is whole and added
    once, after it. `reduce_output=False` leaves partial sums. `pad` enlarges the input with zeros.
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        bias: bool = True,
        input_is_parallel: bool = False,
        dtype: torch.dtype = torch.float32,
        device: torch.device | None = None,
        stride: int = 1,
        init_method: Callable[[torch.Tensor], Any] | None = None,
        sequence_parallel_enabled: bool = False,
        sequence_dimension: int | None = None,
        keep_master_weight: bool = False,
        skip_bias_add: bool = False,
        pad: bool = False,
        reduce_output: bool = True,
        tensor_model_parallel_group: Any | None = None,
        reduce_dtype: torch.dtype = torch.float32,
        tile_cc: bool = False,
        rank_ordering: list[int] | None = None,
    ):
        super().__init__(device=device)
        self._keep_arguments(
            input_size=input_size,
            output_size=output_size,
            bias=bias,
            dtype=dtype,
            device=device,
            stride=stride,
            init_method=init_method,
            sequence_parallel_enabled=sequence_parallel_enabled,
            sequence_dimension=sequence_dimension,
            keep_master_weight=keep_master_weight,
            skip_bias_add=skip_bias_add,
            pad=pad,
            tensor_model_parallel_group=tensor_model_parallel_group,
            reduce_dtype=reduce_dtype,
            rank_ordering=rank_ordering,
        )
        self.input_is_parallel = input_is_parallel
        self.reduce_output = reduce_output
        self.tile_cc = tile_cc
        size = self.tensor_parallel_group.size()
        if pad:
            self.pad_size = get_padding_length(self.input_size, size)
            self.input_size += self.pad_size
        self.input_size_per_partition = divide(self.input_size, size)
        if sequence_parallel_enabled and not input_is_parallel:
            raise RuntimeError("sequence_parallel_enabled needs input_is_parallel=True")
        self._default_sequence_dimension()
        self.initialize_weight_and_bias()

    def set_weight_and_bias_config(self) -> None:
        self.weight_shape = (self.output_size, self.input_size_per_partition)
        self.weight_partition_dim = 1
        self.bias_shape = (self.output_size,) if self.add_bias else None

    def initialize_weight_and_bias(self) -> None:
        super().initialize_weight_and_bias()
        bias: Any = self.bias  # which takes attributes that its type does not have
        if bias is not None:
            bias.sequence_parallel_enabled = self.sequence_parallel_enabled

    def forward(self, input_: torch.Tensor, slice_indices: torch.Tensor | None = None) -> LinearOutput:
        """`slice_indices` picks columns of this rank's weight. Returns (output, bias) with `skip_bias_add`."""
        self._check_pad_false_for_training()
        if not self.input_is_parallel:
            if self.pad and self.pad_size > 0:
                input_ = F.pad(input_, (0, self.pad_size))
            input_ = scatter_to_tensor_model_parallel_region(input_, process_group=self.tensor_parallel_group)
        weight = self.weight if slice_indices is None else self.weight[:, slice_indices]
        output = _matmul(input_, weight)
        if self.reduce_output:
            output = self._reduce(output.to(self.reduce_dtype)).to(output.dtype)
        return self._add_bias(output)

    def _reduce(self, output: torch.Tensor) -> torch.Tensor:
        group = self.tensor_parallel_group
        if self.sequence_parallel_enabled:
            return reduce_scatter_to_sequence_parallel_region(
                output, self.sequence_dimension or 0, process_group=group
            )
        return reduce_from_tensor_model_parallel_region(output, process_group=group)

    def preshard_hook(self, model_state_dict: dict[str, torch.Tensor], prefix: str) -> None:
        """Pad the whole weight `prefix`; it is called for the bias as well, whose one dimension is an IndexError."""
        if not self.pad or self.pad_size == 0:
            return
        self._check_checkpoint_size(model_state_dict[prefix].shape[1], self.input_size, prefix)
        model_state_dict[prefix] = F.pad(model_state_dict[prefix], (0, self.pad_size))

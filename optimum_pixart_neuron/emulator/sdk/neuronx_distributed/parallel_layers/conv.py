"""2-D convolutions split by channel (NxD 0.15 `parallel_layers/layers.py`)."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.parameter import Parameter

from .initialization import initialize_sharded_cpu, refuse_device
from .mappings import (
    copy_to_tensor_model_parallel_region,
    gather_from_tensor_model_parallel_region_with_dim,
    reduce_from_tensor_model_parallel_region,
    scatter_input_channels_to_tensor_model_parallel_region,
)
from .parallel_state import get_tensor_model_parallel_size
from .utils import divide, get_padding_length, set_tensor_model_parallel_attributes

OUTPUT_CHANNELS, INPUT_CHANNELS = 0, 1  # dims of a kernel (out, in, height, width)
IntOrPair = int | tuple[int, int]


def _pair(value: IntOrPair) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    if isinstance(value, tuple):
        return value
    raise TypeError(f"expected an int or a tuple of two, got {type(value).__name__}")


class BaseParallelConv(nn.Module):
    """Kernel (out, in, h, w) split on `partition_dim`; the bias is split when the output channels are.

    `partition_pad` enlarges the split channels until the tensor-parallel size divides them. NotImplementedError for
    dilation, groups or a padding mode other than zeros, as in NxD.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntOrPair,
        stride: IntOrPair,
        padding: IntOrPair,
        dilation: IntOrPair,
        groups: int,
        bias: bool,
        padding_mode: str,
        partition_dim: int,
        dtype: torch.dtype,
        device: torch.device | None = None,
        init_method: Callable[[torch.Tensor], Any] | None = None,
        keep_master_params: bool = False,
        partition_pad: bool = False,
    ):
        if _pair(dilation) != (1, 1) or groups != 1 or padding_mode != "zeros":
            raise NotImplementedError(
                f"only dilation 1, groups 1 and padding mode zeros work, not {dilation}, {groups} and {padding_mode}"
            )
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = _pair(kernel_size)
        self.stride = _pair(stride)
        self.padding = _pair(padding)
        self.partition_dim = partition_dim
        self.arg_init_method = init_method
        self.dtype = dtype
        self.keep_master_params = keep_master_params
        self.partition_pad = partition_pad

        size = get_tensor_model_parallel_size()
        split = "out_channels" if partition_dim == OUTPUT_CHANNELS else "in_channels"
        if partition_pad:
            self.partition_pad_size = get_padding_length(getattr(self, split), size)
            setattr(self, split, getattr(self, split) + self.partition_pad_size)
        self.channels_per_partition = divide(getattr(self, split), size)
        shape = [self.out_channels, self.in_channels, *self.kernel_size]
        shape[partition_dim] = self.channels_per_partition

        refuse_device(device)
        self.weight = Parameter(torch.empty(shape, dtype=dtype, device=device))
        if self.weight.is_meta:
            set_tensor_model_parallel_attributes(self.weight, True, partition_dim, 1, size)
        else:
            self.master_weight = self._initialize(self.weight, partition_dim, self._init_weight)
        if bias:
            self._make_bias(device)
        else:
            self.register_parameter("bias", None)

    def _make_bias(self, device: torch.device | None) -> None:
        split = self.partition_dim == OUTPUT_CHANNELS
        channels = self.channels_per_partition if split else self.out_channels
        self.bias = Parameter(torch.empty(channels, dtype=self.dtype, device=device))
        self.master_bias: torch.Tensor | None
        if self.bias.is_meta:  # left unmarked even when split, as in NxD: the sharder then refuses its shape
            self.master_bias = self.bias if self.keep_master_params else None
        elif split:
            self.master_bias = self._initialize(self.bias, OUTPUT_CHANNELS, self._init_bias)
        else:
            self._init_bias(self.bias)
            self.master_bias = self.bias if self.keep_master_params else None

    def _initialize(self, parameter: Parameter, dim: int, init_method: Callable) -> torch.Tensor | None:
        return initialize_sharded_cpu(
            parameter,
            dim,
            get_tensor_model_parallel_size(),
            init_method,
            self.dtype,
            return_master_param=self.keep_master_params,
        )

    def _init_weight(self, weight: torch.Tensor) -> None:
        if self.arg_init_method is None:
            nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
        else:
            self.arg_init_method(weight)

    def _init_bias(self, bias: torch.Tensor) -> None:
        fan_in = self.weight[0].numel()
        bound = 1 / math.sqrt(fan_in) if fan_in > 0 else 0
        nn.init.uniform_(bias, -bound, bound)


class OutputChannelParallelConv2d(BaseParallelConv):
    """Convolution whose output channels are split: (n, in, h, w) -> (n, out, h', w'), or out / size not gathered."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntOrPair,
        stride: IntOrPair = 1,
        padding: IntOrPair = 0,
        dilation: IntOrPair = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        gather_output: bool = True,
        dtype: torch.dtype = torch.float32,
        device: torch.device | None = None,
        init_method: Callable[[torch.Tensor], Any] | None = None,
        keep_master_weight: bool = False,
        partition_pad: bool = False,
    ):
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            padding_mode,
            OUTPUT_CHANNELS,
            dtype,
            device,
            init_method,
            keep_master_weight,
            partition_pad,
        )
        self.allreduce_weight_grad = get_tensor_model_parallel_size() > 1
        self.gather_output = gather_output

    def forward(self, in_tensor: torch.Tensor) -> torch.Tensor:
        in_tensor = copy_to_tensor_model_parallel_region(in_tensor)
        output = F.conv2d(in_tensor, self.weight, self.bias, self.stride, self.padding)
        if self.gather_output:
            output = gather_from_tensor_model_parallel_region_with_dim(output, gather_dim=1)
            if self.partition_pad and self.partition_pad_size > 0:
                output = output.narrow(1, 0, self.out_channels - self.partition_pad_size)
        return output

    def preshard_hook(self, model_state_dict: dict[str, torch.Tensor], prefix: str) -> None:
        """Pad the whole kernel `prefix`; RuntimeError when it has not the size built for."""
        if not self.partition_pad or self.partition_pad_size == 0:
            return
        size = model_state_dict[prefix].shape[0]
        if self.out_channels != size + self.partition_pad_size:
            expected = self.out_channels - self.partition_pad_size
            raise RuntimeError(f"{prefix} has {size} output channels in the checkpoint, expected {expected}")
        padding = (0, 0, 0, 0, 0, 0, 0, self.partition_pad_size)
        model_state_dict[prefix] = F.pad(model_state_dict[prefix], padding)


class InputChannelParallelConv2d(BaseParallelConv):
    """Convolution whose input channels are split: (n, in / size, h, w) -> (n, out, h', w'), summed over the group.

    With `input_is_parallel=False` the input is whole and split by the rank of the trace, rank 0's on every rank.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntOrPair,
        stride: IntOrPair = 1,
        padding: IntOrPair = 0,
        dilation: IntOrPair = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        input_is_parallel: bool = False,
        dtype: torch.dtype = torch.float32,
        device: torch.device | None = None,
        init_method: Callable[[torch.Tensor], Any] | None = None,
        keep_master_weight: bool = False,
        partition_pad: bool = False,
    ):
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            padding_mode,
            INPUT_CHANNELS,
            dtype,
            device,
            init_method,
            keep_master_weight,
            partition_pad,
        )
        self.input_is_parallel = input_is_parallel

    def forward(self, in_tensor: torch.Tensor) -> torch.Tensor:
        if not self.input_is_parallel:
            in_tensor = scatter_input_channels_to_tensor_model_parallel_region(in_tensor)
        output = F.conv2d(in_tensor, self.weight, None, self.stride, self.padding)
        output = reduce_from_tensor_model_parallel_region(output)
        return output if self.bias is None else output + self.bias[:, None, None]

"""Building a module without memory for its weights, and the platform's LNC (NxD 0.15 `utils/model_utils.py`)."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from unittest.mock import patch

import torch
from torch import nn
from torch_neuronx.utils import get_platform_target


class LogicalNCConfig(IntEnum):
    """Physical cores per logical NeuronCore."""

    LNC_1 = 1
    LNC_2 = 2


def get_platform_lnc() -> LogicalNCConfig:
    """`NEURON_LOGICAL_NC_CONFIG` when set, else 2 on trn2 and 1 elsewhere."""
    chosen = int(os.environ.get("NEURON_LOGICAL_NC_CONFIG", "-1"))
    if chosen != -1:
        return LogicalNCConfig(chosen)
    return LogicalNCConfig.LNC_2 if get_platform_target() == "trn2" else LogicalNCConfig.LNC_1


@contextmanager
def init_on_device(
    device: torch.device, include_buffers: bool = False, force_custom_init_on_device: bool = False
) -> Iterator[None]:
    """Modules built inside have their parameters on `device`, moved there as each one is registered.

    Buffers and plain tensors keep their own device unless `include_buffers`. accelerate's context manager serves
    when it is installed, except with `force_custom_init_on_device`, which keeps `requires_grad=False` intact.

    Attributes that a parameter carries when it is registered become keyword arguments of its class, so marking a
    parameter for tensor parallelism before registering it is a TypeError, as with NxD.
    """
    if not force_custom_init_on_device:
        from accelerate import init_on_device as accelerate_init_on_device

        with accelerate_init_on_device(device, include_buffers=include_buffers):
            yield
        return

    register_parameter, register_buffer = nn.Module.register_parameter, nn.Module.register_buffer

    def register_moved_parameter(module, name, param):
        register_parameter(module, name, param)
        if param is None or param.device == device:  # an already moved one is a tie: moving again would cut it
            return
        attributes = dict(param.__dict__, requires_grad=param.requires_grad)
        module._parameters[name] = type(param)(param.to(device), **attributes)

    def register_moved_buffer(module, name, tensor, persistent=True):
        register_buffer(module, name, tensor, persistent=persistent)
        if tensor is not None:
            module._buffers[name] = tensor.to(device)

    with patch.object(nn.Module, "register_parameter", register_moved_parameter):
        with patch.object(nn.Module, "register_buffer", register_moved_buffer if include_buffers else register_buffer):
            yield

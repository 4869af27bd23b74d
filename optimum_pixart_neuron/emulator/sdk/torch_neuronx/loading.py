"""What can be set on a traced module before saving or after loading (torch-neuronx API reference, inference)."""

import logging
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from optimum_pixart_neuron.emulator import core_ops, single_core

from .placement import check_cores

logger = logging.getLogger(__name__)


def dynamic_batch(neuron_script: torch.jit.ScriptModule) -> torch.jit.ScriptModule:
    """Let the module take any batch size on dim 0, in chunks of the compiled one; returns the same module.

    Raises:
        RuntimeError: an input or output has another size of dim 0 than the rest.
    """
    for model in single_core.neuron_models(neuron_script):
        core_ops.check_batched(single_core.program_of(model))
        model.dynamic_batch = True
    return neuron_script


def async_load(trace: torch.jit.ScriptModule, enable_async_load: bool = True) -> None:
    """Record that loading may go on in the background. Set it before saving."""
    for model in single_core.neuron_models(trace):
        model.asynchronous = enable_async_load


def lazy_load(trace: torch.jit.ScriptModule, enable_lazy_load: bool = True) -> None:
    """Record that the module is loaded at its first call or by DataParallel. Set it before saving."""
    for model in single_core.neuron_models(trace):
        model.lazy = enable_lazy_load


def move_trace_to_device(trace: torch.jit.ScriptModule, device_id: int) -> None:
    """Put separated weights on a core. Device memory is the host's here, so only the core is checked.

    Raises:
        ValueError: there is no such visible core.
    """
    check_cores(device_id, 1)


def replace_weights(neuron_model: nn.Module, weights: Mapping[str, Tensor] | nn.Module) -> None:
    """Replace separated weights in place; entries that the program does not have are ignored.

    Args:
        neuron_model: traced with `inline_weights_to_neff=False`, or a DataParallel of such a module.
        weights: a state dict, or the module that has it.

    Raises:
        RuntimeError: a weight has another shape or dtype than the compiled one.
    """
    state = weights.state_dict() if isinstance(weights, nn.Module) else weights
    holders = [part for part in neuron_model.modules() if getattr(part, "original_name", None) == "Weights"]
    if not holders:
        logger.warning("nothing was replaced: the weights are inlined, trace with inline_weights_to_neff=False")
    for holder in holders:
        for path, parameter in holder.named_parameters():
            value = state.get(path.replace("->", "."))
            if value is None:
                continue
            if value.shape != parameter.shape or value.dtype != parameter.dtype:
                raise RuntimeError(
                    f"weight {path}: compiled for {parameter.dtype}{list(parameter.shape)}, "
                    f"got {value.dtype}{list(value.shape)}"
                )
            parameter.data.copy_(value.detach())

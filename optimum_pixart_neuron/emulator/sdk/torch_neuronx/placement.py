"""Placement of traced modules on NeuronCores (torch-neuronx API reference, core placement).

Core indices are relative to the cores visible to the process. A module without single-core programs (an NxD or an
eager one) is left alone.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from optimum_pixart_neuron.emulator import single_core
from optimum_pixart_neuron.emulator.device import current_device
from optimum_pixart_neuron.emulator.launching import prepare_ranks
from optimum_pixart_neuron.emulator.surfacing import surface


def set_neuron_cores(trace: nn.Module, start_nc: int = -1, nc_count: int = -1) -> None:
    """Load on `nc_count` consecutive cores from `start_nc`: copies that take turns.

    Args:
        trace: a traced module, changed in place.
        start_nc: -1 for the core with most memory left.
        nc_count: -1 for one core.

    Raises:
        RuntimeError: the runtime cannot be initialised, or the program does not load.
        ValueError: the cores are not among the visible ones.
    """
    check_cores(start_nc, nc_count)
    surface(trace)
    for model in single_core.neuron_models(trace):
        model.load(start_nc, nc_count)
    if hasattr(trace, "nxd_model"):  # optimum-neuron 0.4.5 calls this just before it reads the weights
        prepare_ranks()


def set_multicore(trace: nn.Module) -> None:
    """Load on all visible cores."""
    set_neuron_cores(trace, 0, len(current_device().visible))


@contextmanager
def neuron_cores_context(start_nc: int = -1, nc_count: int = -1) -> Iterator[None]:
    """Where modules that are traced or loaded within it will be placed, unless something else says.

    The emulator places at the first call, so a module must be called, or placed, within the context.
    """
    check_cores(start_nc, nc_count)
    device = current_device()
    with device.placing(start_nc, nc_count):
        yield


@contextmanager
def multicore_context() -> Iterator[None]:
    """`neuron_cores_context` of all visible cores."""
    with neuron_cores_context(0, len(current_device().visible)):
        yield


def check_cores(start_nc: int, nc_count: int) -> None:
    """ValueError unless the arguments name visible cores."""
    visible = len(current_device().visible)
    if nc_count == 0 or nc_count < -1 or nc_count > visible:
        raise ValueError(f"nc_count {nc_count}: give -1 or 1 to {visible}, the number of visible NeuronCores")
    if start_nc < -1 or start_nc + max(nc_count, 1) > visible:
        raise ValueError(f"start_nc {start_nc} with nc_count {nc_count}: only {visible} NeuronCores are visible")

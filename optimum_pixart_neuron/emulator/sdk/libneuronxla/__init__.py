"""Emulated libneuronxla: compiling, and the compile cache."""

from optimum_pixart_neuron.emulator.release import distributions

from .compiling import neuron_xla_compile, neuron_xla_wlo_compile

__version__ = distributions()["libneuronxla"]

__all__ = ["neuron_xla_compile", "neuron_xla_wlo_compile"]

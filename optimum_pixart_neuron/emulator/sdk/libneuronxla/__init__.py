"""Emulated libneuronxla: compiling, and the compile cache."""

from .compiling import neuron_xla_compile, neuron_xla_wlo_compile

__version__ = "2.2.12677.0+emulated"

__all__ = ["neuron_xla_compile", "neuron_xla_wlo_compile"]

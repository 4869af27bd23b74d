"""Emulated neuronxcc: its version. Compilation is tracing, done by torch_neuronx and neuronx_distributed."""

from optimum_pixart_neuron.emulator.release import distributions

__version__ = distributions()["neuronx-cc"]

"""Emulated torch_neuronx.experimental: the beta names of placement, which optimum-neuron 0.4.5 calls."""

from ..placement import multicore_context, neuron_cores_context, set_multicore, set_neuron_cores

__all__ = ["multicore_context", "neuron_cores_context", "set_multicore", "set_neuron_cores"]

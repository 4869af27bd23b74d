"""Emulated torch_neuronx: tracing, placement and data parallelism of single-core programs on the CPU.

Signatures and behaviour follow the torch-neuronx inference API reference
(`frameworks/torch/torch-neuronx/api-reference-guide/inference/`), release 2.8.0.2.10 of SDK 2.26.
"""

from optimum_pixart_neuron.emulator.release import distributions

from . import contexts, experimental, lowering, utils
from .data_parallel import DataParallel
from .loading import async_load, dynamic_batch, lazy_load, move_trace_to_device, replace_weights
from .placement import multicore_context, neuron_cores_context, set_multicore, set_neuron_cores
from .tracing import trace

__version__ = distributions()["torch-neuronx"]

__all__ = [
    "DataParallel",
    "async_load",
    "contexts",
    "dynamic_batch",
    "experimental",
    "lazy_load",
    "lowering",
    "move_trace_to_device",
    "multicore_context",
    "neuron_cores_context",
    "replace_weights",
    "set_multicore",
    "set_neuron_cores",
    "trace",
    "utils",
]

"""CPU emulation of the NxD 0.15 surface that sharded inference needs; it never reaches a NeuronCore.

Behaviour follows neuronx_distributed 0.15 (`src/neuronx_distributed/`); nothing offered here is gone in 0.18.
"""

from optimum_pixart_neuron.emulator.release import distributions

from . import parallel_layers, trace, utils

__version__ = distributions()["neuronx-distributed"]

__all__ = ["parallel_layers", "trace", "utils"]

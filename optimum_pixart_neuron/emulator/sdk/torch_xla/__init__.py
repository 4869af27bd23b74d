"""Emulated torch_xla: the calls that optimum-neuron and neuronx-distributed code makes; there is no XLA device.

Tensors stay on the CPU. Collectives work inside programs that the emulator compiles and nowhere else.
"""

import torch

__version__ = "2.8.1+emulated"


def device(index: int | None = None) -> torch.device:
    """The CPU: the emulator moves nothing to an XLA device."""
    return torch.device("cpu")


def sync(wait: bool = False) -> None:
    """Nothing is pending: operations outside compiled programs run at once."""

"""How tensors travel between the process that loads a model and its ranks.

Weights go once, through one anonymous shared file that every rank maps; inputs and outputs as bytes in messages.
"""

import mmap
import os
import tempfile
from dataclasses import dataclass

import torch
from torch import Tensor

_ALIGNMENT = 64

# dtype name, shape and raw bytes of one tensor
Message = tuple[str, tuple[int, ...], bytes]


def to_message(tensor: Tensor) -> Message:
    raw = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), raw


def from_message(message: Message) -> Tensor:
    name, shape, raw = message
    dtype = getattr(torch, name)
    return _view(torch.frombuffer(bytearray(raw), dtype=torch.uint8) if raw else None, 0, shape, dtype)


def _view(buffer: Tensor | None, offset: int, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    nbytes = torch.Size(shape).numel() * dtype.itemsize
    if buffer is None or not nbytes:
        return torch.empty(shape, dtype=dtype)
    return buffer[offset : offset + nbytes].view(dtype).view(shape)


@dataclass(frozen=True)
class Slot:
    """Where one weight lies in the shared file."""

    offset: int
    shape: tuple[int, ...]
    dtype: str


class SharedWeights:
    """The weights of all ranks in one anonymous file in memory; a tensor that several ranks share is stored once."""

    def __init__(self, names: list[str], checkpoint: list[dict[str, Tensor]]):
        self.layout: list[dict[str, Slot]] = []
        self._sources: dict[int, Tensor] = {}
        known: dict[tuple, int] = {}
        size = 0
        for weights in checkpoint:
            slots = {}
            for name in names:
                tensor = weights[name]
                identity = (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
                if identity not in known or not tensor.numel():
                    known[identity] = size
                    self._sources[size] = tensor
                    size += -(-max(tensor.nbytes, 1) // _ALIGNMENT) * _ALIGNMENT
                slots[name] = Slot(known[identity], tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
            self.layout.append(slots)
        self.descriptor = _anonymous_file(max(size, 1))

    def fill(self) -> None:
        """Copy the weights in. Separate from creation: the ranks start while this runs."""
        size = os.fstat(self.descriptor).st_size
        buffer = torch.frombuffer(mmap.mmap(self.descriptor, size), dtype=torch.uint8)
        for offset, tensor in self._sources.items():
            _view(buffer, offset, tuple(tensor.shape), tensor.dtype).copy_(tensor.detach())
        self._sources.clear()

    def close(self) -> None:
        """Give up this process's reference; the memory lives on in the ranks that mapped it."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def map_weights(descriptor: int, slots: dict[str, Slot]) -> dict[str, Tensor]:
    """The weights of one rank, mapped copy-on-write."""
    mapped = mmap.mmap(descriptor, os.fstat(descriptor).st_size, access=mmap.ACCESS_COPY)
    buffer = torch.frombuffer(mapped, dtype=torch.uint8)
    return {name: _view(buffer, slot.offset, slot.shape, getattr(torch, slot.dtype)) for name, slot in slots.items()}


def _anonymous_file(size: int) -> int:
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("neuron-emulator-weights")
    else:  # not Linux
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor

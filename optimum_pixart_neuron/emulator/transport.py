"""How tensors travel between the process that loads a model and its ranks.

Weights go once, through one anonymous shared file that every rank maps; inputs and outputs as bytes in messages.
"""

import ctypes
import mmap
import os
import sys
import tempfile
from dataclasses import dataclass

import torch
from torch import Tensor

_ALIGNMENT = 64
_PIECE = 32 << 20  # bytes copied at a time
_madvise = ctypes.CDLL(None).madvise
_madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]

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
        for offset, tensor in self._sources.items():
            raw = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
            for start in range(0, raw.numel(), _PIECE):
                _read_ahead(raw[start : start + 2 * _PIECE])
                # Not through a mapping: the kernel would first fill every new page with zeros.
                os.pwrite(self.descriptor, raw[start : start + _PIECE].numpy(), offset + start)
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


def _read_ahead(raw: Tensor) -> None:
    """Have the kernel read the pages behind a memory-mapped tensor while others are copied; Linux only."""
    if sys.platform == "linux" and raw.numel():
        first = raw.data_ptr() // mmap.PAGESIZE * mmap.PAGESIZE
        _madvise(first, raw.data_ptr() + raw.numel() - first, mmap.MADV_WILLNEED)


def _anonymous_file(size: int) -> int:
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("neuron-emulator-weights")
    else:  # not Linux
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor

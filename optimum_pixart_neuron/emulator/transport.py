"""How tensors travel between the process that loads a model and its ranks.

Weights go once, through files that the ranks map: those they were loaded from, and an anonymous one for all that is in
memory only. Inputs and outputs go as bytes in messages.
"""

import mmap
import os
import tempfile
from dataclasses import dataclass

import torch
from torch import Tensor

from ..files import read_ahead
from .file_mappings import FileMapping, unchanged_mappings
from .operations import DTYPES

_ALIGNMENT = 64
_PIECE = 32 << 20  # bytes copied at a time
_MOST_FILES = 128  # of one model; their descriptors and those of the ranks' sockets go in one message, see `keeper`

# dtype name, shape and raw bytes of one tensor
Message = tuple[str, tuple[int, ...], bytes]


def to_message(tensor: Tensor) -> Message:
    raw = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), raw


def from_message(message: Message) -> Tensor:
    name, shape, raw = message
    return _view(torch.frombuffer(bytearray(raw), dtype=torch.uint8) if raw else None, 0, shape, DTYPES[name])


def _view(buffer: Tensor | None, offset: int, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    nbytes = torch.Size(shape).numel() * dtype.itemsize
    if buffer is None or not nbytes:
        return torch.empty(shape, dtype=dtype)
    return buffer[offset : offset + nbytes].view(dtype).view(shape)


@dataclass(frozen=True)
class Slot:
    """Where one weight lies: `offset` bytes into the file at position `file` of the descriptors."""

    file: int
    offset: int
    shape: tuple[int, ...]
    dtype: str


class SharedWeights:
    """The weights of all ranks, each stored once: in the file it was loaded from, or else copied to memory.

    Attributes:
        descriptors: of the files that ranks map. The first one is anonymous and holds the copies.
        layout: for each rank, where its weights lie.
    """

    def __init__(self, names: list[str], checkpoint: list[dict[str, Tensor]]):
        self.layout: list[dict[str, Slot]] = []
        self.descriptors: list[int] = []
        self._copies: dict[int, Tensor] = {}
        self._size = 0
        mappings = unchanged_mappings()
        opened: dict[tuple[int, int], int | None] = {}
        places: dict[tuple, tuple[int, int]] = {}
        try:
            self.descriptors.append(_anonymous_file())
            for weights in checkpoint:
                slots = {}
                for name in names:
                    tensor = weights[name]
                    key = (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
                    if key not in places or not tensor.numel():
                        places[key] = self._place_in_file(tensor, mappings, opened) or self._place_of_copy(tensor)
                    slots[name] = Slot(*places[key], tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
                self.layout.append(slots)
            os.ftruncate(self.descriptors[0], max(self._size, 1))
        except BaseException:
            self.close()
            raise

    def _place_in_file(
        self, tensor: Tensor, mappings: list[FileMapping], opened: dict[tuple[int, int], int | None]
    ) -> tuple[int, int] | None:
        """Its file and offset; `opened` has the position of each file's descriptor, None if it cannot be mapped."""
        for mapping in mappings if tensor.numel() else []:
            offset = mapping.position(tensor)
            if offset is None:
                continue
            if mapping.file not in opened:
                descriptor = mapping.open() if len(self.descriptors) < _MOST_FILES else None
                opened[mapping.file] = None if descriptor is None else len(self.descriptors)
                self.descriptors += [] if descriptor is None else [descriptor]
            file = opened[mapping.file]
            return None if file is None else (file, offset)
        return None

    def _place_of_copy(self, tensor: Tensor) -> tuple[int, int]:
        offset = self._size
        self._copies[offset] = tensor
        self._size += -(-max(tensor.nbytes, 1) // _ALIGNMENT) * _ALIGNMENT
        return 0, offset

    def fill(self) -> None:
        """Copy what no file holds. Apart from creation: the ranks start while this runs."""
        for offset, tensor in self._copies.items():
            raw = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
            for start in range(0, raw.numel(), _PIECE):
                # Not through a mapping: the kernel would first fill every new page with zeros.
                os.pwrite(self.descriptors[0], raw[start : start + _PIECE].numpy().data, offset + start)
        self._copies.clear()

    def close(self) -> None:
        """Give up this process's references; the memory lives on in the ranks that mapped it."""
        while self.descriptors:
            os.close(self.descriptors.pop())


def map_weights(descriptors: list[int], slots: dict[str, Slot]) -> dict[str, Tensor]:
    """The weights of one rank, mapped copy-on-write."""
    buffers = {}
    for file in {slot.file for slot in slots.values()}:
        if file:
            read_ahead(descriptors[file])
        mapped = mmap.mmap(descriptors[file], 0, access=mmap.ACCESS_COPY)
        buffers[file] = torch.frombuffer(mapped, dtype=torch.uint8)
    return {
        name: _view(buffers[slot.file], slot.offset, slot.shape, DTYPES[slot.dtype]) for name, slot in slots.items()
    }


def _anonymous_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("neuron-emulator-weights")
    with tempfile.TemporaryFile() as file:  # not Linux
        return os.dup(file.fileno())

"""Write one weight file per rank, streaming: few tensors of the checkpoint are in memory at a time.

The files are those that NxD's `ModelBuilder.shard_checkpoint` (0.15) writes for the same module, byte for byte; NxD's
own sharder casts the whole checkpoint and a whole rank in memory first, 19 GB for T5-XXL.
"""

import json
import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

# safetensors stores tensors by descending position in its dtype list, then by name (safetensors `tensor.rs`).
_STORED_DTYPES = {
    torch.int64: "I64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
}
_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # that stand for a dtype of as many bytes, for numpy


@dataclass(frozen=True, kw_only=True)
class ShardedWeight:
    """How one weight is stored on every rank.

    Attributes:
        shape: of the whole weight.
        dtype: it is cast to.
        dim: the dimension that is divided by the number of ranks, None for a copy on every rank.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    dim: int | None

    def rank_shape(self, ranks: int) -> tuple[int, ...]:
        return tuple(size // ranks if dim == self.dim else size for dim, size in enumerate(self.shape))

    def rank_bytes(self, ranks: int) -> int:
        return torch.Size(self.rank_shape(ranks)).numel() * self.dtype.itemsize


def write_shards(
    weights: dict[str, ShardedWeight], read: Callable[[str], Tensor], paths: Sequence[Path], *, title: str
) -> int:
    """Shard a checkpoint into safetensors files, one a rank.

    Args:
        weights: every weight of the compiled module by state-dict name.
        read: gives the whole tensor of a name, from memory-mapped files; called once a name.
        paths: of the files, by rank; their folder is made.
        title: the progress bar's.

    Returns:
        the number of bytes written.

    Raises:
        ValueError: `read` returns another shape than announced.
        OSError: a file cannot be written.
    """
    paths[0].parent.mkdir(parents=True, exist_ok=True)
    ranks = len(paths)
    order = list(_STORED_DTYPES)
    names = sorted(weights, key=lambda name: (order.index(weights[name].dtype), name))
    header = _header(names, weights, ranks)
    with ExitStack() as stack:
        files = [stack.enter_context(path.open("wb", buffering=0)) for path in paths]
        for file in files:
            file.write(header)
        writers = stack.enter_context(ThreadPoolExecutor(min(ranks, os.cpu_count() or 1)))
        gathered = [bytearray() for _ in files]
        tensors = tqdm(
            _read_ahead(names, read), desc=title, total=len(names), unit="weight", leave=False, disable=None
        )
        for name, tensor in tensors:
            weight = weights[name]
            if tuple(tensor.shape) != weight.shape:
                raise ValueError(f"{name}: shape {tuple(tensor.shape)} in the checkpoint, {weight.shape} in the model")
            tensor = tensor.to(weight.dtype)
            parts = [tensor] * ranks if weight.dim is None else tensor.chunk(ranks, dim=weight.dim)
            list(writers.map(_write, files, parts, gathered))  # raises what a writer raised
        return sum(file.tell() for file in files)


def _write(file: BinaryIO, part: Tensor, gathered: bytearray) -> None:
    """Append the values in row-major order, from where they are, or else from `gathered`, which grows as needed."""
    # numpy: torch's threads would spin on the cores that the other writers need.
    values = part.view(_INTEGERS[part.itemsize]).numpy()
    if not part.is_contiguous():
        gathered.extend(bytes(max(0, part.nbytes - len(gathered))))
        dense = np.frombuffer(gathered, values.dtype, values.size).reshape(values.shape)
        np.copyto(dense, values)
        values = dense
    left = values.reshape(-1).view(np.uint8).data
    while left:
        left = left[file.write(left) :]


def _read_ahead(names: list[str], read: Callable[[str], Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Each name with its tensor, in memory; the next one is read from the disk meanwhile."""

    def load(name: str) -> tuple[str, Tensor]:
        tensor = read(name)
        if tensor.is_contiguous():  # so is any memory-mapped one, which is read when its pages are touched
            tensor.view(-1).view(torch.uint8).numpy()[:: mmap.PAGESIZE].max(initial=0)
        return name, tensor

    with ThreadPoolExecutor(max_workers=1) as reader:
        coming = None
        for name in names:
            current, coming = coming, reader.submit(load, name)
            if current:
                yield current.result()
        if coming:
            yield coming.result()


def _header(names: list[str], weights: dict[str, ShardedWeight], ranks: int) -> bytes:
    """The safetensors header: eight bytes of length, then JSON padded with spaces to eight bytes."""
    entries, offset = {}, 0
    for name in names:
        weight = weights[name]
        end = offset + weight.rank_bytes(ranks)
        shape = list(weight.rank_shape(ranks))
        entries[name] = {"dtype": _STORED_DTYPES[weight.dtype], "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text

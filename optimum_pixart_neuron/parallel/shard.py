"""Write one weight file per rank, streaming: two tensors of the checkpoint are in memory at a time.

The files are those that NxD's `ModelBuilder.shard_checkpoint` (0.15) writes for the same module, byte for byte; NxD's
own sharder casts the whole checkpoint and a whole rank in memory first, 19 GB for T5-XXL.
"""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

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


def shard_file(folder: Path, rank: int) -> Path:
    """The weight file of one rank, as optimum-neuron 0.4.5 `NeuronTracedModel.load_model` looks for it."""
    return folder / f"tp{rank}_sharded_checkpoint.safetensors"


def write_shards(
    weights: dict[str, ShardedWeight], read: Callable[[str], Tensor], folder: Path, ranks: int, *, title: str
) -> int:
    """Shard a checkpoint into `folder`, one safetensors file a rank.

    Args:
        weights: every weight of the compiled module by state-dict name.
        read: gives the whole tensor of a name, from memory-mapped files; called once a name.
        title: the progress bar's.

    Returns:
        the number of bytes written.

    Raises:
        ValueError: `read` returns another shape than announced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    order = list(_STORED_DTYPES)
    names = sorted(weights, key=lambda name: (order.index(weights[name].dtype), name))
    header = _header(names, weights, ranks)
    files = [shard_file(folder, rank).open("wb") for rank in range(ranks)]
    try:
        for file in files:
            file.write(header)
        for name, tensor in tqdm(_read_ahead(names, read), desc=title, total=len(names), unit="tensor", leave=False):
            weight = weights[name]
            if tuple(tensor.shape) != weight.shape:
                raise ValueError(f"{name}: shape {tuple(tensor.shape)} in the checkpoint, {weight.shape} in the model")
            tensor = tensor.to(weight.dtype)
            parts = [tensor] * ranks if weight.dim is None else tensor.chunk(ranks, dim=weight.dim)
            for file, part in zip(files, parts):
                file.write(part.contiguous().flatten().view(torch.uint8).numpy())
        return sum(file.tell() for file in files)
    finally:
        for file in files:
            file.close()


def _read_ahead(names: list[str], read: Callable[[str], Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Each name with its tensor, which is read from the disk while the one before is written: two are in memory."""
    with ThreadPoolExecutor(max_workers=1) as reader:
        # The copy is what reads: the tensor itself is only mapped.
        tensors = [reader.submit(lambda name=name: read(name).clone()) for name in names[:1]]
        for position, name in enumerate(names):
            tensor = tensors.pop().result()
            tensors += [reader.submit(lambda name=name: read(name).clone()) for name in names[position + 1 :][:1]]
            yield name, tensor


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

"""Fingerprints of files: a full digest, and a sample that costs next to nothing at load; and writing that lasts.

Shards of several ranks have the same size and the same header, and in context mode differ in one weight of a few
bytes. So the sample of a safetensors file holds every small tensor whole, besides blocks spread over the file.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

from pydantic import BaseModel, ConfigDict
from tqdm import tqdm

_BLOCK = 4096  # bytes
_BLOCKS = 16
_LARGEST_HEADER = 100 * 1024 * 1024  # bytes; the limit of safetensors itself (`tensor.rs`, MAX_HEADER_SIZE)


class FileRecord(BaseModel):
    """What a manifest knows of one file.

    Attributes:
        size: in bytes.
        sha256: of the whole content.
        sample: SHA-256 of the parts that `sample_digest` reads.
    """

    model_config = ConfigDict(frozen=True)

    size: int
    sha256: str
    sample: str

    @classmethod
    def of(cls, path: Path, advance: Callable[[int], object] | None = None) -> "FileRecord":
        """Read the whole file; `advance` is told of the bytes as they are read."""
        return cls(size=path.stat().st_size, sha256=full_digest(path, advance), sample=sample_digest(path))

    def resembles(self, path: Path) -> bool:
        """Whether the file is there with this size and sample; its whole content is not read."""
        return path.is_file() and path.stat().st_size == self.size and sample_digest(path) == self.sample


def records_of(folder: Path, names: Iterable[str], *, title: str) -> dict[str, FileRecord]:
    """Read files of a folder whole, by their paths in it; on a terminal with a progress bar of bytes."""
    paths = {name: folder / name for name in names}
    total = sum(path.stat().st_size for path in paths.values())
    with tqdm(desc=title, total=total, unit="B", unit_scale=True, leave=False, disable=None) as progress:
        return {name: FileRecord.of(path, progress.update) for name, path in paths.items()}


def full_digest(path: Path, advance: Callable[[int], object] | None = None) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
            if advance:
                advance(len(block))
    return digest.hexdigest()


def sample_digest(path: Path) -> str:
    """SHA-256 of 16 blocks spread evenly over a file, its first and last bytes among them.

    Of a safetensors file also the header and every tensor of at most one block (4 KiB).
    """
    size = path.stat().st_size
    digest = hashlib.sha256()
    with path.open("rb") as file:
        if path.suffix == ".safetensors":
            for start, length in _small_parts(file, size):
                file.seek(start)
                digest.update(file.read(length))
        for number in range(_BLOCKS):
            file.seek(max(size - _BLOCK, 0) * number // (_BLOCKS - 1))
            digest.update(file.read(_BLOCK))
    return digest.hexdigest()


def _small_parts(file: BinaryIO, size: int) -> list[tuple[int, int]]:
    """(start, length) of the header and of every small tensor; nothing where the header cannot be read."""
    length = int.from_bytes(file.read(8), "little")
    if length > min(size - 8, _LARGEST_HEADER):
        return []
    try:
        header = json.loads(file.read(length))
        offsets = [entry["data_offsets"] for name, entry in header.items() if name != "__metadata__"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return []
    small = sorted((begin, end - begin) for begin, end in offsets if end - begin <= _BLOCK)
    return [(0, 8 + length), *((8 + length + begin, count) for begin, count in small)]


def write_whole(path: Path, content: bytes) -> None:
    """Write a small file so that it is there whole or, after a kill or a power cut, as it was before."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.write_bytes(content)
    flush(unfinished)
    os.replace(unfinished, path)
    flush(path.parent, below=False)


def flush(path: Path, *, below: bool = True) -> None:
    """Have the system write a file, or a folder with everything below it, to the disk itself."""
    if below and path.is_dir():
        for child in path.iterdir():
            flush(child)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_PIECE = 128 << 10  # bytes; the kernel drops what exceeds the disk's read-ahead, by default as much


def read_ahead(descriptor: int) -> None:
    """Read a whole file into the kernel's cache; does nothing where the system has no such call."""
    if hasattr(os, "posix_fadvise"):
        for start in range(0, os.fstat(descriptor).st_size, _PIECE):
            os.posix_fadvise(descriptor, start, _PIECE, os.POSIX_FADV_WILLNEED)

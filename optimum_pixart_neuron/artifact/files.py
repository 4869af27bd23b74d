"""Fingerprints of files: a full digest, and a sample that costs next to nothing at load.

Shards of several ranks have the same size and the same header, and in context mode differ in one weight of a few
bytes. So the sample of a safetensors file holds every small tensor whole, besides blocks spread over the file.
"""

import hashlib
import json
from pathlib import Path
from typing import BinaryIO

from pydantic import BaseModel, ConfigDict

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
    def of(cls, path: Path) -> "FileRecord":
        """Read the whole file."""
        return cls(size=path.stat().st_size, sha256=full_digest(path), sample=sample_digest(path))


def full_digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
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

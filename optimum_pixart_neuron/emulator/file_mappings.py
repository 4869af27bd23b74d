"""Files that this process has in memory as they are on the disk: others can map them instead of getting a copy."""

import os
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

_SMAPS = Path("/proc/self/smaps")


@dataclass(frozen=True)
class FileMapping:
    """A private mapping none of whose pages this process has written to.

    Attributes:
        start, end: its addresses.
        offset: in the file, of `start`.
        file: device and inode.
        path: of the file when it was mapped.
    """

    start: int
    end: int
    offset: int
    file: tuple[int, int]
    path: str

    def position(self, tensor: Tensor) -> int | None:
        """Where in the file the tensor's values lie, None unless they lie there as a rank could read them."""
        first = tensor.data_ptr()
        if not tensor.is_contiguous() or not self.start <= first <= first + tensor.nbytes <= self.end:
            return None
        position = first - self.start + self.offset
        return None if position % tensor.itemsize else position

    def open(self) -> int | None:
        """A descriptor of the file, None when another one, or none, is at its path by now."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        status = os.fstat(descriptor)
        if (status.st_dev, status.st_ino) != self.file:
            os.close(descriptor)
            return None
        return descriptor


def unchanged_mappings() -> list[FileMapping]:
    """The private file mappings of this process that show their files unchanged; none where Linux does not tell."""
    if not _SMAPS.exists():
        return []
    mappings: list[FileMapping | None] = []
    for line in _SMAPS.read_text(errors="surrogateescape").splitlines():
        fields = line.split(maxsplit=5)
        if not fields[0].endswith(":"):
            mappings.append(_private_mapping(fields))
        elif fields[0] in ("Anonymous:", "Swap:") and int(fields[1]):
            mappings[-1] = None  # pages of its own: something was written
    return [mapping for mapping in mappings if mapping]


def _private_mapping(fields: list[str]) -> FileMapping | None:
    """A mapping's first line in smaps (proc(5)): addresses, permissions, offset, device, inode, path."""
    if len(fields) < 6 or not fields[1].endswith("p") or not int(fields[4]):
        return None
    start, end = (int(address, 16) for address in fields[0].split("-"))
    major, minor = (int(number, 16) for number in fields[3].split(":"))
    return FileMapping(start, end, int(fields[2], 16), (os.makedev(major, minor), int(fields[4])), fields[5])

"""Whether files are what they were, told without reading them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import PixArtNeuronError

Stamp = tuple[int, int, int, int]
"""Size, inode, and the times of the last write and of the last change of any of these."""


def stamp_of(path: Path) -> Stamp:
    """Of a file that is there; OSError otherwise."""
    found = path.stat()
    return found.st_size, found.st_ino, found.st_mtime_ns, found.st_ctime_ns


@dataclass(frozen=True, eq=False)
class ReadAgain:
    """Files that are read again later, and have to be the same ones then."""

    stamps: Mapping[Path, Stamp | None]

    @classmethod
    def of(cls, paths: Iterable[Path]) -> ReadAgain:
        """The files as they are now."""
        return cls({path: _stamp_or_none(path) for path in paths})

    def check(self, raises: type[PixArtNeuronError]) -> None:
        """An error of this type names the first file that is not what it was."""
        for path, stamp in self.stamps.items():
            if stamp is None or _stamp_or_none(path) != stamp:
                raise raises(f"{path} was changed or removed since it was loaded; load it again")


def _stamp_or_none(path: Path) -> Stamp | None:
    try:
        return stamp_of(path)
    except OSError:
        return None

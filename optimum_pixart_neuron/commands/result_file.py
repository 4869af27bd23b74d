"""Files that a flag names for a result: refused before the work where they cannot be, written after it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from ..errors import InvalidExportOption
from ..options import Folder


def _writable(path: Path) -> Path:
    if not path.parent.is_dir():
        raise ValueError(f"there is no folder {path.parent}; create it first")
    if path.is_dir():
        raise ValueError("is a folder; name a file in it")
    return path


ResultFile = Annotated[Folder, AfterValidator(_writable)]
"""The type of such an option."""


def write_result(flag: str, path: Path, content: bytes) -> None:
    """Write the file that `flag` named, in place, since it may be a pipe; InvalidExportOption where it cannot be."""
    try:
        path.write_bytes(content)
    except OSError as error:
        raise InvalidExportOption(f"{flag} {path}: {error.strerror}") from None

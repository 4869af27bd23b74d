"""Files that a flag names for a result: refused before the work where they cannot be, written after it."""

from __future__ import annotations

from argparse import ArgumentTypeError
from pathlib import Path

from ..errors import InvalidExportOption


def result_file(text: str) -> Path:
    """The type of such a flag.

    Raises:
        ArgumentTypeError: It is a folder, or in none.
    """
    path = Path(text)
    if not path.parent.is_dir():
        raise ArgumentTypeError(f"{path}: there is no folder {path.parent}; create it first")
    if path.is_dir():
        raise ArgumentTypeError(f"{path} is a folder; name a file in it")
    return path


def write_result(flag: str, path: Path, content: bytes) -> None:
    """Write the file that `flag` named; in place, since it may be a pipe.

    Raises:
        InvalidExportOption: It cannot be written.
    """
    try:
        path.write_bytes(content)
    except OSError as error:
        raise InvalidExportOption(f"{flag} {path}: {error.strerror}") from None

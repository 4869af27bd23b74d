"""Programs on the disk: TorchScript archives that do not say where on this machine their code lay."""

import io
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO

import torch

_DEBUG = ".debug_pkl"
"""Ending of the entries that hold source files by their paths; a loader does without (torch `import_source.cpp`)."""
_ALIGNMENT = 64  # bytes; of stored entries (torch `inline_container.cc`, kFieldAlignment)
_ENTRY_BYTES = 30  # of an entry's header without its name and extra field (zip, APPNOTE 4.3.7)
_PADDING_ID = b"FB"  # torch's own


def save_program(program: torch.jit.ScriptModule, path: Path) -> None:
    """Write a TorchScript archive, by way of memory; that it cannot be written is an OSError.

    On a full disk torch's own file writer ends the process (torch 2.13, `PyTorchStreamWriter`).
    """
    whole = io.BytesIO()
    torch.jit.save(program, whole)
    with path.open("wb") as file:
        _rewrite(whole, file, None)


def packed(archive: bytes) -> bytes:
    """The archive with its entries compressed, for keeping: weights that are all zero take no room."""
    target = io.BytesIO()
    _rewrite(io.BytesIO(archive), target, zipfile.ZIP_DEFLATED)
    return target.getvalue()


def unpacked(archive: bytes, most: int) -> bytes:
    """The archive that `packed` took.

    Args:
        most: bytes of its entries.

    Raises:
        ValueError: it is no archive, or has more.
    """
    target = io.BytesIO()
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as entries:
            if sum(entry.file_size for entry in entries.infolist()) > most:
                raise ValueError(f"it has more than {most} bytes")
        _rewrite(io.BytesIO(archive), target, zipfile.ZIP_STORED)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise ValueError(f"it is no archive: {error}") from None
    return target.getvalue()


def _rewrite(archive: BinaryIO, file: BinaryIO, compression: int | None) -> None:
    """Copy the entries, compressed as they are where nothing else is asked for."""
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(file, "w") as target:
        for entry in source.infolist():
            if not entry.filename.endswith(_DEBUG):
                target.writestr(_aligned(entry, file.tell(), compression), source.read(entry))


def _aligned(entry: zipfile.ZipInfo, position: int, compression: int | None) -> zipfile.ZipInfo:
    """The same entry, whose content lies on a multiple of `_ALIGNMENT` when its header is written at `position`."""
    info = zipfile.ZipInfo(entry.filename, entry.date_time)
    info.compress_type = entry.compress_type if compression is None else compression
    padding = -(position + _ENTRY_BYTES + len(entry.filename.encode()) + 4) % _ALIGNMENT
    info.extra = _PADDING_ID + padding.to_bytes(2, "little") + b"Z" * padding
    return info

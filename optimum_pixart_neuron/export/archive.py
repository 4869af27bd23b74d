"""Programs on the disk: TorchScript archives that do not say where on this machine their code lay."""

import io
import zipfile
from pathlib import Path

import torch

_DEBUG = ".debug_pkl"
"""Ending of the entries that hold source files by their paths; a loader does without (torch `import_source.cpp`)."""
_ALIGNMENT = 64  # bytes; of stored entries (torch `inline_container.cc`, kFieldAlignment)
_ENTRY_BYTES = 30  # of an entry's header without its name and extra field (zip, APPNOTE 4.3.7)
_PADDING_ID = b"FB"  # torch's own


def save_program(program: torch.jit.ScriptModule, path: Path) -> None:
    """Write a TorchScript archive, by way of memory.

    On a full disk torch's own file writer ends the process (torch 2.13, `PyTorchStreamWriter`).

    Raises:
        OSError: it cannot be written.
    """
    whole = io.BytesIO()
    torch.jit.save(program, whole)
    with zipfile.ZipFile(whole) as source, path.open("wb") as file, zipfile.ZipFile(file, "w") as target:
        for entry in source.infolist():
            if not entry.filename.endswith(_DEBUG):
                target.writestr(_aligned(entry, file.tell()), source.read(entry))


def _aligned(entry: zipfile.ZipInfo, position: int) -> zipfile.ZipInfo:
    """The same entry, whose content lies on a multiple of `_ALIGNMENT` when its header is written at `position`."""
    info = zipfile.ZipInfo(entry.filename, entry.date_time)
    info.compress_type = entry.compress_type
    padding = -(position + _ENTRY_BYTES + len(entry.filename.encode()) + 4) % _ALIGNMENT
    info.extra = _PADDING_ID + padding.to_bytes(2, "little") + b"Z" * padding
    return info

"""The folder of pictures: the layout of `datasets`' ImageFolder, written by one process, whole at every moment.

A picture is there when its line is in metadata.jsonl; the file is renamed into place before the line is written. What
a kill leaves beyond that, a file without a line or half a line, is written again by the next run.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

from ...errors import InvalidExportOption, OutputFull, PixArtNeuronError, printable
from ...files import NO_ROOM, parse_json, write_whole
from ..exported import Exported
from .rows import Planned

METADATA = "metadata.jsonl"
ERRORS = "errors.jsonl"


class Gallery:
    """Use as a context manager: it keeps other runs out of the folder.

    Raises:
        InvalidExportOption: the folder cannot be made or written, holds something else, or another run writes there.
    """

    def __init__(self, folder: Path, exported: Exported) -> None:
        self.folder = folder
        self.errors = 0
        self._exported = exported
        self._lock = _lock(folder)
        self._files: dict[str, IO[bytes]] = {}

    def __enter__(self) -> Gallery:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.close()
        os.close(self._lock)

    def missing(self, planned: Iterable[Planned]) -> list[Planned]:
        """The pictures of the job that are not there yet. To be called once, before anything is added.

        Raises:
            InvalidExportOption: the folder has pictures of another job; names the first.
        """
        self._remove_half_line()
        there = {line["file_name"]: line for line in self._lines()}
        lines = len(there)
        missing: list[Planned] = []
        found: list[Planned] = []
        for each in planned:
            line = there.pop(each.file_name, None)
            if line is None:
                missing.append(each)
                continue
            wanted = each.metadata(self._exported)
            for name in wanted.keys() | line.keys():
                if name != "export" and line.get(name) != wanted.get(name):
                    raise InvalidExportOption(
                        f"{self.folder} has {each.file_name} with {name} {printable(line.get(name))}, wanted is"
                        f" {printable(wanted.get(name))}: it is of another job; name another folder"
                    )
            file = self.folder / each.file_name
            (found if file.is_file() and file.stat().st_size else missing).append(each)
        if there:
            raise InvalidExportOption(
                f"{self.folder} has {printable(next(iter(there)))}, which is not of this job; name another folder"
            )
        if len(found) < lines:  # somebody removed files; their lines go too, so that none stands there twice
            write_whole(self.folder / METADATA, b"".join(_line(each.metadata(self._exported)) for each in found))
        (self.folder / ERRORS).unlink(missing_ok=True)
        return missing

    def add(self, planned: Planned, content: bytes) -> None:
        """Write one picture and its line.

        Raises:
            OutputFull: there is no room.
            PixArtNeuronError: it cannot be written.
        """
        path = self.folder / planned.file_name
        unfinished = path.with_name(f".{path.name}.unfinished")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished.write_bytes(content)
            unfinished.replace(path)
            self._append(METADATA, planned.metadata(self._exported))
        except OSError as error:
            unfinished.unlink(missing_ok=True)
            raise _cannot_write(self.folder, error) from None

    def report(self, row: int, reason: str, prompt: str | None = None, file_name: str | None = None) -> None:
        """Add a picture that cannot be drawn to errors.jsonl; `row` counts from 0. Raises what `add` does."""
        self.errors += 1
        try:
            self._append(ERRORS, {"row": row, "file_name": file_name, "prompt": prompt, "error": reason})
        except OSError as error:
            raise _cannot_write(self.folder, error) from None

    def _append(self, name: str, line: dict[str, Any]) -> None:
        """Write a line, or nothing of it."""
        if name not in self._files:
            self._files[name] = (self.folder / name).open("ab", buffering=0)
        file, content = self._files[name], _line(line)
        end = file.seek(0, os.SEEK_END)
        try:
            if file.write(content) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # the kernel took what still fitted
        except OSError:
            file.truncate(end)
            raise

    def _remove_half_line(self) -> None:
        try:
            with (self.folder / METADATA).open("rb+") as file:
                file.truncate(_end_of_last_line(file))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise _cannot_write(self.folder, error) from None

    def _lines(self) -> Iterable[dict[str, Any]]:
        path = self.folder / METADATA
        if not path.exists():
            return
        with path.open("rb") as file:
            for number, text in enumerate(file, 1):
                try:
                    line = parse_json(text)
                    line["file_name"]
                except (ValueError, TypeError, KeyError):
                    raise InvalidExportOption(
                        f"{path}: line {number} is not one of this command; name another folder"
                    ) from None
                yield line


def _line(line: dict[str, Any]) -> bytes:
    return json.dumps(line, ensure_ascii=False).encode() + b"\n"


def _end_of_last_line(file: IO[bytes]) -> int:
    end = file.seek(0, os.SEEK_END)
    step = 1 << 16
    while end > 0:
        start = max(end - step, 0)
        file.seek(start)
        newline = file.read(end - start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


def _lock(folder: Path) -> int:
    """A descriptor of the folder that no other process has locked; the kernel unlocks it at every end of this one."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise InvalidExportOption(f"{folder}: {error.strerror}; name a folder for the pictures") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise InvalidExportOption(f"{folder}: another pixart-generate writes there; wait for it") from None
    foreign = sorted(set(os.listdir(descriptor)) - {METADATA, f"{METADATA}.unfinished", ERRORS, "images"})
    if foreign:
        os.close(descriptor)
        raise InvalidExportOption(
            f"{folder} holds {printable(foreign[0])}, which is none of this command's; name an empty folder"
        )
    return descriptor


def _cannot_write(folder: Path, error: OSError) -> PixArtNeuronError:
    kind = OutputFull if error.errno in NO_ROOM else PixArtNeuronError
    return kind(f"{folder}: {error.strerror}; what is there is whole, and the same command goes on")

"""Fingerprints of the checkpoint's files, each read whole once and remembered for the next run of the export."""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

from pydantic import BaseModel, TypeAdapter

from ..artifact.manifest_records import AdapterRecord, SourceRecord
from ..checkpoint.adapters import NamedAdapter
from ..checkpoint.sources import Source
from ..checkpoint.stamps import Stamp, stamp_of
from ..errors import CheckpointError
from ..files import RECORDS_BYTES, FileRecord, read_bytes, records_of, sample_digest, write_whole

_SHA256 = re.compile("[0-9a-f]{64}")


class _Seen(BaseModel):
    stamp: Stamp
    record: FileRecord


_MEMORY = TypeAdapter(dict[str, _Seen])


class Fingerprints:
    """The files that an export reads.

    Args:
        memory: the file in which their fingerprints outlive an interrupted export.
    """

    def __init__(self, memory: Path) -> None:
        self._memory = memory
        self._noted: dict[str, Stamp] = {}
        self._stop = Event()
        try:
            self._seen = _MEMORY.validate_json(read_bytes(memory, RECORDS_BYTES))
        except (OSError, ValueError):
            self._seen = {}

    def note(self, paths: Iterable[Path]) -> None:
        """Take these files to be what they are now, though `record` reads them later, or on another thread."""
        self._noted |= {os.path.realpath(path): stamp_of(path) for path in paths}

    @contextmanager
    def read_beside(self) -> Iterator[None]:
        """An error of the block ends a `record` of another thread, which then raises CancelledError."""
        try:
            yield
        except BaseException:
            self._stop.set()
            raise

    def record(self, source: Source, paths: Iterable[Path], adapters: Iterable[NamedAdapter] = ()) -> SourceRecord:
        """Fingerprints of files in a component's folder, and of adapters, read whole unless they were before."""
        names = sorted(path.relative_to(source.folder).as_posix() for path in paths)
        return SourceRecord(
            model=source.model,
            revision=source.revision,
            files=self._records(source.folder, names),
            adapters=tuple(self._record_adapter(each) for each in adapters),
        )

    def _record_adapter(self, named: NamedAdapter) -> AdapterRecord:
        file = named.adapter.path.name
        return AdapterRecord(
            name=named.name,
            model=named.model,
            revision=named.revision,
            file=named.file,
            content=self._records(named.adapter.path.parent, [file])[file],
            scale=named.scale,
            number=named.number,
        )

    def check_unchanged(self, paths: Iterable[Path]) -> None:
        """Refuse files that were written while they were read: a CheckpointError names the first one."""
        for path in paths:
            if stamp_of(path) != self._seen[os.path.realpath(path)].stamp:
                raise CheckpointError(f"{path} was changed during the export; run it again")

    def _records(self, folder: Path, names: Iterable[str]) -> dict[str, FileRecord]:
        keys = {name: os.path.realpath(folder / name) for name in names}
        # Taken before the files are read, so that what is written meanwhile shows.
        stamps = {name: self._noted.get(key) or stamp_of(folder / name) for name, key in keys.items()}
        unseen = [name for name, key in keys.items() if key not in self._seen or self._seen[key].stamp != stamps[name]]
        if unseen:
            for name, record in _read(folder, unseen, self._stop).items():
                self._seen[keys[name]] = _Seen(stamp=stamps[name], record=record)
            write_whole(self._memory, _MEMORY.dump_json(self._seen))
        return {name: self._seen[key].record for name, key in keys.items()}


def _read(folder: Path, names: Iterable[str], stop: Event) -> dict[str, FileRecord]:
    """The Hub's download cache names large files by their SHA-256 (huggingface_hub, "Understand caching")."""
    named = {}
    for name in names:
        blob = Path(os.path.realpath(folder / name))
        if blob.parent.name == "blobs" and _SHA256.fullmatch(blob.name):
            named[name] = FileRecord(size=blob.stat().st_size, sha256=blob.name, sample=sample_digest(folder / name))
    rest = [name for name in names if name not in named]
    return named | (records_of(folder, rest, title="    reading the checkpoint", stop=stop) if rest else {})

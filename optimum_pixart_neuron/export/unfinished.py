"""An export that is being written: it becomes the output folder at once, and outlives an interruption.

Beside the output NAME lies `.NAME.partial`, for as long as the export is unfinished; only its owner may enter it:

    README                says what the folder is
    lock                  held by the process that writes
    artifacts/            becomes NAME; gets its model_index.json last, so that nothing takes it for an export
    pipeline.json         until then its model_index.json
    finished/*.json       one record for each component that is complete in `artifacts`
    checkpoint_files.json fingerprints of the checkpoint's files
    work-*/               the compiler's intermediate files, of one run
    placed                number (inode) of the folder that takes the place of a former NAME, from just before it does
    replaced/             for a moment: the former NAME, where two names cannot be exchanged in one step
"""

import errno
import fcntl
import itertools
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from ..artifact.compiled import CONFIG_FILE
from ..artifact.manifest import Manifest, listed_files
from ..artifact.manifest_records import ComponentRecord
from ..checkpoint.layout import INDEX
from ..errors import CompilationFailed, InvalidExportOption, OutputFull, PixArtNeuronError
from ..files import NO_ROOM, RECORDS_BYTES, FileRecord, flush, read_bytes, records_of, write_whole
from . import partial_folder
from .fingerprints import Fingerprints
from .output import LONGEST_NAME, check_output, copy_users_files, resolved
from .swap import exchange

logger = logging.getLogger(__name__)

# torch and neuronx-cc say only that a write failed. Less than this is free after one that found no room.
_NO_ROOM_BYTES = 1 << 20


class FinishedComponent(BaseModel):
    """A component that is complete on the disk.

    Attributes:
        record: for the manifest.
        files: that the compilation wrote, by path in the export.
    """

    model_config = ConfigDict(frozen=True)

    record: ComponentRecord
    files: dict[str, FileRecord]


class UnfinishedExport:
    """The folder beside an output, held by this process; made by `unfinished_export`.

    Args:
        output: what it is for, with links resolved.
        force: whether it may take the place of a former export.

    Attributes:
        holder: the folder itself.
        artifacts: what becomes the output.
        index: the pipeline's model_index.json before it is among them.
        sources: fingerprints of the checkpoint's files.
    """

    def __init__(self, output: Path, *, force: bool = False) -> None:
        self._output = output
        self._force = force
        self.holder = partial_folder.partial_folder(output)
        self._lock = self.holder / partial_folder.LOCK
        self.artifacts = self.holder / partial_folder.ARTIFACTS
        self.index = self.holder / partial_folder.PIPELINE_INDEX
        self._records = self.holder / partial_folder.RECORDS
        self._placed = self.holder / partial_folder.PLACED
        self._replaced = self.holder / partial_folder.REPLACED
        self.sources = Fingerprints(self.holder / partial_folder.SOURCES)
        self._made: list[Path] = []

    def make(self) -> None:
        """Make its folders. The export is as readable as the user's other files are, though its holder is not."""
        self.artifacts.mkdir(exist_ok=True)
        self._records.mkdir(exist_ok=True)

    def kept(self, name: str, record: Callable[[], ComponentRecord]) -> FinishedComponent | None:
        """A component that an interrupted export has finished from the same inputs; any other is removed.

        Its files are read whole: that costs less than shipping one that the disk has lost.

        Args:
            record: of the component now; asked for only where there is one to compare.
        """
        finished = self._read(name)
        if finished:
            now = record()
            if finished.record.inputs_digest == now.inputs_digest and self._is_whole(name, finished.files):
                self._remove_workdirs()
                # The same content may have come from another place.
                return finished.model_copy(update={"record": now})
        self._remove(name)
        return None

    def finish(self, name: str, record: ComponentRecord) -> FinishedComponent:
        """Record the component whose files are all in `artifacts/name`; its intermediate ones are removed."""
        self._remove_workdirs()
        with ThreadPoolExecutor(1) as disk:  # it writes while the processor reads what the disk's cache still holds
            flushed = disk.submit(flush, self.artifacts / name)
            files = self._read_back(name, self._files_of(name))
            flushed.result()
        finished = FinishedComponent(record=record, files=files)
        write_whole(self._records / f"{name}.json", finished.model_dump_json().encode())
        return finished

    def new_workdir(self) -> Path:
        """A folder for the compiler's intermediate files, removed when the component is finished.

        Its name is new in every run: a compiler that outlived a killed export may still write to the old one.
        """
        return Path(tempfile.mkdtemp(prefix=partial_folder.WORKDIR_PREFIX, dir=self.holder))

    def seal(self, manifest: Manifest) -> None:
        """Make the folder whole: the manifest, then the pipeline's index."""
        if self._output.is_dir():
            copy_users_files(self._output, self.artifacts)
        manifest.write(self.artifacts)
        flush(self.artifacts)
        flush(self.index)
        self.index.rename(self.artifacts / INDEX)
        flush(self.artifacts, below=False)

    def put_in_place(self) -> None:
        """Rename the sealed folder to the output, in place of an empty folder or of a former export.

        Raises:
            InvalidExportOption: something else has taken the output meanwhile.
        """
        check_output(self._output, force=self._force)
        if self._output.is_dir() and any(self._output.iterdir()):
            self._take_the_place()
        else:
            self.artifacts.rename(self._output)
        flush(self._output.parent, below=False)

    def _take_the_place(self) -> None:
        """Of a folder that is not empty, with which the sealed one changes names, if the system can do that.

        Else it takes two renames; `restore` undoes the first of them.
        """
        write_whole(self._placed, str(self.artifacts.stat().st_ino).encode())
        if not exchange(self.artifacts, self._output):
            self._output.rename(self._replaced)
            self.artifacts.rename(self._output)

    @property
    def in_place(self) -> bool:
        """Whether the sealed folder has taken the place of a former export, of which only removing is left."""
        try:
            return self._placed.read_bytes() == str(self._output.stat().st_ino).encode()
        except FileNotFoundError:
            return False

    def put_aside(self, label: str) -> Path:
        """Rename the sealed folder to a sibling of the output, `NAME.label`, numbered if there is one; returns it.

        A NAME that leaves no room for the label is cut.
        """
        aside = self._free_sibling(f".{label}")
        self.artifacts.rename(aside)
        flush(aside.parent, below=False)
        return aside

    def keep_log(self, log: Path) -> Path:
        """Copy a log to `NAME.failed-compilation.txt` beside the output, numbered if there is one; returns it."""
        kept = self._free_sibling(".failed-compilation", log.suffix)
        shutil.copyfile(log, kept)
        return kept

    def _free_sibling(self, label: str, ending: str = "") -> Path:
        names = (f"{label}{f'-{number}' if number > 1 else ''}{ending}" for number in itertools.count(1))
        return next(path for path in map(self._sibling, names) if not os.path.lexists(path))

    def restore(self) -> None:
        """Put a former export back whose successor did not take its place."""
        if self._replaced.is_dir() and not self._output.exists():
            self._replaced.rename(self._output)

    def clean(self, wanted: Collection[str]) -> list[str]:
        """Remove everything but the finished ones of the `wanted` components; returns their names."""
        finished = {path.stem for path in self._records.glob("*.json")} if self._records.is_dir() else set()
        names = sorted(name for name in finished & set(wanted) if (self.artifacts / name).is_dir())
        keep = {self._lock, self.holder / partial_folder.MARK, self.holder / partial_folder.SOURCES}
        keep |= {self.artifacts, self._records}
        keep |= {self.artifacts / name for name in names} | {self._records / f"{name}.json" for name in names}
        for folder in (self.holder, self.artifacts, self._records):
            for path in folder.iterdir() if folder.is_dir() else ():
                if path not in keep:
                    _remove(path)
        return names

    def remove(self) -> None:
        """Remove this export and all that it has finished. The lock goes last, while it is held."""
        last = [self.holder / partial_folder.MARK, self._lock]
        for path in (*(path for path in self.holder.iterdir() if path not in last), *last):
            _remove(path)
        with suppress(OSError):  # a compiler outlived its export, or the next export has come already
            for folder in (self.holder, *self._made):
                folder.rmdir()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock; the system releases it when the process ends, however it ends.

        The lock file is removed while the lock is held, so whoever opened it before has a file without a name, and
        opens the name anew.

        Raises:
            InvalidExportOption: another process holds it, or the folder is not this user's own or cannot be made.
            OutputFull: the disk has no room for it.
        """
        try:
            while (lock := self._lock_once()) is None:
                pass  # another export ended meanwhile
        except OSError as error:  # of file systems that promise more than they hold, such as some over a network
            if error.errno in NO_ROOM:
                raise OutputFull(f"{self._output.parent} has no room for the export: {error.strerror}") from None
            raise InvalidExportOption(f"{self._output} cannot be made: {error.strerror}") from None
        try:
            yield
        finally:
            os.close(lock)

    def _lock_once(self) -> int | None:
        """The lock file, open and locked; None if another export took the file or its folder with it."""
        self._make_holder()
        try:
            lock = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(lock).st_nlink:
                return lock
        except BlockingIOError:
            os.close(lock)
            raise InvalidExportOption(
                f"{self._output}: another export is writing it; wait for that one or give another output folder"
            ) from None
        os.close(lock)
        return None

    def _make_holder(self) -> None:
        """Folders above it that were made for it go with it, if nothing has come into them."""
        above = [folder for folder in self.holder.parents if not folder.exists()]
        self.holder.parent.mkdir(parents=True, exist_ok=True)
        self._made = above or self._made
        with suppress(FileExistsError):
            self.holder.mkdir(mode=0o700)
        partial_folder.check_own(self.holder)

    @property
    def way_on(self) -> str:
        """What to do for the next run to go on from what this one has finished."""
        if not self._force:
            return "the same command goes on from there, --force starts over"
        moved = f", once {self._output} is moved away" if self._output.is_dir() and any(self._output.iterdir()) else ""
        return f"the same command without --force goes on from there{moved}"

    @property
    def exists(self) -> bool:
        return os.path.lexists(self.holder)

    def __str__(self) -> str:
        return str(self.holder)

    def _read(self, name: str) -> FinishedComponent | None:
        try:
            content = read_bytes(self._records / f"{name}.json", RECORDS_BYTES)
            return FinishedComponent.model_validate_json(content)
        except (OSError, ValueError):  # another version of this package may have written it
            return None

    def _remove_workdirs(self) -> None:
        for workdir in self.holder.glob(f"{partial_folder.WORKDIR_PREFIX}*"):
            _remove(workdir)

    def _files_of(self, name: str) -> list[str]:
        return [file for file in listed_files(self.artifacts) if file.startswith(f"{name}/")]

    def _read_back(self, name: str, files: Collection[str]) -> dict[str, FileRecord]:
        return records_of(self.artifacts, files, title=f"    reading {name} back")

    def _is_whole(self, name: str, files: dict[str, FileRecord]) -> bool:
        """Whether a component has exactly these files; its configuration is written anew in every run."""
        found = set(self._files_of(name)) - {f"{name}/{CONFIG_FILE}"}
        return found == set(files) and self._read_back(name, files) == files

    def _sibling(self, ending: str) -> Path:
        room = os.pathconf(self._output.parent, LONGEST_NAME) - len(ending.encode())
        return self._output.with_name(os.fsencode(self._output.name)[:room].decode(errors="ignore") + ending)

    def _remove(self, name: str) -> None:
        """The record first: what has none is not finished."""
        (self._records / f"{name}.json").unlink(missing_ok=True)
        _remove(self.artifacts / name)


def tidy(output: Path) -> None:
    """Clear up after an export to `output` that was killed in its last moment; components it finished stay.

    Raises:
        InvalidExportOption: an export to `output` is going on, or the folder beside it is not this user's own.
    """
    unfinished = UnfinishedExport(resolved(output))
    if not unfinished.exists:
        return
    with unfinished.locked():
        unfinished.restore()
        if unfinished.in_place or not unfinished.artifacts.is_dir():
            unfinished.remove()


@contextmanager
def unfinished_export(output: Path, components: Collection[str], *, force: bool) -> Iterator[UnfinishedExport]:
    """Hold `.NAME.partial` of an output for the block, at whose end it is removed.

    If the block raises, what it has finished of `components` stays for the next run, and stderr says where.

    Args:
        force: whether to forget what an interrupted export has finished.

    Raises:
        InvalidExportOption: another export is writing to `output`, or `output` was taken meanwhile.
        OutputFull: the disk has no room for what the block wrote.
    """
    unfinished = UnfinishedExport(resolved(output), force=force)  # a link stays one
    with unfinished.locked():
        try:
            unfinished.restore()
            check_output(output, force=force)
            partial_folder.mark(unfinished.holder)
            unfinished.clean(() if force else components)
            unfinished.make()
            yield unfinished
        except BaseException as error:
            reason = _no_room(error, unfinished.holder.parent)
            unfinished.restore()
            kept = [] if unfinished.in_place else unfinished.clean(components)
            if kept:
                logger.warning(f"kept {', '.join(kept)} in {unfinished}: {unfinished.way_on}")
            else:
                unfinished.remove()
            if reason:
                raise OutputFull(f"{output.parent} has no room for the export: {reason}") from error
            raise
        unfinished.remove()


def _no_room(error: BaseException, folder: Path) -> str | None:
    """The reason if a write found no room on the disk of `folder`, else None."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in NO_ROOM:
            return os.strerror(cause.errno)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    explained = isinstance(error, PixArtNeuronError) and not isinstance(error, CompilationFailed)
    unexplained = isinstance(error, Exception) and not explained
    if unexplained and shutil.disk_usage(folder).free < _NO_ROOM_BYTES:
        return os.strerror(errno.ENOSPC)
    return None


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)

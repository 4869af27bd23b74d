"""The folder `.NAME.partial` beside an output: what it is called, and whether it may be trusted.

What it holds becomes the output, and much of it is removed, so nobody else may have put anything there: in a shared
folder another user can make it first.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from ..errors import InvalidExportOption
from ..files import OTHERS_WRITE, UNFINISHED, write_whole

MARK = "README"
_TEXT = """\
An unfinished export to {name}, of optimum-pixart-neuron. The same command goes on from here. Remove this folder to
start over.
"""
LOCK = "lock"
ARTIFACTS, RECORDS, REPLACED = "artifacts", "finished", "replaced"
PIPELINE_INDEX, SOURCES, PLACED = "pipeline.json", "checkpoint_files.json", "placed"
WORKDIR_PREFIX = "work-"
_NAMES = {MARK, LOCK, ARTIFACTS, RECORDS, REPLACED, PIPELINE_INDEX, SOURCES, PLACED}


def partial_folder(output: Path) -> Path:
    """Where an export to `output`, its links resolved, is written; beside the root nothing can be."""
    if not output.name:
        raise InvalidExportOption(f"{output} is a mount point, which cannot be renamed; give a folder inside it")
    return output.with_name(f".{output.name}.partial")


def mark(holder: Path) -> None:
    """Have the folder say what it is, to people and to the next export."""
    if not (holder / MARK).exists():
        write_whole(holder / MARK, _TEXT.format(name=holder.name[1:].removesuffix(".partial")).encode())


def check_own(holder: Path) -> None:
    """Refuse a folder that this user's exports did not make. Nothing in it is read or changed.

    Raises:
        InvalidExportOption: it is a link or of another user, others may write to it, or it holds what no export wrote.
    """
    try:
        reason = _foreign(holder)
    except FileNotFoundError:
        return
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
    if reason:
        raise InvalidExportOption(f"{holder} {reason}; move it away, or give another output folder")


def _foreign(holder: Path) -> str | None:
    found = holder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        return "is a link" if stat.S_ISLNK(found.st_mode) else "is not a folder"
    if found.st_uid != os.geteuid():
        return "is of another user"
    if found.st_mode & OTHERS_WRITE:
        return "can be written by other users"
    names = sorted(os.listdir(holder))
    strange = next((name for name in names if not _is_ours(name)), None)
    if strange:
        return f"holds {strange}, which no unfinished export has"
    unmarked = next((name for name in names if name != LOCK and not name.startswith(MARK)), None)
    if unmarked and MARK not in names:
        return f"holds {unmarked}, and no {MARK} of an unfinished export"
    # The compiler's intermediate files are only ever removed, and may have links of its own.
    for name in (name for name in names if not name.startswith(WORKDIR_PREFIX)):
        for path in _all_of(holder / name):
            found = path.lstat()
            if stat.S_ISLNK(found.st_mode) or found.st_uid != os.geteuid():
                what = "a link" if stat.S_ISLNK(found.st_mode) else "of another user"
                return f"holds {path.relative_to(holder)}, which is {what}"
    return None


def _is_ours(name: str) -> bool:
    return name.removesuffix(UNFINISHED) in _NAMES or name.startswith(WORKDIR_PREFIX)


def _all_of(path: Path) -> Iterator[Path]:
    """A path, then everything below it unless it is a link."""
    yield path
    if not path.is_symlink():
        for folder, folders, files in os.walk(path):
            yield from (Path(folder, name) for name in (*folders, *files))

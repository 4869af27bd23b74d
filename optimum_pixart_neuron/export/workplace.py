"""Where a compiler works: a folder of its own that is also the current folder, under a name that is one word.

NxD 0.15 puts paths into the compiler's command line without quotes (`model_builder.py`, `--logfile=`). Its layout step
writes graphs into the current folder, and SDK 2.31 leaves folders of kernels there.
"""

import os
import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import InvalidExportOption


@contextmanager
def one_word(folder: Path) -> Iterator[Path]:
    """A way to `folder` that is one word of a command line: its absolute path, or a link for the block.

    Raises:
        InvalidExportOption: neither its path nor that of any folder for temporary files is one word.
    """
    folder = folder.absolute()
    if _is_one_word(folder):
        yield folder
        return
    places = [place for place in (tempfile.gettempdir(), "/tmp", "/var/tmp") if _is_one_word(place)]
    place = next((place for place in places if os.access(place, os.W_OK | os.X_OK)), None)
    if place is None:
        raise InvalidExportOption(
            f"{folder}: the compiler takes no path with spaces or quotes, and TMPDIR={tempfile.gettempdir()} has them,"
            " too; set TMPDIR to a folder without"
        )
    with tempfile.TemporaryDirectory(prefix="pixart-neuron-", dir=place) as own:
        link = Path(own, "work")
        link.symlink_to(folder, target_is_directory=True)
        yield link


def _is_one_word(path: Path | str) -> bool:
    try:
        return shlex.split(str(path)) == [str(path)]
    except ValueError:
        return False


@contextmanager
def current_folder(folder: Path) -> Iterator[None]:
    """Have `folder` be the current folder of this process, all its threads included, for the block."""
    before = os.open(os.curdir, getattr(os, "O_PATH", os.O_RDONLY))  # the folder itself, whatever it is called later
    try:
        os.chdir(folder)
        yield
    finally:
        os.fchdir(before)
        os.close(before)

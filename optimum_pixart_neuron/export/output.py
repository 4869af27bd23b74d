"""The output folder: optimum-neuron's layout (0.4.5), which folders an export may take, and what is copied there."""

import os
import shutil
from pathlib import Path

from ..artifact.manifest import EXAMPLE_FILE, MANIFEST_FILE, NOT_LISTED, Manifest, strangers
from ..checkpoint.checkpoint import PixArtCheckpoint
from ..checkpoint.layout import INDEX
from ..errors import ArtifactError, InvalidExportOption
from .partial_folder import check_own, partial_folder

LONGEST_NAME, LONGEST_PATH = "PC_NAME_MAX", "PC_PATH_MAX"
"""What `os.pathconf` calls the bytes of a name, and of a path with its ending zero."""

_ROOM_BELOW = 128  # bytes; of the longest path inside an output or beside it
_ANOTHER = "give an output folder that does not exist"


def resolved(path: Path) -> Path:
    """A path without links, so that "." and a link to a folder have the folder's name.

    Raises:
        InvalidExportOption: its links go in a circle, or the current folder is gone.
    """
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError is a circle (Python 3.10 to 3.12)
        raise InvalidExportOption(f"{path} cannot be a folder: {_reason(error)}") from None


def check_output(output: Path, *, force: bool = False) -> None:
    """Refuse to write over anything but, with `force`, an export of this user's and nothing else.

    Raises:
        InvalidExportOption: `output` is the current folder, no folder, or one that holds something, or cannot be made.
    """
    try:
        folder = resolved(output)
        above = _nearest(folder.parent)
        _check_name(output, folder, above)
        if os.path.lexists(folder) and not folder.is_dir():
            raise InvalidExportOption(f"{output} exists and is not a folder; {_ANOTHER}")
        here = resolved(Path())
        if here == folder or folder in here.parents:
            raise InvalidExportOption(f"{output} is or holds the current folder, which cannot be replaced; {_ANOTHER}")
        if os.path.ismount(folder):
            raise InvalidExportOption(f"{output} is a mount point, which cannot be renamed; give a folder inside it")
        if folder.is_dir() and any(folder.iterdir()):
            _check_replaceable(output, folder, force)
        if not above.is_dir():
            raise InvalidExportOption(f"{output} cannot be made: {above} is not a folder")
        if not os.access(above, os.W_OK | os.X_OK):
            raise InvalidExportOption(f"{output} cannot be made: you may not write to {above}")
        check_own(partial_folder(folder))
    except OSError as error:
        raise InvalidExportOption(f"{output} cannot be made: {_reason(error)}") from None


def _check_name(output: Path, folder: Path, above: Path) -> None:
    path, name, beside = os.fsencode(folder), os.fsencode(folder.name), os.fsencode(partial_folder(folder).name)
    room = os.pathconf(above, LONGEST_NAME) - (len(beside) - len(name))
    if len(name) > room:
        raise InvalidExportOption(f"{output}: its name has {len(name)} bytes; give one of at most {room}")
    room = os.pathconf(above, LONGEST_PATH) - _ROOM_BELOW - len(beside)
    if len(path) > room:
        raise InvalidExportOption(f"the output's path has {len(path)} bytes; give one of at most {room}, not {output}")


def _check_replaceable(output: Path, folder: Path, force: bool) -> None:
    holds = f"{output} exists and is not empty"
    try:
        manifest = Manifest.read(folder) if (folder / INDEX).is_file() else None
    except ArtifactError as error:
        raise InvalidExportOption(f"{holds}; {error}") from None
    if manifest is None:
        only = "; --force replaces only exports of this package" if force else ""
        raise InvalidExportOption(f"{holds}; {_ANOTHER}{only}")
    if not force:
        raise InvalidExportOption(f"{holds}; --force replaces the export that it holds")
    foreign = strangers(folder, manifest)
    if foreign:
        raise InvalidExportOption(f"{output}: --force would lose {foreign[0]}, which no export wrote; move it away")
    below = (Path(above) for above, _, _ in os.walk(folder))
    others = next((path for path in below if path.lstat().st_uid != os.geteuid()), None)
    if others:
        raise InvalidExportOption(f"{output}: --force would replace {others}, which is of another user; {_ANOTHER}")


def check_apart(output: Path, compiler_workdir: Path | None, checkpoint: PixArtCheckpoint) -> None:
    """Refuse to write into what is read, or into what becomes the output.

    Raises:
        InvalidExportOption: a folder lies in a component of the checkpoint, or the compiler's in the output.
    """
    written = {str(output): resolved(output)}
    if compiler_workdir:
        written[f"--compiler_workdir {compiler_workdir}"] = resolved(compiler_workdir)
    for named, path in written.items():
        for component, source in checkpoint.sources.items():
            if source.file is None and _lies_in(path, resolved(source.folder)):
                raise InvalidExportOption(
                    f"{named} lies in {source.folder}, the checkpoint's {component}; give a folder outside of it"
                )


def check_workdir(compiler_workdir: Path | None, output: Path) -> None:
    """Refuse a folder in which the compiler cannot leave its files, or in which they would not stay.

    Raises:
        InvalidExportOption: it is no folder, may not be written to, or lies in the output.
    """
    if compiler_workdir is None:
        return
    named = f"--compiler_workdir {compiler_workdir}"
    try:
        folder, becomes = resolved(compiler_workdir), resolved(output)
        if any(_lies_in(folder, place) for place in (becomes, partial_folder(becomes))):
            raise InvalidExportOption(f"{named} lies in {output}, which the export replaces; give another folder")
        above = _nearest(folder)
        if not above.is_dir():
            raise InvalidExportOption(f"{named} cannot be made: {above} is not a folder")
        if not os.access(above, os.W_OK | os.X_OK):
            raise InvalidExportOption(f"{named}: you may not write to {above}")
    except OSError as error:
        raise InvalidExportOption(f"{named} cannot be made: {_reason(error)}") from None


def _lies_in(path: Path, folder: Path) -> bool:
    return path == folder or folder in path.parents


def _nearest(path: Path) -> Path:
    """The path itself, or what is there of the folders above it."""
    return next(each for each in (path, *path.parents) if os.path.lexists(each))


def _reason(error: Exception) -> str:
    if isinstance(error, RuntimeError):
        return "its links go in a circle"
    return (isinstance(error, OSError) and error.strerror) or str(error)


def copy_users_files(replaced: Path, folder: Path) -> None:
    """Take along what the user and the Hub edit in an export that is replaced, such as its README.md."""
    for name in NOT_LISTED:
        if name not in (MANIFEST_FILE, EXAMPLE_FILE) and (replaced / name).is_file():
            shutil.copyfile(replaced / name, folder / name)

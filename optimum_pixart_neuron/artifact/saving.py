"""Copies of compiled artifacts in other folders, with another scheduler perhaps; no file is ever half replaced."""

import os
from collections.abc import Collection, Mapping
from pathlib import Path

from ..checkpoint.layout import INDEX
from ..errors import ArtifactError, OutputFull
from ..files import NO_ROOM, full_digest, write_whole
from .manifest import MANIFEST_FILE, NOT_LISTED, Manifest, listed_files


def save_copy(folder: Path, target: Path, changed: Mapping[str, bytes] | None = None) -> None:
    """Copy artifacts into a folder, which becomes loadable last; files that are not of the artifacts stay as they are.

    Each file is replaced whole, so a pipeline that has mapped the former one goes on with that.

    Args:
        folder: with the artifacts.
        target: made if it does not exist. If it is `folder` itself, what is changed is written and nothing else.
        changed: files with another content than in `folder`, by path. The manifest of the copy knows them.

    Raises:
        ArtifactError: `target` is in `folder` or around it, holds a file of another kind under a name of the
            artifacts, or cannot be written. A folder of the download cache is not changed.
        OutputFull: there is no room for it.
    """
    changed, manifest = changed or {}, Manifest.read(folder)
    if not (folder / INDEX).is_file():
        raise ArtifactError(f"{folder} is not there any more, or is no compiled pipeline; nothing was saved")
    names = [*(manifest.files if manifest else listed_files(folder)), *changed]
    names += [name for name in NOT_LISTED if name != MANIFEST_FILE and (folder / name).is_file()]
    try:
        if target.exists() and target.samefile(folder):
            _change(folder, changed, manifest)
        else:
            _check_target(folder, target, names)
            _copy(folder, target, dict.fromkeys(names), changed, manifest)
    except OSError as error:
        kind = OutputFull if error.errno in NO_ROOM else ArtifactError
        raise kind(f"{target} cannot be written: {error.strerror or error}") from None


def _change(folder: Path, changed: Mapping[str, bytes], manifest: Manifest | None) -> None:
    if not changed:
        return
    linked = [name for name in changed if (folder / name).is_symlink()]
    if linked:
        raise ArtifactError(f"{folder / linked[0]} is a link, as in the download cache; save into another folder")
    for name, content in changed.items():
        write_whole(folder / name, content)
    if manifest:
        manifest.with_changes(changed).write(folder)


def _check_target(folder: Path, target: Path, names: Collection[str]) -> None:
    here, there = folder.resolve(), target.resolve()
    if here in there.parents or there in here.parents:
        raise ArtifactError(f"{target} and the pipeline's own folder {folder} lie in each other; give another folder")
    if target.exists() and not target.is_dir():
        raise ArtifactError(f"{target} is not a folder; give the folder to save into")
    replaced = Manifest.read(target)
    for name in names:
        known = name in NOT_LISTED or (replaced and name in replaced.files)
        if not known and os.path.lexists(target / name) and not _is_same(folder / name, target / name):
            raise ArtifactError(f"{target} holds a {name} that no export wrote; move it away, or give another folder")


def _is_same(ours: Path, theirs: Path) -> bool:
    return theirs.is_file() and ours.is_file() and full_digest(ours) == full_digest(theirs)


def _copy(
    folder: Path, target: Path, names: Collection[str], changed: Mapping[str, bytes], manifest: Manifest | None
) -> None:
    """The index goes first of what is replaced, and comes last: without it nothing takes a folder for artifacts.

    The former manifest stays until the new one is there, so that what it lists may be replaced by the next try.
    """
    replaced = Manifest.read(target)
    former = [name for name in listed_files(target) if name in replaced.files] if replaced else []
    for name in (INDEX, *(name for name in former if name not in names)):
        (target / name).unlink(missing_ok=True)
    for name in (*(name for name in names if name != INDEX), INDEX):
        if name == INDEX and manifest:
            manifest.with_changes(changed).write(target)
        elif name == INDEX:  # what the stock exporter made has none, and then no former one may speak for it
            (target / MANIFEST_FILE).unlink(missing_ok=True)
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if name in NOT_LISTED and (target / name).exists():
            continue  # the user's own words about the target
        write_whole(target / name, changed.get(name, folder / name))

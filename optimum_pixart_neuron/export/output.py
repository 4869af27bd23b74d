"""The output folder: optimum-neuron's layout (0.4.5), and which folders an export may take."""

import os
import shutil
from pathlib import Path

from ..artifact.manifest import MANIFEST_FILE, NOT_LISTED, Manifest, listed_files
from ..checkpoint.checkpoint import PixArtCheckpoint
from ..checkpoint.layout import COPIED_COMPONENTS, INDEX
from ..errors import ArtifactError, InvalidExportOption

MODEL_FILE = "model.neuron"
WEIGHTS_FOLDER = "weights"


def check_output(output: Path, *, force: bool = False) -> None:
    """Refuse to write over anything but, with `force`, an export and nothing else.

    Raises:
        InvalidExportOption: `output` is a file or a folder that holds something, or cannot be made.
    """
    if os.path.ismount(output):
        raise InvalidExportOption(f"{output} is a mount point, which cannot be renamed; give a folder inside it")
    if output.is_file() or (output.is_dir() and any(output.iterdir())):
        _check_replaceable(output, force)
    above = next(folder for folder in output.absolute().parents if folder.exists())
    if not above.is_dir():
        raise InvalidExportOption(f"{output} cannot be made: {above} is not a folder")
    if not os.access(above, os.W_OK):
        raise InvalidExportOption(f"{output} cannot be made: you may not write to {above}")


def _check_replaceable(output: Path, force: bool) -> None:
    try:
        manifest = Manifest.read(output) if (output / INDEX).is_file() else None
    except ArtifactError as error:
        raise InvalidExportOption(f"{output} exists and is not empty; {error}") from None
    if manifest is None:
        only = "; --force replaces only exports of this package" if force else ""
        raise InvalidExportOption(f"{output} exists and is not empty; give an output folder that does not exist{only}")
    if not force:
        raise InvalidExportOption(f"{output} exists and is not empty; --force replaces the export that it holds")
    foreign = [name for name in listed_files(output) if name not in manifest.files]
    if foreign:
        raise InvalidExportOption(f"{output}: --force would lose {foreign[0]}, which no export wrote; move it away")


def copy_users_files(replaced: Path, folder: Path) -> None:
    """Take along what the user and the Hub edit in an export that is replaced, such as its README.md."""
    for name in NOT_LISTED:
        if name != MANIFEST_FILE and (replaced / name).is_file():
            shutil.copyfile(replaced / name, folder / name)


def copy_unchanged(checkpoint: PixArtCheckpoint, folder: Path) -> None:
    """Copy what no compiler touches: tokenizer and scheduler.

    Raises:
        OSError: one with its number, as on a full disk; `shutil.copytree` gathers them as text.
    """
    for component in COPIED_COMPONENTS:
        source = checkpoint.sources[component].folder
        for path in (path for path in source.rglob("*") if path.is_file()):
            copy = folder / component / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, copy)

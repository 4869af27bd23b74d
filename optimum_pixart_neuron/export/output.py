"""The output folder, in optimum-neuron's layout (0.4.5), written whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..checkpoint import COPIED_COMPONENTS, PixArtCheckpoint
from ..errors import InvalidExportOption

MODEL_FILE = "model.neuron"
WEIGHTS_FOLDER = "weights"


def check_output(output: Path) -> None:
    """Refuse to write over anything.

    Raises:
        InvalidExportOption: `output` is a file or a folder that holds something, or cannot be made.
    """
    if output.is_file() or (output.is_dir() and any(output.iterdir())):
        raise InvalidExportOption(f"{output} exists and is not empty; give an output folder that does not exist")
    above = next(folder for folder in output.absolute().parents if folder.exists())
    if not above.is_dir():
        raise InvalidExportOption(f"{output} cannot be made: {above} is not a folder")
    if not os.access(above, os.W_OK):
        raise InvalidExportOption(f"{output} cannot be made: you may not write to {above}")


@contextmanager
def written_whole(output: Path) -> Iterator[Path]:
    """A temporary sibling of `output` that becomes it at the end of the block, or vanishes on any error."""
    output = output.resolve()  # a link stays one, and "." has no name of its own
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.partial-") as holder:
        folder = Path(holder) / output.name
        folder.mkdir()
        yield folder
        if output.is_dir():
            output.rmdir()  # an empty folder, see check_output
        folder.rename(output)


def copy_unchanged(checkpoint: PixArtCheckpoint, folder: Path) -> None:
    """Copy what no compiler touches: the pipeline's index, tokenizer and scheduler."""
    shutil.copyfile(checkpoint.folder / "model_index.json", folder / "model_index.json")
    for component in COPIED_COMPONENTS:
        shutil.copytree(checkpoint.folder / component, folder / component)

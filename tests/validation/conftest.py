"""The tiny checkpoint as validation opens it, and the exports of the end-to-end tests."""

from pathlib import Path

import pytest

from optimum_pixart_neuron.checkpoint.checkpoint import PixArtCheckpoint

from ..e2e.conftest import exported, sdk  # noqa: F401


def opened(folder: Path) -> PixArtCheckpoint:
    """A checkpoint in a folder, all of it there."""
    from optimum_pixart_neuron.checkpoint.open import open_checkpoint
    from optimum_pixart_neuron.export.options import ExportOptions

    return open_checkpoint(ExportOptions(model=str(folder), output=folder / "none"))


@pytest.fixture(scope="session")
def checkpoint(tiny_checkpoint) -> PixArtCheckpoint:
    return opened(tiny_checkpoint)


@pytest.fixture(scope="session")
def other_checkpoint(tmp_path_factory) -> PixArtCheckpoint:
    """The same geometry, other weights."""
    from tests.tiny import build_tiny_checkpoint

    return opened(build_tiny_checkpoint(tmp_path_factory.mktemp("other") / "checkpoint", seed=9))

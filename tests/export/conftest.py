"""The small checkpoint cut up and copied, and a Hub to put it on."""

import shutil
from pathlib import Path

import pytest

from ..checkpoints import Parts
from ..hub.conftest import hub  # noqa: F401


@pytest.fixture(scope="module")
def parts(tiny_checkpoint, tmp_path_factory) -> Parts:
    return Parts.of(tiny_checkpoint, tmp_path_factory.mktemp("parts"))


@pytest.fixture
def whole(tiny_checkpoint, tmp_path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "whole"))

"""A Hub on 127.0.0.1 for each test, and clients that know no other."""

from pathlib import Path

import pytest

from .client import client_settings
from .exports import make_export
from .fake_hub import FakeHub


@pytest.fixture
def hub(tmp_path, monkeypatch) -> FakeHub:
    """A running Hub. huggingface_hub of this process talks to it, with an empty cache and the token of a writer."""
    from huggingface_hub.utils import reset_sessions

    home = tmp_path / "hf"
    with FakeHub() as running:
        for name, value in running.environment(home).items():
            monkeypatch.setenv(name, value)
        for setting in client_settings(running.url, home, patience_s=1):
            monkeypatch.setattr(*setting)
        yield running
        reset_sessions()


@pytest.fixture
def export(tmp_path) -> Path:
    """A folder that looks like an export on 4 ranks."""
    folder = tmp_path / "export"
    make_export(folder)
    return folder

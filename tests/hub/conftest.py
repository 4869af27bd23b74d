"""A Hub on 127.0.0.1 for each test, and clients that know no other."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from .exports import make_export
from .fake_hub import FakeHub


@pytest.fixture
def hub(tmp_path, monkeypatch) -> FakeHub:
    """A running Hub. huggingface_hub of this process talks to it, with an empty cache and the token of a writer.

    huggingface_hub reads its variables when it is imported, so its constants are changed too. Nobody waits before
    trying again.
    """
    from huggingface_hub import constants, file_download
    from huggingface_hub.utils import _http, reset_sessions

    from optimum_pixart_neuron import hub

    home = tmp_path / "hf"
    with FakeHub() as running:
        for name, value in running.environment(home).items():
            monkeypatch.setenv(name, value)
        template = running.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(file_download, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
        monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 1)
        monkeypatch.setattr(hub, "_PAUSES_S", (0.0,) * 4)
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 16 * 1024)  # what a broken download loses at most
        # Its own pauses, of 1 s and more, between requests and between parts of a download.
        for module in (_http, file_download):
            monkeypatch.setattr(module, "time", SimpleNamespace(sleep=lambda seconds: None))
        yield running
        reset_sessions()


@pytest.fixture
def export(tmp_path) -> Path:
    """A folder that looks like an export on 4 ranks."""
    folder = tmp_path / "export"
    make_export(folder)
    return folder

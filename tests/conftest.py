"""Fixtures of all tests, and the reason for which hardware tests are skipped."""

import os
from pathlib import Path

import pytest


def pytest_collection_modifyitems(items):
    """Skip what needs a NeuronCore where there is none, with the reason."""
    if os.path.exists("/dev/neuron0"):
        return
    skip = pytest.mark.skip(reason="needs a NeuronCore: this machine has no /dev/neuron0")
    for item in items:
        if item.get_closest_marker("neuron"):
            item.add_marker(skip)


@pytest.fixture
def logged(caplog) -> pytest.LogCaptureFixture:
    """What the package logs during a test, in `messages`; commands show it on their standard streams."""
    caplog.set_level("INFO", logger="optimum_pixart_neuron")
    return caplog


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory) -> Path:
    """A small PixArt-Sigma checkpoint for 256 x 256 pixels; read only, it is shared by all tests."""
    from tests.tiny import build_tiny_checkpoint

    return build_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny-pixart-sigma")

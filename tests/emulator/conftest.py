"""The SDK of these tests is the emulator's; each file starts with a runtime of its own, whatever ran before it."""

import gc

import pytest

from optimum_pixart_neuron import emulator

emulator.activate()


@pytest.fixture(scope="module", autouse=True)
def own_runtime():
    _reset()
    yield
    _reset()  # what a trace without `cpu_backend` holds


def _reset():
    from optimum_pixart_neuron.emulator.device import reset_device

    gc.collect()
    reset_device()

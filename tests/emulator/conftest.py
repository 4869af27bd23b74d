"""Each file of these tests starts with a runtime of its own, whatever ran before it in the process."""

import gc

import pytest


@pytest.fixture(scope="module", autouse=True)
def own_runtime():
    _reset()
    yield
    _reset()  # what a trace without `cpu_backend` holds


def _reset():
    from optimum_pixart_neuron import emulator

    if emulator.is_active():
        from optimum_pixart_neuron.emulator.device import reset_device

        gc.collect()
        reset_device()

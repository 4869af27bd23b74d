"""The SDK of these tests is the emulator's; each file starts with a runtime of its own, whatever ran before it."""

import gc

import pytest

from optimum_pixart_neuron import emulator
from optimum_pixart_neuron.hardware import CORE_VARIABLES, LNC_VARIABLES, get_instance

emulator.activate()


@pytest.fixture
def start_device(monkeypatch):
    """Start the runtime anew, on an instance and with more variables than before; returns its device."""
    from optimum_pixart_neuron.emulator import device

    def start(instance="trn1.32xlarge", **environment):
        monkeypatch.setattr(emulator, "_active", get_instance(instance))
        monkeypatch.setattr(device, "_device", None)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return device.current_device()

    for variable in (*CORE_VARIABLES, *LNC_VARIABLES):
        monkeypatch.delenv(variable, raising=False)
    return start


@pytest.fixture(scope="module", autouse=True)
def own_runtime():
    _reset()
    yield
    _reset()  # what a trace without `cpu_backend` holds


def _reset():
    from optimum_pixart_neuron.emulator.device import reset_device

    gc.collect()
    reset_device()

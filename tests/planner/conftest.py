"""The programs of XL/2, and the SDK to trace them with."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def sdk():
    """The SDK of these tests: the installed one on an instance, the emulator elsewhere."""
    from optimum_pixart_neuron.neuron.sdk import ensure_sdk

    return ensure_sdk()

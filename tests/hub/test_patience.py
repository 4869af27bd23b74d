"""What is told of an error between this machine and the Hub, and what is a defect that keeps its traceback."""

import logging
import sys

import pytest
from huggingface_hub import HfApi
from huggingface_hub.utils import are_progress_bars_disabled

from optimum_pixart_neuron.artifact.manifest import Manifest
from optimum_pixart_neuron.errors import HubError
from optimum_pixart_neuron.hub import patiently


def refused_by_the_hubs_library():
    HfApi().model_info("no id", revision=["no", "revision"])


def full_disk():
    raise OSError(28, "No space left on device")


def defect_of_ours():
    Manifest.model_validate({})  # pydantic's ValidationError is a ValueError


def another_defect():
    raise RuntimeError("must not happen")


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (refused_by_the_hubs_library, "me/repo: is not an id of the Hugging Face Hub"),
        (full_disk, r"me/repo: \[Errno 28\] No space left on device"),
    ],
)
def test_what_the_hub_and_the_system_say_is_one_line(act, message):
    with pytest.raises(HubError, match=f"^{message}$"):
        patiently(act, "me/repo")


@pytest.mark.parametrize("act", [defect_of_ours, another_defect])
def test_a_defect_of_ours_keeps_its_traceback(act):
    with pytest.raises((ValueError, RuntimeError)) as raised:
        patiently(act, "me/repo")
    assert not isinstance(raised.value, HubError)
    assert act.__name__ in [entry.name for entry in raised.traceback]


@pytest.mark.parametrize("terminal", [True, False])
def test_bars_are_drawn_on_terminals_only(terminal, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    assert patiently(are_progress_bars_disabled, "me/repo") is not terminal
    assert not are_progress_bars_disabled(), "as the user's program had it"


def test_retries_of_the_hubs_library_are_logged_for_who_asks_for_them(caplog, monkeypatch):
    requests = logging.getLogger("huggingface_hub.utils._http")
    monkeypatch.setattr(requests, "propagate", False)
    monkeypatch.setattr(requests, "handlers", [caplog.handler])

    def retries():
        requests.warning("'(MaxRetryError(...))' thrown while requesting HEAD ...")
        return patiently(lambda: requests.warning("Retrying in 1s [Retry 1/5]."), "me/repo")

    patiently(retries, "me/repo")
    assert caplog.messages == []
    with caplog.at_level(logging.INFO, requests.name):
        patiently(retries, "me/repo")
    assert len(caplog.messages) == 2
    requests.warning("to the user's program")
    assert len(caplog.messages) == 3

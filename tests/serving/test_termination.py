"""SIGTERM while a server starts: the command ends in time, with status 0, and leaves nothing."""

import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from types import SimpleNamespace

import psutil
import pytest

from optimum_pixart_neuron.errors import PixArtNeuronError
from optimum_pixart_neuron.serving.server import lifetime, termination
from tests.serving.conftest import alive, family_of, free_port, named, running, wait_until
from tests.serving.painter import exported
from tests.serving.test_opened import options

APPLICATION = "optimum_pixart_neuron.serving.server.application"
DRAIN_S = 12.0


@pytest.fixture
def start(monkeypatch, tmp_path):
    """Start a server whose Ray is a folder, and whose deployment is a function of the test's."""
    before = signal.getsignal(signal.SIGTERM)

    @contextmanager
    def session(_address):
        yield tmp_path / "empty"

    monkeypatch.setattr(lifetime, "ray_session", session)
    monkeypatch.setattr(lifetime, "_check_port", lambda _options: None)
    monkeypatch.setattr(lifetime, "open_all", lambda _options: {"painter": exported()})
    monkeypatch.setattr(termination.Termination, "_end_in_time", lambda _self: None)
    monkeypatch.setitem(sys.modules, APPLICATION, SimpleNamespace(build_of=lambda *_: None))

    def start(deploy) -> None:
        monkeypatch.setattr(lifetime, "_deploy", deploy)
        lifetime.serve_until_terminated(options(), lambda _url: pytest.fail("it has not started"))

    yield start
    signal.signal(signal.SIGTERM, before)


def terminated(*_):
    signal.raise_signal(signal.SIGTERM)


def terminated_in_a_call_of_rays(*_):
    try:
        signal.raise_signal(signal.SIGTERM)
    except SystemExit as error:
        raise PixArtNeuronError("the server does not start: the worker exits") from error


def terminated_twice(*_):
    try:
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("deploy", [terminated, terminated_in_a_call_of_rays, terminated_twice])
def test_a_server_that_starts_is_ended(start, deploy):
    with pytest.raises(SystemExit) as ended:
        start(deploy)
    assert ended.value.code == 0


def test_one_that_cannot_start_says_so(start):
    def deploy(*_):
        raise PixArtNeuronError("the server does not start: no cores")

    with pytest.raises(PixArtNeuronError, match="no cores"):
        start(deploy)


DEAF = """
import os, signal, subprocess, sys, time
from pathlib import Path
from optimum_pixart_neuron.serving.server.termination import Termination

with Termination(1.0).in_force() as termination:
    termination.folder = Path(sys.argv[1])
    left = subprocess.Popen(
        [sys.executable, "-c", "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"],
        cwd=termination.folder, stdout=subprocess.DEVNULL,
    )
    said = False
    while True:
        try:
            if not said:
                said = True
                print(left.pid, flush=True)
            time.sleep(600)
        except SystemExit:
            pass
"""


def test_a_start_that_hears_no_signal_ends_in_time_with_all_it_started(tmp_path):
    command = subprocess.Popen([sys.executable, "-c", DEAF, tmp_path], stdout=subprocess.PIPE, text=True)
    try:
        left = psutil.Process(int(command.stdout.readline()))
        command.send_signal(signal.SIGTERM)
        assert command.wait(60) == 0
        assert not alive([left])
    finally:
        command.kill()
        command.communicate()


@pytest.mark.soak
@pytest.mark.e2e
@pytest.mark.parametrize("part", ["raylet/raylet", "ServeController", "ServeReplica:pixart:export"])
def test_a_server_that_starts_on_ray_ends_within_its_time(export, tmp_path, part):
    """The parts start one after the other, each with the ones before it."""
    pytest.importorskip("ray", reason="needs the extra serve")
    port = free_port()
    arguments = (export, "--port", port, "--no_page", "--drain_timeout", DRAIN_S)
    with running("pixart_serve", *arguments, cwd=tmp_path) as process:
        wait_until(lambda: named(process, part) or process.poll() is not None, 500, part)
        assert process.poll() is None, process.communicate()
        family = family_of(process)
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.wait(DRAIN_S)
        print(f"ended {time.monotonic() - started:.1f} s after SIGTERM, which came with {part}")
        output, errors = process.communicate()
        assert process.returncode == 0, errors
        assert "serving at" not in output, "it had started"
        wait_until(lambda: not alive(family), 5, f"the end of {alive(family)}")
    with socket.create_server(("127.0.0.1", port)):
        pass
    assert list(tmp_path.iterdir()) == []

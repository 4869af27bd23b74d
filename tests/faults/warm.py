"""A warm process that forks a child for each run: everything is imported and traced once, so a run costs what it does.

    tests -- socket --> warm process --fork--> one run, in a session of its own

Python's own fork server imports silently or not at all, and knows neither bounds nor what a run leaves behind.
"""

import ctypes
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil

_ROOT = Path(__file__).resolve().parents[2]
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_SHARED_MEMORY = Path("/dev/shm")
_APART = ("unshare", "--mount", "sh", "-c", f'mount -t tmpfs tmpfs {_SHARED_MEMORY} && exec "$@"', "sh")
"""Starts a command with shared memory of its own: only there is it known who has left something."""
_START_S = 240.0
_WIND_DOWN_S = 10.0
"""What a run has started may take this long to notice its end."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    status: int  # exit status, or minus the signal that ended it
    result: Any  # what its function returned
    error: str | None  # the type of what it raised; None if it returned, or was killed
    message: str  # of that error
    output: str  # on stdout and stderr
    cpu_seconds: float  # of the run and of those of its processes that it has waited for
    hung: bool  # killed for passing its bound
    left: tuple[str, ...]  # processes that outlived it; they were killed

    @property
    def returned(self) -> bool:
        return self.status == 0 and self.error is None


class Warm:
    """The warm process, seen from the tests. One run at a time, with temporary files in `temporary`."""

    def __init__(self, temporary: Path) -> None:
        self.temporary = temporary
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", __name__, str(theirs.fileno())]
        self._apart = _may_mount()
        if self._apart:
            command = [*_APART, *command]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(temporary)}
        self._process = subprocess.Popen(command, cwd=_ROOT, env=environment, pass_fds=[theirs.fileno()])
        theirs.close()
        self._connection = Connection(ours.detach())
        self._bound = 0.0
        if not self._connection.poll(_START_S) or self._connection.recv() != "ready":
            raise RuntimeError("the warm process does not start")

    def start(self, function: Callable, *arguments: Any, bound: float) -> int:
        """Begin a run of a function of this package; returns its process id.

        Args:
            bound: seconds after which its whole process group is killed.
        """
        self._bound = bound
        self._connection.send((function, arguments, bound))
        return self._connection.recv()

    def wait(self) -> Outcome:
        """The end of the run that was started."""
        if not self._connection.poll(self._bound + 2 * _WIND_DOWN_S):
            raise RuntimeError("the warm process hangs")
        return self._connection.recv()

    def shared_memory(self) -> list[str]:
        """What runs have left in shared memory; nothing where they share it with the whole machine."""
        return os.listdir(f"/proc/{self._process.pid}/root{_SHARED_MEMORY}") if self._apart else []

    @property
    def running(self) -> bool:
        """Whether the run that was started goes on."""
        return not self._connection.poll(0)

    def run(self, function: Callable, *arguments: Any, bound: float) -> Outcome:
        self.start(function, *arguments, bound=bound)
        return self.wait()

    def close(self) -> None:
        self._connection.close()
        try:
            self._process.wait(_WIND_DOWN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _may_mount() -> bool:
    try:
        return subprocess.run([*_APART, "true"], stderr=subprocess.DEVNULL).returncode == 0
    except FileNotFoundError:
        return False


def serve(connection: Connection) -> None:
    """Fork a child for each message, until the socket closes."""
    from .actions import warm_up

    warm_up()
    # What a run leaves behind becomes a child of this process, which then can tell.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    connection.send("ready")
    with suppress(EOFError):
        while True:
            connection.send(_run(connection, *connection.recv()))


def _run(connection: Connection, function: Callable, arguments: tuple, bound: float) -> Outcome:
    outputs, results = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        connection.close()
        _be_child(function, arguments, outputs[1], results[1])
    for _, end in (outputs, results):
        os.close(end)
    connection.send(child)
    received, hung = _watch(child, [outputs[0], results[0]], time.monotonic() + bound)
    _, status, usage = os.wait4(child, 0)
    left = _leftovers()
    kind, value = pickle.loads(received[results[0]]) if received[results[0]] else (None, None)
    for start, _ in (outputs, results):
        os.close(start)
    return Outcome(
        status=os.waitstatus_to_exitcode(status),
        result=value if kind == "returned" else None,
        error=value[0] if kind == "raised" else None,
        message=value[1] if kind == "raised" else "",
        output=received[outputs[0]].decode(errors="replace"),
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        hung=hung,
        left=left,
    )


def _watch(child: int, pipes: list[int], deadline: float) -> tuple[dict[int, bytes], bool]:
    """Read the pipes of a child until it ends; it is killed at the deadline."""
    received, hung = dict.fromkeys(pipes, b""), False
    ended, open_pipes = os.pidfd_open(child), list(pipes)
    try:
        while True:
            ready = select.select([ended, *open_pipes], [], [], max(deadline - time.monotonic(), 0))[0]
            for pipe in open_pipes[:]:
                # What outlives a child may keep its pipes open, so their end is not waited for.
                if pipe in ready:
                    piece = os.read(pipe, 1 << 20)
                    received[pipe] += piece
                    if not piece:
                        open_pipes.remove(pipe)
            if ready == [ended]:
                return received, hung
            if not ready:
                hung, deadline = True, deadline + _WIND_DOWN_S
                os.killpg(child, signal.SIGKILL)
    finally:
        os.close(ended)


def _leftovers() -> tuple[str, ...]:
    deadline = time.monotonic() + _WIND_DOWN_S
    while True:
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        left = psutil.Process().children(recursive=True)
        if not left or time.monotonic() > deadline:
            break
        time.sleep(0.02)
    names = []
    for process in left:
        with suppress(psutil.Error):
            names.append(" ".join(process.cmdline())[:200])
            process.kill()
    return tuple(names)


def _be_child(function: Callable, arguments: tuple, output: int, results: int) -> None:
    """Never returns: a fork must not run its parent's exit handlers."""
    status = 0
    try:
        os.setsid()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        os.dup2(output, 1)
        os.dup2(output, 2)
        try:
            answer = ("returned", function(*arguments))
        except BaseException as error:
            traceback.print_exc()
            answer = ("raised", (type(error).__name__, str(error)))
            status = 1
        os.write(results, pickle.dumps(answer))
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


if __name__ == "__main__":
    from tests.faults import warm  # as the tests know it: what is sent to them is of its classes

    warm.serve(Connection(int(sys.argv[1])))

"""The processes that start ranks, as the owner sees them: started, told what to start, asked how ranks ended."""

import json
import os
import signal
import socket
import subprocess
import threading
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from ..process.start import ModuleProcess, above_streams, is_open

_MODULE = "optimum_pixart_neuron.emulator.launcher"
_EXIT_SECONDS = 5.0

_launcher: "_Launcher | None" = None
_launcher_lock = threading.Lock()


class _Launcher(ModuleProcess):
    """The process that imports torch for the ranks of this one. It ends when its socket is closed."""

    def __init__(self) -> None:
        self._control, end = _socket_pair()
        with end:
            super().__init__(
                _MODULE,
                [str(os.getpid())],
                descriptors=[end.fileno()],
                watched=False,  # it watches this process itself, and may not have a thread when it forks
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # gloo greets each peer on it
                env=_environment(),
                cwd="/",  # this process's own may be gone by now
                start_new_session=True,  # Ctrl-C is this process's to handle
            )

    def fork_keeper(self, descriptor: int) -> None:
        """Have it fork a keeper, which gets a copy of this socket; OSError when it has died."""
        standard_error = [2] if is_open(2) else []
        socket.send_fds(self._control, [b"+"], [descriptor, *standard_error])

    def forget(self) -> None:
        self._control.close()


class Keeper:
    """The process that keeps the ranks of one model. It ends when `control` is closed, and with it the ranks.

    Attributes:
        control: what it reports on, see `hear`.
        process_id: its own once its ranks are started, until then that of the launcher that forks it.
        rank_ids: process ids of the ranks by rank, once they are started.
        exits: wait status of each rank that has ended, in the order in which they did.
        gone: whether it has ended itself.
    """

    def __init__(self) -> None:
        self.rank_ids: list[int] = []
        self.exits: dict[int, int] = {}
        self.gone = False
        own, end = _socket_pair()
        self.control = Connection(own.detach())
        with end:
            self.process_id = _fork_keeper(end.fileno())

    def fork_ranks(self, start: dict[str, Any], descriptors: list[int]) -> None:
        """Have it start the ranks; that it has died is heard later."""
        with socket.socket(fileno=os.dup(self.control.fileno())) as control:
            try:
                socket.send_fds(control, [json.dumps(start).encode()], descriptors)
            except (BrokenPipeError, ConnectionError):
                self.gone = True

    def hear(self) -> None:
        """Take one report from `control`, which has one or was closed."""
        try:
            kind, content = self.control.recv()
        except (EOFError, OSError):
            self.gone = True
            return
        if kind == "started":
            self.process_id, self.rank_ids = content
        else:
            rank, status = content
            self.exits[rank] = status

    def end(self) -> None:
        """End it and its ranks, also where one of them was stopped. Safe to call again."""
        if self.control.closed:
            return
        with socket.socket(fileno=os.dup(self.control.fileno())) as control, suppress(OSError):
            control.shutdown(socket.SHUT_WR)
        deadline = time.monotonic() + _EXIT_SECONDS
        while not self.gone and self.control.poll(max(deadline - time.monotonic(), 0)):
            self.hear()  # its end closes the other end
        if not self.gone and self.rank_ids:
            # It has not ended and not waited for its ranks, so that the ids are still theirs.
            for process_id in [*self.rank_ids, self.process_id]:
                os.kill(process_id, signal.SIGKILL)
        self.control.close()


def prepare_ranks() -> None:
    """Start the launcher now: the next model's ranks are there sooner when weights are read meanwhile."""
    with _launcher_lock:
        _running_launcher()


def _running_launcher() -> _Launcher:
    global _launcher
    if _launcher is None or _launcher.poll() is not None:
        if _launcher:
            _launcher.forget()
        _launcher = _Launcher()
    return _launcher


def _fork_keeper(descriptor: int) -> int:
    """Have a keeper forked; returns the launcher's process id."""
    with _launcher_lock:
        launcher = _running_launcher()
        try:
            launcher.fork_keeper(descriptor)
        except (BrokenPipeError, ConnectionError):  # it dies just now
            launcher.wait()
            launcher = _running_launcher()
            launcher.fork_keeper(descriptor)
        return launcher.pid


def forget_launcher() -> None:
    """In a forked child: it is the parent's."""
    global _launcher, _launcher_lock
    _launcher_lock = threading.Lock()  # another thread of the parent may have held it
    if _launcher:
        _launcher.forget()
        _launcher = None


def _socket_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected sockets whose numbers are none of the standard streams', which this process may lack."""
    ends = socket.socketpair()
    try:
        own, other = (socket.socket(fileno=above_streams(end.fileno())) for end in ends)
        return own, other
    finally:
        for end in ends:
            end.close()


def exit_reason(status: int) -> str:
    """What a wait status says, as `killed by SIGKILL`."""
    if os.WIFSIGNALED(status):
        return f"killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"exit status {os.WEXITSTATUS(status)}"


def _environment() -> dict[str, str]:
    """Variables that only work from a process's start on."""
    tunables = os.environ.get("GLIBC_TUNABLES")
    # Every operation allocates its result anew; in pages of 4 KiB the kernel's zeroing of 1 GiB of attention scores
    # takes ten times as long as multiplying them by a number.
    huge_pages = "glibc.malloc.hugetlb=1"
    return {
        **os.environ,
        "OPENBLAS_NUM_THREADS": "1",  # numpy's threads, in a process that forks
        "GLIBC_TUNABLES": f"{tunables}:{huge_pages}" if tunables else huge_pages,
    }

"""The launcher of a pool's ranks, as their owner sees it: started, told what to start, asked how ranks ended."""

import json
import os
import signal
import socket
import subprocess
import threading
from multiprocessing.connection import Connection
from typing import Any

from ..process.start import ModuleProcess

_MODULE = "optimum_pixart_neuron.emulator.launcher"
_EXIT_SECONDS = 5.0

_spare: "Launcher | None" = None
_spare_lock = threading.Lock()


class Launcher:
    """The launcher process. It ends when `control` is closed, and with it the ranks.

    Attributes:
        control: what it reports on, see `hear`.
        rank_ids: process ids of the ranks by rank, once they are started.
        exits: wait status of each rank that has ended, in the order in which they did.
        gone: whether it has ended itself.
    """

    def __init__(self) -> None:
        self.rank_ids: list[int] = []
        self.exits: dict[int, int] = {}
        self.gone = False
        own, end = socket.socketpair()
        self.control = Connection(own.detach())
        with end:
            self._process = ModuleProcess(
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

    @property
    def process_id(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

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
            self.rank_ids = content
        else:
            rank, status = content
            self.exits[rank] = status

    def wait(self) -> None:
        """Wait for its end after `control` was closed, which ends it, and enforce it on one that was stopped."""
        try:
            self._process.wait(_EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            for process_id in self.rank_ids:  # it had not waited for them, so that the ids are still theirs
                os.kill(process_id, signal.SIGKILL)
            self._process.wait()


def prepare_ranks() -> None:
    """Start now what the next pool would start: its ranks are there sooner when weights are read meanwhile."""
    global _spare
    with _spare_lock:
        if _spare is None or not _spare.alive:
            _spare = Launcher()


def take_launcher() -> Launcher:
    """The one that was prepared, or a new one."""
    global _spare
    with _spare_lock:
        taken, _spare = _spare, None
    return taken if taken and taken.alive else Launcher()


def forget_prepared_launcher() -> None:
    """In a forked child: it is the parent's."""
    global _spare, _spare_lock
    _spare_lock = threading.Lock()  # another thread of the parent may have held it
    if _spare:
        _spare.control.close()
        _spare = None


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

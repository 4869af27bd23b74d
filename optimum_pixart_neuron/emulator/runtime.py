"""A pool of rank processes: started without the user's `__main__`, watched while they work, gone with their owner.

    this process -- control socket --> launcher (imports torch once, then forks; may be started ahead)
          \\------- one socket each --> rank 0 .. rank W-1, joined by gloo

Each end notices the death of the other by its socket closing, so no signal, exit handler or timeout is needed to keep
processes from leaking: a rank that dies fails the run that waits for it, a process that dies takes its ranks along.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import weakref
from contextlib import closing
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from torch import Tensor

from ..process.start import ModuleProcess
from .program import Program
from .transport import SharedWeights, from_message, to_message

# How long after a first sign of trouble the other ranks may still tell theirs: a rank that dies breaks the collectives
# of its peers, whose complaints must not hide the cause.
_GRACE_SECONDS = 2.0
_LAUNCHER_EXIT_SECONDS = 5.0

_LAUNCHER = "optimum_pixart_neuron.emulator.launcher"

_pools: "weakref.WeakSet[RankPool]" = weakref.WeakSet()
_spare: "_Launcher | None" = None
_spare_lock = threading.Lock()


class RankPool:
    """`len(checkpoint)` processes with the programs and their weights loaded; `process_ids` has one id per rank.

    Raises:
        RuntimeError: a rank could not be started.
    """

    def __init__(self, programs: list[Program], checkpoint: list[dict[str, Tensor]]):
        self._lock = threading.Lock()
        self._stopped: str | None = None
        self._connections: list[Connection] = []
        self._launcher = _take_launcher()
        self._directory = Path(tempfile.mkdtemp(prefix="neuron-emulator-"))
        names = list(dict.fromkeys(name for program in programs for name in program.weight_names))
        try:
            with closing(SharedWeights(names, checkpoint)) as weights:
                self._launch(len(checkpoint), weights.descriptors)
                weights.fill()
                serialised = [bytes(program.to_bytes()) for program in programs]
                for rank, layout in enumerate(weights.layout):
                    self._send(rank, {"programs": serialised, "weights": layout})
                self.process_ids: list[int] = self._collect()
        except BaseException:
            self.close()
            raise
        finally:
            shutil.rmtree(self._directory, ignore_errors=True)  # the rendezvous is over
        _pools.add(self)

    def _launch(self, count: int, weights: list[int]) -> None:
        pairs = [socket.socketpair() for _ in range(count)]
        self._connections = [Connection(own.detach()) for own, _ in pairs]
        start = {
            "ranks": count,
            "store": str(self._directory / "store"),
            "threads": max(1, (os.cpu_count() or 1) // count),
        }
        try:
            self._launcher.fork_ranks(start, [*(end.fileno() for _, end in pairs), *weights])
        except OSError:
            raise RuntimeError(self._explain(set())) from None
        finally:
            for _, end in pairs:
                end.close()

    def run(self, index: int, inputs: list[Tensor]) -> list[Tensor]:
        """Run program `index` on all ranks with the same inputs; returns rank 0's outputs.

        Raises:
            RuntimeError: a rank died or failed. The others are stopped then, and the pool is of no further use.
        """
        with self._lock:
            if self._stopped is not None:
                raise RuntimeError(f"the ranks of this model were stopped: {self._stopped}; load the model again")
            message = (index, [to_message(tensor) for tensor in inputs])
            try:
                for rank in range(len(self._connections)):
                    self._send(rank, message)
                return [from_message(output) for output in self._collect()[0]]
            except BaseException as error:  # KeyboardInterrupt too: ranks in the middle of a run cannot be reused
                self._stopped = str(error) or type(error).__name__
                self.close()
                raise

    def _send(self, rank: int, message: object) -> None:
        try:
            self._connections[rank].send(message)
        except OSError:
            raise RuntimeError(self._explain({rank})) from None

    def _collect(self) -> list:
        """One answer per rank, in rank order; RuntimeError names the rank that died, or else the first that failed."""
        pending = {connection: rank for rank, connection in enumerate(self._connections)}
        answers: dict[int, object] = {}
        failures: dict[int, str] = {}
        dead: set[int] = set()
        while pending:
            ready = wait([*pending, self._launcher.control], _GRACE_SECONDS if failures else None)
            for connection in ready:
                if connection is self._launcher.control:
                    continue
                rank = pending.pop(connection)
                try:
                    kind, content = connection.recv()
                except (EOFError, OSError):
                    dead.add(rank)
                    continue
                if kind == "done":
                    answers[rank] = content
                else:
                    failures[rank] = content
            if dead or ready == [self._launcher.control]:
                raise RuntimeError(self._explain(dead))
            if failures and not ready:
                break
        if failures:
            rank = next(iter(failures))
            raise RuntimeError(f"rank {rank} failed: {failures[rank]}")
        return [answers[rank] for rank in range(len(self._connections))]

    def _explain(self, dead: set[int]) -> str:
        """Which rank died and how; the launcher reports an exit about when the rank's socket closes."""
        reports: dict[int, str] = {}
        try:
            while not (dead & reports.keys() if dead else reports) and self._launcher.control.poll(_GRACE_SECONDS):
                rank, status = self._launcher.control.recv()
                reports[rank] = _exit_reason(status)
        except (EOFError, OSError):
            pass
        if not dead and not reports:
            return "the launcher of the ranks exited"
        rank = min(dead & reports.keys() or dead or reports.keys())
        return f"rank {rank} of {len(self._connections)} died ({reports.get(rank, 'unknown reason')})"

    def close(self) -> None:
        """Stop the ranks at once. Safe to call again."""
        if self._stopped is None:
            self._stopped = "the model was unloaded"
        self._close_sockets()
        self._launcher.wait()

    def _close_sockets(self) -> None:
        for connection in [*self._connections, self._launcher.control]:
            if not connection.closed:
                connection.close()


class _Launcher:
    """The launcher process: started, and waiting to be told the ranks. It ends when `control` is closed."""

    def __init__(self) -> None:
        own, end = socket.socketpair()
        self.control = Connection(own.detach())
        with end:
            self._process = ModuleProcess(
                _LAUNCHER,
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
    def alive(self) -> bool:
        return self._process.poll() is None

    def fork_ranks(self, start: dict[str, Any], descriptors: list[int]) -> None:
        with socket.socket(fileno=os.dup(self.control.fileno())) as control:
            socket.send_fds(control, [json.dumps(start).encode()], descriptors)

    def wait(self) -> None:
        try:
            self._process.wait(_LAUNCHER_EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def prepare_ranks() -> None:
    """Start now what the next pool would start: its ranks are there sooner when weights are read meanwhile."""
    global _spare
    with _spare_lock:
        if _spare is None or not _spare.alive:
            _spare = _Launcher()


def _take_launcher() -> _Launcher:
    global _spare
    with _spare_lock:
        taken, _spare = _spare, None
    return taken if taken and taken.alive else _Launcher()


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


def rank_process_ids() -> list[int]:
    """Process ids of all ranks that work for this process."""
    return [each for pool in list(_pools) if pool._stopped is None for each in pool.process_ids]


def _exit_reason(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"exit status {os.WEXITSTATUS(status)}"


def _forget_pools_after_fork() -> None:
    """A forked child must not keep the sockets open: the ranks would outlive the process that owns them."""
    for pool in list(_pools):
        pool._close_sockets()
        pool._stopped = "they belong to the process that forked this one"
    global _spare
    if _spare:
        _spare.control.close()
        _spare = None


os.register_at_fork(after_in_child=_forget_pools_after_fork)

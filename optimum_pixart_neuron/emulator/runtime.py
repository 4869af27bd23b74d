"""A pool of rank processes: started without the user's `__main__`, watched while they work, gone with their owner.

    this process -- socket --> launcher (imports torch once; may be started ahead), forks for each model
          |\\-- control socket --> keeper, forks
           \\-- one socket each --> rank 0 .. rank W-1, joined by gloo

Each end notices the death of the other by its socket closing, so no signal, exit handler or timeout is needed to keep
processes from leaking: a rank that dies fails the run that waits for it, a process that dies takes its ranks along.
A rank that lives and does nothing, because it was stopped or waits for one that was, is given up after a while.
"""

import os
import shutil
import socket
import tempfile
import threading
import weakref
from contextlib import closing, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from torch import Tensor

from .launching import Keeper, forget_launcher
from .program import Program
from .transport import SharedWeights, from_message, to_message
from .waiting import Answers, idle_limit

_LONGEST_PATIENCE_S = 86400.0  # for the file through which ranks find each other

_pools: "weakref.WeakSet[RankPool]" = weakref.WeakSet()


class RankPool:
    """`len(checkpoint)` processes with the programs and their weights loaded.

    Raises:
        RuntimeError: a rank could not be started.
    """

    def __init__(self, programs: list[Program], checkpoint: list[dict[str, Tensor]]):
        self._lock = threading.Lock()
        self._stopped: str | None = None
        self._connections: list[Connection] = []
        self._limit = idle_limit()
        self._keeper = Keeper()
        names = list(dict.fromkeys(name for program in programs for name in program.weight_names))
        try:
            directory = Path(tempfile.mkdtemp(prefix="neuron-emulator-"))
            try:
                with closing(SharedWeights(names, checkpoint)) as weights:
                    self._launch(len(checkpoint), weights.descriptors, directory / "store")
                    weights.fill()
                    serialised = [bytes(program.to_bytes()) for program in programs]
                    messages = [{"programs": serialised, "weights": layout} for layout in weights.layout]
                    self._exchange(messages, "while starting")
            finally:
                shutil.rmtree(directory, ignore_errors=True)  # the rendezvous is over
        except BaseException:
            self.close()
            raise
        _pools.add(self)

    def _launch(self, count: int, weights: list[int], store: Path) -> None:
        pairs = [socket.socketpair() for _ in range(count)]
        self._connections = [Connection(own.detach()) for own, _ in pairs]
        start = {
            "ranks": count,
            "store": str(store),
            "patience": min(self._limit, _LONGEST_PATIENCE_S),
            "threads": max(1, (os.cpu_count() or 1) // count),
        }
        try:
            self._keeper.fork_ranks(start, [*(end.fileno() for _, end in pairs), *weights])
        finally:
            for _, end in pairs:
                end.close()

    def run(self, index: int, inputs: list[Tensor]) -> list[Tensor]:
        """Run program `index` on all ranks with the same inputs; returns rank 0's outputs.

        Raises:
            RuntimeError: see `run_ranked`.
        """
        message = [to_message(tensor) for tensor in inputs]
        return self._run([(index, message, rank == 0) for rank in range(len(self._connections))])[0]

    def run_ranked(self, index: int, inputs: list[list[Tensor]]) -> list[list[Tensor]]:
        """Run program `index`, each rank with inputs of its own; returns the outputs of every rank, in rank order.

        Raises:
            RuntimeError: a rank died, failed, or did nothing for the time of `waiting.idle_limit`. All are stopped
                then, and the pool is of no further use; so it is after KeyboardInterrupt or another exception of a
                signal's handler.
        """
        return self._run([(index, [to_message(tensor) for tensor in own], True) for own in inputs])

    def _run(self, messages: list[Any]) -> list[list[Tensor]]:
        with self._lock:
            if self._stopped is not None:
                raise RuntimeError(f"the ranks of this model were stopped: {self._stopped}; load the model again")
            try:
                answers = self._exchange(messages, "during a run")
                return [[from_message(output) for output in answer or ()] for answer in answers]
            except BaseException as error:  # KeyboardInterrupt too: ranks in the middle of a run cannot be reused
                self._stopped = str(error) or type(error).__name__
                self.close()
                raise

    def _exchange(self, messages: list[Any], moment: str) -> list[Any]:
        """Send each rank its message and return their answers, in rank order."""
        # In a thread: a rank that was stopped does not read, and what it is sent does not fit into its socket.
        sender = threading.Thread(target=_send, args=(self._connections, messages), daemon=True)
        sender.start()
        try:
            return Answers(self._connections, self._keeper, self._limit, moment).collect()
        except BaseException:
            self._shut_sockets()  # ends the sender
            raise
        finally:
            sender.join()

    def close(self) -> None:
        """Stop the ranks at once. Safe to call again."""
        if self._stopped is None:
            self._stopped = "the model was unloaded"
        self._shut_sockets()
        for connection in self._connections:
            connection.close()
        self._keeper.end()

    def _shut_sockets(self) -> None:
        """End what a thread writes to them, before their numbers can be those of other files."""
        for connection in self._connections:
            if not connection.closed:
                with socket.socket(fileno=os.dup(connection.fileno())) as end, suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def forget(self) -> None:
        """In a forked child: do not keep the sockets open, or the ranks would outlive the process that owns them."""
        self._lock = threading.Lock()  # another thread of the parent may have held it
        self._stopped = "they belong to the process that forked this one"
        for connection in [*self._connections, self._keeper.control]:
            connection.close()

    @property
    def process_ids(self) -> list[int]:
        """One id per rank."""
        return self._keeper.rank_ids

    @property
    def alive(self) -> bool:
        return self._stopped is None


def rank_process_ids() -> list[int]:
    """Process ids of all ranks that work for this process."""
    return [each for pool in list(_pools) if pool.alive for each in pool.process_ids]


def _send(connections: list[Connection], messages: list[Any]) -> None:
    for connection, message in zip(connections, messages):
        try:
            connection.send(message)
        except (OSError, ValueError):
            continue  # it is gone, which the one who waits for its answer notices


def _forget_pools_after_fork() -> None:
    for pool in list(_pools):
        pool.forget()
    forget_launcher()


os.register_at_fork(after_in_child=_forget_pools_after_fork)

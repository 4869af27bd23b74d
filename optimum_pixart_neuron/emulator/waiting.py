"""Waiting for the answers of ranks: until all have come, one rank has failed or died, or none does anything."""

import os
import time
from multiprocessing.connection import Connection, wait
from typing import Any

import psutil

from .launching import Keeper, exit_reason

LIMIT_VARIABLE = "NEURON_EMULATOR_TIMEOUT"
_DEFAULT_LIMIT_S = 300.0

# How long after a first sign of trouble the other ranks may still tell theirs: a rank that dies breaks the collectives
# of its peers, whose complaints must not hide the cause.
_GRACE_S = 2.0
_LONGEST_PAUSE_S = 5.0
# Processor time of all ranks together that counts as work; the kernel counts it in hundredths of a second.
_WORK_S = 0.05


def idle_limit() -> float:
    """Seconds that ranks may do nothing while one waits for them: `NEURON_EMULATOR_TIMEOUT`, by default 300.

    Ranks that compute are never given up, however long they take.

    Raises:
        RuntimeError: the variable is no positive number.
    """
    text = os.environ.get(LIMIT_VARIABLE) or str(_DEFAULT_LIMIT_S)
    try:
        limit = float(text)
    except ValueError:
        limit = 0.0
    if not limit > 0:  # so is nan
        raise RuntimeError(f"{LIMIT_VARIABLE}={text[:40]}: write a number of seconds above 0")
    return limit


class Answers:
    """The answers of ranks to what they were sent.

    Args:
        connections: of the ranks, in rank order.
        keeper: theirs.
        limit: seconds, see `idle_limit`.
        moment: in which they are asked, for messages.

    Attributes:
        received: answers by rank.
    """

    def __init__(self, connections: list[Connection], keeper: Keeper, limit: float, moment: str):
        self.received: dict[int, Any] = {}
        self._pending = {connection: rank for rank, connection in enumerate(connections)}
        self._count = len(connections)
        self._keeper = keeper
        self._limit = limit
        self._moment = moment
        self._failures: list[tuple[float, int, str]] = []
        self._silent: set[int] = set()

    def collect(self) -> list[Any]:
        """Wait for all of them; returns them in rank order.

        Raises:
            RuntimeError: one line that names the rank that failed, died or was stopped first.
        """
        pause = min(_LONGEST_PAUSE_S, self._limit / 4)
        idleness: _Idleness | None = None
        deadline: float | None = None
        while self._pending or self._unexplained:
            sources = [*self._pending, *([] if self._keeper.gone else [self._keeper.control])]
            ready = wait(sources, pause if deadline is None else max(deadline - time.monotonic(), 0))
            for source in filter(ready.__contains__, sources):
                self._take(source)
            if self._troubled:
                deadline = deadline or time.monotonic() + _GRACE_S
                if self._killed or self._keeper.gone or time.monotonic() >= deadline:
                    break
            elif not ready:
                idleness = idleness or _Idleness([self._keeper.process_id, *self._keeper.rank_ids], pause)
                if idleness.seconds() >= self._limit:
                    raise RuntimeError(self._idle())
        if self._troubled:
            raise RuntimeError(self._cause())
        return [self.received[rank] for rank in range(self._count)]

    def _take(self, source: Connection) -> None:
        if source is self._keeper.control:
            self._keeper.hear()
            return
        rank = self._pending.pop(source)
        try:
            kind, content = source.recv()
        except (EOFError, OSError):
            self._silent.add(rank)
            return
        if kind == "done":
            self.received[rank] = content
        else:
            self._failures.append((content[0], rank, content[1]))

    @property
    def _troubled(self) -> bool:
        return bool(self._failures or self._silent or self._keeper.exits or self._keeper.gone)

    @property
    def _unexplained(self) -> bool:
        """Whether a rank has closed its connection whose end is not reported yet."""
        return not self._keeper.gone and not self._silent <= self._keeper.exits.keys()

    @property
    def _killed(self) -> list[tuple[int, int]]:
        """Rank and status of those that did not end by themselves; one that fails tells why, and ends with 0."""
        return [(rank, status) for rank, status in self._keeper.exits.items() if status != 0]

    def _cause(self) -> str:
        if self._killed:
            rank, status = self._killed[0]
            return f"rank {rank} of {self._count} died ({exit_reason(status)})"
        # A launcher that is killed takes its ranks along unreported; one of them may still tell that another is gone.
        if self._keeper.gone and len(self._keeper.exits) < self._count:
            return "the launcher of the ranks exited"
        if self._failures:
            _, rank, text = min(self._failures)
            return f"rank {rank} failed: {text}"
        return f"rank {min([*self._silent, *self._keeper.exits])} of {self._count} died (unknown reason)"

    def _idle(self) -> str:
        processes = {"the launcher of the ranks": self._keeper.process_id}
        for rank, process_id in enumerate(self._keeper.rank_ids):
            processes[f"rank {rank} of {self._count}"] = process_id
        stopped = [name for name, process_id in processes.items() if _is_stopped(process_id)]
        who = f"{stopped[0]} is stopped" if stopped else f"rank {min(self._pending.values())} of {self._count} waits"
        hint = (
            "" if stopped else ", perhaps because another process has connected to the ranks' ports (gloo, loopback)"
        )
        return (
            f"{who} and nothing was done for {self._limit:g} s {self._moment}{hint}; {LIMIT_VARIABLE} sets the limit"
        )


class _Idleness:
    """For how long some processes have done nothing. Asked about every `pause` seconds."""

    def __init__(self, process_ids: list[int], pause: float):
        self._process_ids = process_ids
        self._pause = pause
        self._idle = 0.0
        self._work = self._processor_seconds()
        self._asked = time.monotonic()

    def seconds(self) -> float:
        now, work = time.monotonic(), self._processor_seconds()
        # Time in which the whole machine slept does not count.
        self._idle += min(now - self._asked, 2 * self._pause)
        self._asked = now
        if work - self._work >= _WORK_S:
            self._idle, self._work = 0.0, work
        return self._idle

    def _processor_seconds(self) -> float:
        total = 0.0
        for process_id in self._process_ids:
            try:
                times = psutil.Process(process_id).cpu_times()
            except psutil.Error:
                continue
            total += times.user + times.system
        return total


def _is_stopped(process_id: int) -> bool:
    try:
        return psutil.Process(process_id).status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
    except psutil.Error:
        return False

"""Rank processes that are killed: while they start, while they run, and while they validate an export."""

import signal
import time
from pathlib import Path

import psutil

from . import actions
from .stage import Stage
from .undisturbed import BOUND_S
from .warm import Outcome

_RUNS = 100_000
"""More than there is time for: only the fault ends them."""
_VALIDATING = (2, 5)
"""Numbers of the faults that strike an export's validation."""


def kill_worker(stage: Stage) -> str:
    """Kill one process of two ranks and their launcher; its owner says so, and the next one works."""
    with stage.keeping():
        if stage.fault.number in _VALIDATING:
            return _while_validating(stage)
        return _while_encoding(stage)


def _while_encoding(stage: Stage) -> str:
    starting = stage.fault.number % 2 == 0
    folder, loaded = stage.bring(stage.undisturbed.export), stage.folder / "loaded"
    outcome, victim = _run_and_kill(stage, None if starting else loaded, actions.encode, folder, loaded, _RUNS)
    assert outcome.error == "RuntimeError" and ("rank" in outcome.message), outcome
    again = stage.succeed(actions.encode, folder, stage.folder / "loaded again", 1)
    assert again.result == stage.undisturbed.encoded
    stage.check_nothing_hidden()
    return f"{victim} {'starting' if starting else 'running'}"


def _while_validating(stage: Stage) -> str:
    options = {**stage.options, "disable_validation": False}
    outcome, victim = _run_and_kill(stage, None, actions.export, options)
    assert outcome.status == 1 and "rank" in outcome.message, outcome
    assert stage.judge() == "absent"
    stage.check_recovers()
    return f"{victim} validating"


def _run_and_kill(stage: Stage, after: Path | None, *begin: object) -> tuple[Outcome, str]:
    """Kill a random one of the first processes that a run starts, at a random moment from when `after` exists."""
    numbers = stage.fault.random
    warm = stage.undisturbed.warm
    run = psutil.Process(warm.start(*begin, bound=BOUND_S))
    deadline = time.monotonic() + BOUND_S
    rank = numbers.randrange(-1, 2)  # -1: the launcher
    while time.monotonic() < deadline and run.is_running():
        if (after is None or after.exists()) and (victim := _find(run, rank)):
            time.sleep(numbers.uniform(0, 0.3))
            victim.send_signal(signal.SIGKILL)
            break
        time.sleep(0.005)
    outcome = stage.check_ended(warm.wait())
    assert not outcome.returned, f"{stage.fault}: did not strike: {outcome}"
    return outcome, "launcher" if rank < 0 else "rank"


def _find(run: psutil.Process, rank: int) -> psutil.Process | None:
    try:
        launchers = run.children()
        if rank < 0 or not launchers:
            return launchers[0] if launchers else None
        ranks = sorted(launchers[0].children(), key=lambda process: process.pid)
        return ranks[rank] if len(ranks) == 2 else None
    except psutil.NoSuchProcess:
        return None

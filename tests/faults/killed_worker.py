"""Rank processes that are killed: while they start, while they run, and while they validate an export."""

import time
from contextlib import suppress
from pathlib import Path

import psutil

from . import actions
from .stage import Stage
from .undisturbed import BOUND_S
from .warm import Outcome

_RUNS = 100_000
"""More than there is time for: only the fault ends them."""
_VALIDATING = (5,)
"""Numbers of the faults that strike an export's validation, which takes as long as all the others."""
_DELAY_S = 0.1
"""Less than two ranks take to start."""
_LAUNCHER = "optimum_pixart_neuron.emulator.launcher"


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
    rank = numbers.randrange(-1, 2)  # -1: the launcher
    killed: list[psutil.Process] = []  # a second one where the first had done its work
    while warm.running:
        if (after is None or after.exists()) and (victim := find_rank(run, rank)):
            if victim not in killed:
                time.sleep(numbers.uniform(0, _DELAY_S))
                with suppress(psutil.NoSuchProcess):
                    victim.kill()
                killed.append(victim)
        time.sleep(0.005)
    outcome = stage.check_ended(warm.wait())
    assert not outcome.returned, f"{stage.fault}: did not strike: {outcome}"
    return outcome, "launcher" if rank < 0 else "rank"


def find_rank(run: psutil.Process, rank: int) -> psutil.Process | None:
    """The first launcher below a process, or one of its first two ranks; None while there is none."""
    with suppress(psutil.Error):
        # Ranks are forked from their keeper and this from the launcher, so their command is its.
        found = [each for each in run.children(recursive=True) if _LAUNCHER in " ".join(each.cmdline())]
        launchers = [each for each in found if each.ppid() not in {other.pid for other in found}]
        if rank < 0 or not launchers:
            return launchers[0] if launchers else None
        keepers = _children(found, launchers[0])
        ranks = _children(found, keepers[0]) if keepers else []
        return ranks[rank] if len(ranks) == 2 else None
    return None


def _children(processes: list[psutil.Process], parent: psutil.Process) -> list[psutil.Process]:
    return sorted((each for each in processes if each.ppid() == parent.pid), key=lambda each: each.pid)

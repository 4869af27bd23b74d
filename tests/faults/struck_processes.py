"""Processes that are killed, stopped or interrupted: ranks and their launcher, and exports that validate.

Ranks are struck while they start, while they run, and while they validate an export.
"""

import os
import signal
import time
from pathlib import Path

import psutil

from . import actions
from .stage import Stage
from .warm import Outcome

_RUNS = 100_000
"""More than there is time for: only the fault ends them."""
_VALIDATING = (5,)
"""Numbers of the killed workers that validate an export, which takes as long as all the others."""
_START_DELAY_S = 0.1
"""Less than two ranks take to start."""
_VALIDATION_DELAY_S = 3.0
"""Less than a validation takes on a quiet machine."""
_RUN_DELAY_S = 1.0
_IDLE_S = 3.0
"""What a rank may do nothing for."""
_LAUNCHER, _VALIDATION = "optimum_pixart_neuron.emulator.launcher", "validation_child"


def kill_worker(stage: Stage) -> str:
    """Kill one process of two ranks and their launcher; its owner says so, and the next one works."""
    starting = stage.fault.number % 2 == 0
    with stage.keeping():
        if stage.fault.number in _VALIDATING:
            options = {**stage.options, "disable_validation": False}
            outcome, victim = _run_and_kill(stage, None, actions.export, options)
            assert outcome.status == 1 and "rank" in outcome.message, outcome
            assert stage.judge() == "absent"
            stage.check_recovers()
            return f"{victim} validating"
        folder, loaded = stage.bring(stage.undisturbed.export), stage.folder / "loaded"
        outcome, victim = _run_and_kill(stage, None if starting else loaded, actions.encode, folder, loaded, _RUNS)
        assert outcome.error == "RuntimeError" and "rank" in outcome.message, outcome
        _check_encodes(stage, folder)
        stage.check_nothing_hidden()
    return f"{victim} {'starting' if starting else 'running'}"


def _run_and_kill(stage: Stage, after: Path | None, *begin: object) -> tuple[Outcome, str]:
    """Kill a random one of the first processes that a run starts, at a random moment from when `after` exists."""
    numbers = stage.fault.random
    rank = numbers.randrange(-1, 2)  # -1: the launcher
    killed: list[psutil.Process] = []  # a second one where the first had done its work

    def kill(run: psutil.Process) -> None:
        victim = _find_rank(run, rank) if after is None or after.exists() else None
        if victim and victim not in killed:
            time.sleep(numbers.uniform(0, _START_DELAY_S))
            killed.append(victim)
            victim.kill()

    outcome = stage.run_while(kill, *begin)
    assert not outcome.returned, f"{stage.fault}: did not strike: {outcome}"
    return outcome, "launcher" if rank < 0 else "rank"


def kill_validating(stage: Stage) -> str:
    """Kill an export while a process of its own validates, of which nothing may go on or stay; run it again."""

    def kill(run: psutil.Process) -> None:
        if any(_VALIDATION in " ".join(each.cmdline()) for each in run.children(recursive=True)):
            time.sleep(stage.fault.random.uniform(0, _VALIDATION_DELAY_S))
            run.kill()

    with stage.keeping():
        outcome = stage.run_while(kill, actions.export, {**stage.options, "disable_validation": False})
        assert outcome.status == -signal.SIGKILL, outcome
        assert stage.judge() == "absent"
        assert not [name for name in os.listdir(stage.undisturbed.warm.temporary) if "validation" in name]
        stage.check_recovers()
    return "killed while validating"


def interrupt(stage: Stage) -> str:
    """Interrupt a run as Ctrl-C does: it is KeyboardInterrupt, and the next run works or says to load again."""
    folder, loaded = stage.undisturbed.export, stage.folder / "loaded"
    interrupted: list[psutil.Process] = []

    def act(run: psutil.Process) -> None:
        if loaded.exists() and not interrupted:
            time.sleep(stage.fault.random.uniform(0, _RUN_DELAY_S))
            interrupted.append(run)
            run.send_signal(signal.SIGINT)

    with stage.keeping(folder):
        outcome = stage.run_while(act, actions.encode_until_interrupted, folder, loaded)
        assert outcome.returned, outcome
        loaded_again, digest = outcome.result
        assert digest == stage.undisturbed.encoded
    return "loaded again" if loaded_again else "went on"


def stop_rank(stage: Stage) -> str:
    """Stop one of two ranks, while they start or while they run; its owner names it, and the next one works."""
    folder, loaded = stage.undisturbed.export, stage.folder / "loaded"
    rank, starting = stage.fault.random.randrange(2), stage.fault.number % 2 == 0
    stopped: list[psutil.Process] = []

    def stop(run: psutil.Process) -> None:
        if not stopped and (starting or loaded.exists()) and (victim := _find_rank(run, rank)):
            victim.suspend()
            stopped.append(victim)

    with stage.keeping(folder):
        outcome = stage.run_while(stop, actions.encode, folder, loaded, _RUNS, _IDLE_S)
        assert outcome.error == "RuntimeError" and f"rank {rank}" in outcome.message, outcome
        _check_encodes(stage, folder)
    return f"rank {rank} {'starting' if starting else 'running'}"


def _check_encodes(stage: Stage, folder: Path) -> None:
    again = stage.succeed(actions.encode, folder, stage.folder / "loaded again", 1)
    assert again.result == stage.undisturbed.encoded


def _find_rank(run: psutil.Process, rank: int) -> psutil.Process | None:
    """The first launcher below a process, or one of its first two ranks; None while there is none."""
    # Ranks are forked from their keeper and this from the launcher, so their command is its.
    found = [each for each in run.children(recursive=True) if _LAUNCHER in " ".join(each.cmdline())]
    launchers = [each for each in found if each.ppid() not in {other.pid for other in found}]
    if rank < 0 or not launchers:
        return launchers[0] if launchers else None
    keepers = _children(found, launchers[0])
    ranks = _children(found, keepers[0]) if keepers else []
    return ranks[rank] if len(ranks) == 2 else None


def _children(processes: list[psutil.Process], parent: psutil.Process) -> list[psutil.Process]:
    return sorted((each for each in processes if each.ppid() == parent.pid), key=lambda each: each.pid)

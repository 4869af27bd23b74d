"""Runs that are interrupted, and ranks that are stopped but live."""

import os
import signal
import time
from contextlib import suppress

import psutil

from . import actions
from .killed_worker import find_rank
from .stage import Stage
from .undisturbed import BOUND_S
from .warm import Outcome

_RUNS = 100_000
"""More than there is time for: only the fault ends them."""
_LONGEST_DELAY_S = 1.0
_IDLE_S = 3.0
"""What a rank may do nothing for."""


def interrupt(stage: Stage) -> str:
    """Interrupt a run as Ctrl-C does: it is KeyboardInterrupt, and the next run works or says to load again."""
    loaded, warm = stage.folder / "loaded", stage.undisturbed.warm
    folder = stage.undisturbed.export
    with stage.keeping(folder):
        run = warm.start(actions.encode_until_interrupted, folder, loaded, bound=BOUND_S)
        while warm.running and not loaded.exists():
            time.sleep(0.005)
        time.sleep(stage.fault.random.uniform(0, _LONGEST_DELAY_S))
        os.kill(run, signal.SIGINT)
        outcome = stage.check_ended(warm.wait())
        assert outcome.returned, outcome
        loaded_again, digest = outcome.result
        assert digest == stage.undisturbed.encoded
    return "loaded again" if loaded_again else "went on"


def stop_rank(stage: Stage) -> str:
    """Stop one of two ranks, while they start or while they run; its owner names it, and the next one works."""
    numbers, folder = stage.fault.random, stage.undisturbed.export
    rank, starting = numbers.randrange(2), stage.fault.number % 2 == 0
    with stage.keeping(folder):
        outcome = _run_and_stop(stage, rank, starting)
        assert outcome.error == "RuntimeError" and f"rank {rank}" in outcome.message, outcome
        again = stage.succeed(actions.encode, folder, stage.folder / "loaded again", 1)
        assert again.result == stage.undisturbed.encoded
    return f"rank {rank} {'starting' if starting else 'running'}"


def _run_and_stop(stage: Stage, rank: int, starting: bool) -> Outcome:
    warm, loaded = stage.undisturbed.warm, stage.folder / "loaded"
    begin = (actions.encode_patiently, stage.undisturbed.export, loaded, _RUNS, _IDLE_S)
    run = psutil.Process(warm.start(*begin, bound=BOUND_S))
    stopped = False
    while warm.running:
        victim = find_rank(run, rank) if not stopped and (starting or loaded.exists()) else None
        if victim:
            with suppress(psutil.NoSuchProcess):
                victim.suspend()
                stopped = True
        time.sleep(0.005)
    return stage.check_ended(warm.wait())

"""Exports that are killed while a process of their own validates what they have made."""

import os
import time
from contextlib import suppress

import psutil

from . import actions
from .stage import Stage
from .undisturbed import BOUND_S

_VALIDATION = "validation_child"
_DELAY_S = 3.0
"""Less than the process takes on a quiet machine."""


def kill_validating(stage: Stage) -> str:
    """Kill the export, of which nothing may go on or stay, and run the same command again."""
    options = {**stage.options, "disable_validation": False}
    with stage.keeping():
        outcome = _run_and_kill(stage, options)
        assert outcome.status == -9, outcome
        assert stage.judge() == "absent"
        assert not [name for name in os.listdir(stage.undisturbed.warm.temporary) if "validation" in name]
        stage.check_recovers()
    return "killed while validating"


def _run_and_kill(stage: Stage, options: dict):
    warm = stage.undisturbed.warm
    run = psutil.Process(warm.start(actions.export, options, bound=BOUND_S))
    while warm.running:
        with suppress(psutil.Error):
            if any(_VALIDATION in " ".join(each.cmdline()) for each in run.children(recursive=True)):
                time.sleep(stage.fault.random.uniform(0, _DELAY_S))
                run.kill()
                break
        time.sleep(0.01)
    return stage.check_ended(warm.wait())

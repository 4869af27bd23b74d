"""Exports that are killed: at an operation on files, at a moment, and within the writing of a file."""

import random
import shutil
import signal

from . import actions
from .inflict import EXCHANGE, KilledAtMoment, KilledAtOperation, KilledWithinFile
from .stage import Stage, digests
from .undisturbed import EDITED_CARD, Undisturbed

_AT_THE_END, _LAST = (7, 12), 12
"""Numbers of faults that strike in the last operations, when the new folder takes its place."""
_IN_PLACE_OF_THE_FORMER = 13
"""The one that strikes when the new export is to change names with the former one."""
_TRIES = 5
_DEATHS = (-signal.SIGKILL, -signal.SIGPROF, -signal.SIGXFSZ)


def kill_export(stage: Stage) -> str:
    """Kill an export, every second one of which replaces a former export, and run the same command again."""
    force = stage.fault.number % 2 == 1
    undisturbed = stage.undisturbed
    former = digests(stage.bring(undisturbed.former)) if force else None
    with stage.keeping():
        _strike(stage, _choose(stage, undisturbed, stage.fault.random), force)
        untouched = force and stage.output.exists() and digests(stage.output) == former
        found = "former" if untouched else stage.judge()
        assert found in ("former" if force else "absent", "whole"), found
        if found == "whole" and not force:
            refused = stage.run(actions.export, stage.options)
            assert "is not empty; --force replaces the export that it holds" in refused.message
            stage.check_nothing_hidden()
        else:
            stage.check_recovers(force=force)
        assert not force or (stage.output / "README.md").read_bytes() == EDITED_CARD
    return f"killed, output {found}"


def _strike(stage: Stage, fault: object, force: bool) -> None:
    for _ in range(_TRIES):
        outcome = stage.run(actions.export, {**stage.options, "force": force}, fault)
        if outcome.status in _DEATHS:
            return
        assert isinstance(fault, KilledAtMoment) and outcome.returned, f"{fault} did not strike: {outcome}"
        # This run was faster than the measured one.
        fault = KilledAtMoment(fault.seconds / 2)
        shutil.rmtree(stage.output)
        if force:
            stage.bring(stage.undisturbed.former)
    raise AssertionError(f"{stage.fault}: {fault} is too late")


def _choose(stage: Stage, undisturbed: Undisturbed, numbers: random.Random) -> object:
    form = stage.fault.number // 2 % 3
    if form == 0:
        if stage.fault.number == _IN_PLACE_OF_THE_FORMER:
            return KilledAtOperation(stage.output.parent, 0, EXCHANGE)
        count = len(undisturbed.changes)
        first = count - _LAST if stage.fault.number in _AT_THE_END else 0
        return KilledAtOperation(stage.output.parent, numbers.randrange(first, count))
    if form == 1:
        return KilledAtMoment(numbers.uniform(0.02, 0.9) * undisturbed.export_cpu_seconds)
    # Evenly over the files by number, not by size: else most would end in the largest.
    longest = max(record.size for record in undisturbed.manifest.files.values())
    sizes = [record.size for record in undisturbed.manifest.files.values()]
    return KilledWithinFile(min(numbers.randrange(1, numbers.choice(sizes)), longest - 1))

"""Faults at random points: none hangs, loses a file of the user's, or has half an artifact accepted.

After each the next run of the same command succeeds, with the result of an undisturbed one. `plan.py` says which
faults there are; of most kinds one is injected in every run, all of them by `make soak`. `FAULT_SEED` draws
others, and `-m '' -k kill-export-07` repeats one alone.
"""

import pytest

from .broken_hub import busy_hub, cut_download, cut_upload, kill_download, kill_upload
from .damage import damage, foreign
from .foreign_folder import run_in_foreign_folder
from .full_disk import full_disk
from .hostile import try_hostile
from .killed_export import kill_export
from .plan import FAULTS, KINDS, TOTAL
from .planted import plant
from .struck_processes import interrupt, kill_validating, kill_worker, stop_rank
from .threads import draw_in_threads

pytestmark = [pytest.mark.e2e, pytest.mark.ranks]

INJECT = {
    "kill-export": kill_export,
    "kill-upload": kill_upload,
    "kill-download": kill_download,
    "cut-upload": cut_upload,
    "cut-download": cut_download,
    "busy-hub": busy_hub,
    "full-disk": full_disk,
    "worker-killed": kill_worker,
    "truncated": damage,
    "flipped": damage,
    "removed": damage,
    "foreign": foreign,
    "planted": plant,
    "foreign-folder": run_in_foreign_folder,
    "kill-validating": kill_validating,
    "interrupted": interrupt,
    "stopped-rank": stop_rank,
    "hostile": try_hostile,
    "threads": draw_in_threads,
}


def test_the_plan():
    assert len(FAULTS) == len({str(fault) for fault in FAULTS}) == TOTAL
    assert list(INJECT) == [kind.name for kind in KINDS]
    assert [fault.kind for fault in FAULTS if fault.always] == [kind.name for kind in KINDS if kind.every_run]


@pytest.mark.parametrize(
    "fault", [pytest.param(fault, id=str(fault), marks=() if fault.always else pytest.mark.soak) for fault in FAULTS]
)
def test_fault(fault, stage, record_property):
    record_property("fault", fault.kind)
    record_property("end", INJECT[fault.kind](stage))

"""A hundred faults at random points: none hangs, loses a file of the user's, or has half an artifact accepted.

After each the next run of the same command succeeds, with the result of an undisturbed one. `plan.py` says which
faults there are; `FAULT_SEED` draws others, and `-k kill-export-07` repeats one alone.
"""

import pytest

from .broken_hub import busy_hub, cut_download, cut_upload, kill_download, kill_upload
from .damage import damage, foreign
from .full_disk import full_disk
from .killed_export import kill_export
from .killed_worker import kill_worker
from .plan import FAULTS, KINDS, TOTAL

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
}


def test_the_plan():
    assert len(FAULTS) == len({str(fault) for fault in FAULTS}) == TOTAL
    assert list(INJECT) == [kind.name for kind in KINDS]


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_fault(fault, stage, record_property):
    record_property("fault", fault.kind)
    record_property("end", INJECT[fault.kind](stage))

"""A hundred faults at random points: none hangs, loses a file of the user's, or has half an artifact accepted.

After each the next run of the same command succeeds, with the result of an undisturbed one. `plan.py` says which
faults there are; `FAULT_SEED` draws others, and `-k kill-export-07` repeats one alone.
"""

import pytest

from .killed_export import kill_export
from .plan import FAULTS, KINDS, TOTAL

pytestmark = [pytest.mark.e2e, pytest.mark.ranks]

INJECT = {
    "kill-export": kill_export,
}


def test_the_plan():
    assert len(FAULTS) == len({str(fault) for fault in FAULTS}) == TOTAL
    assert list(INJECT) == [kind.name for kind in KINDS]


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_fault(fault, stage, record_property):
    record_property("fault", fault.kind)
    record_property("end", INJECT[fault.kind](stage))

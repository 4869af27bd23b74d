"""Faults at random points: none hangs, loses a file of the user's, or has half an artifact accepted.

After each the next run of the same command succeeds, with the result of an undisturbed one. `plan.py` says which
faults there are; of most kinds one is injected in every run, all of them by `make soak`. `FAULT_SEED` draws
others, and `-m '' -k kill-export-07` repeats one alone.
"""

import pytest

from .plan import KINDS

pytestmark = [pytest.mark.e2e, pytest.mark.ranks]

CASES = [
    pytest.param(fault, kind.inject, id=str(fault), marks=() if kind.always(fault) else pytest.mark.soak)
    for kind in KINDS
    for fault in kind.faults
]


@pytest.mark.parametrize(("fault", "inject"), CASES)
def test_fault(fault, inject, stage, record_property):
    record_property("fault", fault.kind)
    record_property("end", inject(stage))

"""Strangers' repositories: nothing of one runs, hangs, or takes memory by a number in a file; each ends in one line.

What is drawn from the grammar follows from `HOSTILE_SEED`. It is tried in one process with limits: one case of each
few in every run, all by `make soak`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .child import ENDINGS
from .grammar import cases
from .guards import MOST_BYTES

SEED = int(os.environ.get("HOSTILE_SEED", "20250807"))
CASES = cases(SEED)
EVERY = 4
_ROOT = Path(__file__).resolve().parents[2]


def try_seed(seed: int, folder: Path, every: int = 1) -> dict[str, dict]:
    """How each case of a seed ended, by name; the case that ended the process is the first that is missing."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "tests.hostile.child", str(folder), str(seed), str(every)]
    nothing = subprocess.DEVNULL
    done = subprocess.run(command, cwd=_ROOT, env=environment, capture_output=True, text=True, stdin=nothing)
    with (folder / ENDINGS).open() as lines:
        endings = dict(map(json.loads, lines))
    return {**endings, "the process": {"status": done.returncode, "errors": done.stderr[-3000:]}}


@pytest.fixture(scope="module")
def endings(tmp_path_factory) -> dict[str, dict]:
    return try_seed(SEED, tmp_path_factory.mktemp("hostile"), EVERY)


def check(case, endings: dict[str, dict]) -> None:
    assert str(case) in endings, f"{case} or one before it ended the process: {endings['the process']}"
    ending = endings[str(case)]
    assert not ending["wrong"], f"{case}: " + "\n".join(ending["wrong"])
    assert ending["bytes"] < MOST_BYTES, f"{case} took {ending['bytes']} bytes"
    if case.must_be_refused:
        assert not {"load", "export"}.intersection(ending["taken"]), f"{case} was taken: {ending['refused']}"


def test_there_are_as_many_as_were_asked_for():
    assert len(CASES) == len(set(map(str, CASES))) >= 200


@pytest.mark.seconds
@pytest.mark.parametrize("case", CASES[::EVERY], ids=str)
def test_a_hostile_repository(case, endings):
    check(case, endings)


@pytest.mark.soak
@pytest.mark.parametrize("more", range(4))
def test_all(more, tmp_path):
    endings = try_seed(SEED + more, tmp_path)
    for case in cases(SEED + more):
        check(case, endings)

"""Commands that are ended while they run programs: their status, their last line, and that nothing of them stays.

The status of each command by itself is in `tests/commands` and `tests/validation`; these are real runs. Exports that
are killed are in `tests/faults`.
"""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from ..processes import assert_all_end, descendants

pytestmark = [pytest.mark.e2e, pytest.mark.ranks, pytest.mark.soak]

OPTIMUM = Path(sys.executable).with_name("optimum-cli")
RANKS = 2
_END_S, _BEGIN_S = 30.0, 300.0


@pytest.fixture
def commands(exported, tiny_checkpoint, tmp_path) -> dict[str, list]:
    """By name; each runs programs of several ranks for a long time, or would."""
    made = exported(tensor_parallel_size=RANKS, torch_dtype="float32")
    (tmp_path / "exports").mkdir()
    return {
        "pixart-benchmark": [OPTIMUM, "neuron", "pixart-benchmark", made, "--images", 1000],
        "pixart-validate": [OPTIMUM, "neuron", "pixart-validate", made, "--model", tiny_checkpoint],
        "export": [
            *(OPTIMUM, "export", "neuron", "--model", tiny_checkpoint, tmp_path / "exports" / "out"),
            *("--tensor_parallel_size", RANKS, "--torch_dtype", "float32"),
        ],
    }


def ranks_of(process: subprocess.Popen) -> list[int]:
    """Processes that the launcher of ranks has forked, and that compute."""
    with suppress(psutil.NoSuchProcess):
        below = psutil.Process(process.pid).children(recursive=True)
        parents = {each.ppid() for each in below}
        return [each.pid for each in below if each.pid not in parents and "launcher" in " ".join(each.cmdline())]
    return []


def wait_for_ranks(process: subprocess.Popen) -> list[int]:
    """Everything below a command whose ranks have been there for a moment; an export has them when it validates."""
    deadline = time.monotonic() + _BEGIN_S
    while time.monotonic() < deadline and process.poll() is None:
        if len(ranks_of(process)) >= RANKS:
            time.sleep(0.5)
            return descendants(process.pid)
        time.sleep(0.05)
    pytest.fail(f"no ranks: {process.communicate()}")


@pytest.mark.parametrize("name", ["pixart-benchmark", "pixart-validate", "export"])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_command_that_is_ended(name, number, status, commands, tmp_path, start):
    """Ctrl-C reaches the whole group, as a terminal sends it; the others reach the command alone."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    process = start(*commands[name], TMPDIR=str(temporary))
    below = wait_for_ranks(process)
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    _, errors = process.communicate(timeout=_END_S)
    assert process.returncode == status, errors
    assert "Traceback" not in errors and "EMPTY MESSAGE" not in errors
    if number == signal.SIGINT:
        assert "interrupted." in errors.splitlines()[-1]
    assert_all_end(below, _END_S)
    assert [path.name for path in temporary.iterdir() if "neuron" in path.name or "validation" in path.name] == []
    if name == "export":
        assert [path.name for path in (tmp_path / "exports").iterdir()] == [".out.partial"]

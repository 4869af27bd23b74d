"""The emulated NxD against the real source, when `NXD_SOURCE` names it (the `src` folder of neuronx-distributed).

The same scenarios run in two child processes: on the real `parallel_layers`, `trace/mock_torchdist` and `trace/trace`
with stand-ins for the compiler's packages, and on the emulator. What they hand back must be equal, shards byte for
byte. It is the source of 0.15: later ones have mended some of what is told here.
"""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from tests.emulator.nxd_child import RANKS
from tests.emulator.nxd_scenarios import plain

SOURCE = os.environ.get("NXD_SOURCE")
ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(not SOURCE, reason="NXD_SOURCE does not name a neuronx-distributed source tree")


def child(*arguments):
    environment = {key: value for key, value in os.environ.items() if key != "NEURON_PLATFORM_TARGET_OVERRIDE"}
    environment |= {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.emulator.nxd_child", *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(process, seconds=300):
    output, _ = process.communicate(timeout=seconds)
    assert process.returncode == 0, output[-4000:]


def both(what, tmp_path):
    files = {side: tmp_path / f"{side}.pkl" for side in ("real", "emulated")}
    for process in [child(side, what, file) for side, file in files.items()]:
        finish(process)
    real, emulated = (pickle.loads(file.read_bytes()) for file in files.values())
    assert real.keys() == emulated.keys() and real
    return real, emulated


@pytest.mark.parametrize("what", ["modules", "groups", "state", "flags"])
def test_same_as_the_real_source(what, tmp_path):
    real, emulated = both(what, tmp_path)
    different = [key for key in real if real[key] != emulated[key]]
    first = different[0] if different else None
    assert not different, f"{len(different)} of {len(real)} differ, {first}: {real[first]} became {emulated[first]}"


@pytest.mark.ranks
def test_same_outputs_as_real_ranks_on_gloo(tmp_path):
    """fp32 sums of two terms in the same order: equal to the last bit, bf16 included."""
    processes = [child(rank, tmp_path) for rank in range(RANKS)]
    emulated_file = tmp_path / "emulated.pkl"
    processes.append(child("emulated", "forward", emulated_file))
    for process in processes:
        finish(process)
    real = [pickle.loads((tmp_path / f"rank{rank}.pkl").read_bytes()) for rank in range(RANKS)]
    emulated = pickle.loads(emulated_file.read_bytes())
    assert real[0].keys() == emulated.keys()
    for name, value in emulated.items():
        assert plain(real[0][name]) == plain(real[1][name]), f"{name}: the real ranks differ"
        assert plain(value) == plain(real[0][name]), f"{name}: {(value - real[0][name]).abs().max()} from the real one"

"""Rank processes: none survives its owner, whatever ends it, and a dead one is an error within seconds."""

import os
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.ranks

# A script with no `if __name__ == "__main__"`: workers that imported it again would recurse.
SCRIPT = """
import os, sys, time
from optimum_pixart_neuron import emulator
emulator.activate()
import torch
from optimum_pixart_neuron.emulator.program import Program
from optimum_pixart_neuron.emulator.runtime import rank_process_ids
from optimum_pixart_neuron.emulator.spmd import build_executor

class Endless(torch.nn.Module):
    def forward(self, x):
        for _ in range(1000):
            x = torch.ops.neuron_emulator.all_reduce(torch.tanh(x @ x), "sum", 1.0, [0, 1], 2)
        return x

# enough work for the test to act while it runs
SIZE = 512 if sys.argv[1] == "endless" else 64


class Quick(torch.nn.Module):
    def forward(self, x):
        return torch.ops.neuron_emulator.all_reduce(x, "sum", 1.0, [0, 1], 2)

def load(module):
    program = Program.compile(module, (torch.ones(SIZE, SIZE),), world_size=2)
    model = build_executor({"model": [program]}, world_size=2)
    model.nxd_model.initialize([{}, {}], torch.tensor([0]))
    return model

model = load(Endless() if sys.argv[1] == "endless" else Quick())
print(*rank_process_ids(), flush=True)
"""


@pytest.fixture
def start(tmp_path):
    """Start the script with more lines; returns the process and the ids of its two ranks."""
    started = []

    def start_script(kind, more):
        path = tmp_path / "script.py"
        path.write_text(SCRIPT + more)
        process = subprocess.Popen(
            [sys.executable, str(path), kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process, [int(each) for each in process.stdout.readline().split()]

    yield start_script
    for process in started:
        process.kill()
        process.communicate()


def running(process_ids):
    alive = []
    for each in process_ids:
        try:
            with open(f"/proc/{each}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] != "Z":
                    alive.append(each)
        except FileNotFoundError:
            pass
    return alive


def launcher_of(rank_id):
    with open(f"/proc/{rank_id}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[1])


def assert_all_end(process_ids, seconds=30.0):
    deadline = time.monotonic() + seconds
    while running(process_ids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert running(process_ids) == []


RUN = """
begin = time.monotonic()
try:
    model(torch.ones(SIZE, SIZE))
except RuntimeError as error:
    print(str(error).strip().splitlines()[-1] if "rank 1" not in str(error) else "rank 1 named", flush=True)
print(rank_process_ids(), flush=True)
time.sleep(60)
"""


def test_a_rank_killed_during_a_run(start):
    process, ranks = start("endless", RUN)
    everyone = [*ranks, launcher_of(ranks[0])]
    time.sleep(0.3)
    os.kill(ranks[1], signal.SIGKILL)
    begin = time.monotonic()
    assert process.stdout.readline() == "rank 1 named\n"
    assert time.monotonic() - begin < 10
    assert process.stdout.readline() == "[]\n"
    assert_all_end(everyone)


def test_a_rank_killed_between_runs(start):
    process, ranks = start("quick", "model(torch.ones(SIZE, SIZE)); time.sleep(1.0)\n" + RUN)
    time.sleep(0.3)
    os.kill(ranks[1], signal.SIGKILL)
    assert process.stdout.readline() == "rank 1 named\n"
    assert_all_end(ranks)


@pytest.mark.parametrize(
    ("kind", "number"),
    [
        ("endless", signal.SIGKILL),
        ("endless", signal.SIGINT),
        ("quick", signal.SIGKILL),
        ("quick", signal.SIGINT),
        ("quick", signal.SIGTERM),
    ],
)
def test_no_rank_survives_a_signal_to_its_owner(start, kind, number):
    """SIGINT is Ctrl-C: here it goes to the whole foreground group, of which the ranks must not be part."""
    process, ranks = start(kind, "model(torch.ones(SIZE, SIZE))\ntime.sleep(60)\n")
    everyone = [*ranks, launcher_of(ranks[0])]
    time.sleep(0.3)
    os.killpg(process.pid, number)
    assert process.wait(10) != 0
    assert_all_end(everyone)
    if number == signal.SIGINT:
        assert "KeyboardInterrupt" in process.stderr.read()


def test_a_killed_launcher_takes_its_ranks_along(start):
    process, ranks = start("endless", RUN.replace('"rank 1" not in', '"launcher" not in').replace("rank 1", "it"))
    time.sleep(0.3)
    os.kill(launcher_of(ranks[0]), signal.SIGKILL)
    assert_all_end(ranks)
    assert process.stdout.readline() != ""


def test_interpreter_exit_does_not_hang_and_leaves_none(start):
    process, ranks = start("quick", "second = load(Quick())\nprint(*rank_process_ids(), flush=True)\n")
    both = [int(each) for each in process.stdout.readline().split()]
    assert len(both) == 4
    assert process.wait(10) == 0
    assert_all_end([*ranks, *both])


def test_a_forked_child_neither_uses_nor_keeps_the_ranks(start):
    """The child outlives its parent; were its copies of the sockets open, the ranks would live on with it."""
    process, ranks = start(
        "quick",
        """
child = os.fork()
if child == 0:
    try:
        model(torch.ones(SIZE, SIZE))
    except Exception:
        print("refused", flush=True)
    os.close(1)
    os.close(2)
    time.sleep(20)
    os._exit(0)
time.sleep(1.0)
assert torch.equal(model(torch.ones(SIZE, SIZE)), torch.full((SIZE, SIZE), 2.0))
os.write(1, f"parent {child}\\n".encode())
os._exit(0)
""",
    )
    assert process.stdout.readline() == "refused\n"
    name, child = process.stdout.readline().split()
    assert name == "parent"
    try:
        assert_all_end(ranks)
        assert running([int(child)])
    finally:
        os.kill(int(child), signal.SIGKILL)


def test_idle_ranks_use_no_processor_time(start):
    process, ranks = start("quick", "model(torch.ones(SIZE, SIZE))\nprint('idle', flush=True)\ntime.sleep(60)\n")
    process.stdout.readline()
    everyone = [*ranks, launcher_of(ranks[0])]

    def ticks():
        total = 0
        for each in everyone:
            with open(f"/proc/{each}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
        return total

    time.sleep(0.5)  # what the run left to do
    before = ticks()
    time.sleep(2)
    assert ticks() - before <= 3, "hundredths of a second, of three processes"


def children_of(process_id):
    with open(f"/proc/{process_id}/task/{process_id}/children") as file:
        return [int(each) for each in file.read().split()]


PREPARED = """
from optimum_pixart_neuron.emulator.runtime import prepare_ranks
prepare_ranks()
prepare_ranks()
print("prepared", flush=True)
sys.stdin.readline()
second = load(Quick())
assert torch.equal(second(torch.ones(SIZE, SIZE)), torch.full((SIZE, SIZE), 2.0))
print(*rank_process_ids(), flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("killed", [False, True], ids=["alive", "killed"])
def test_the_next_model_takes_the_launcher_that_was_prepared(start, killed):
    process, ranks = start("quick", PREPARED)
    assert process.stdout.readline() == "prepared\n"
    (spare,) = set(children_of(process.pid)) - {launcher_of(ranks[0])}
    if killed:
        os.kill(spare, signal.SIGKILL)
    process.stdin.write("\n")
    process.stdin.flush()
    everyone = {int(each) for each in process.stdout.readline().split()}
    (launcher,) = {launcher_of(each) for each in everyone - set(ranks)}
    assert (launcher == spare) is not killed
    assert len(children_of(process.pid)) == 2


@pytest.mark.parametrize("ending", ["os._exit(0)", "os.fork() or time.sleep(20)\nos._exit(0)"], ids=["ends", "forks"])
def test_a_prepared_launcher_ends_with_its_owner(start, ending):
    process, ranks = start("quick", PREPARED.partition("second")[0] + ending)
    assert process.stdout.readline() == "prepared\n"
    launchers = children_of(process.pid)
    assert len(launchers) == 2
    process.stdin.write("\n")
    process.stdin.flush()
    assert_all_end([*ranks, *launchers])

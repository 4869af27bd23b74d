"""Rank processes: none survives its owner, whatever ends it, and one that dies or hangs is an error of one line."""

import copy
import gc
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
import torch
from torch import nn

from optimum_pixart_neuron.emulator import launching, runtime
from optimum_pixart_neuron.emulator.program import Program
from optimum_pixart_neuron.emulator.runtime import rank_process_ids
from optimum_pixart_neuron.emulator.single_core import build_module
from optimum_pixart_neuron.emulator.spmd import build_executor
from tests.emulator.programs import START, Calls, on_ranks, total
from tests.processes import assert_all_end, parent_of

pytestmark = pytest.mark.ranks

SIZE = 512  # an input of 1 MiB: more than a socket holds


class Endless(nn.Module):
    """Work of many seconds in few operations, for the test to act while it runs: 17 GFLOP a product."""

    def __init__(self, ranks=2):
        super().__init__()
        self.ranks = ranks

    def forward(self, x):
        x = x.repeat(4, 4)
        for _ in range(100):
            x = torch.tanh(x @ x)
            if self.ranks > 1:
                x = total(x)
        return x


def compiled(module, ranks=2):
    return Program.compile(module, (torch.ones(SIZE, SIZE),), world_size=ranks)


@pytest.fixture(scope="module")
def load():
    """Load one of two programs on two ranks."""
    programs = {"quick": compiled(Calls(total)), "endless": compiled(Endless())}
    return lambda kind: on_ranks([{}, {}], programs[kind])


def run(model):
    return model(torch.ones(SIZE, SIZE))


def works(model):
    return torch.equal(run(model), torch.full((SIZE, SIZE), 2.0))


def processes():
    """The ranks of the only model, and all that is there for it."""
    ranks = rank_process_ids()
    return ranks, [*ranks, parent_of(ranks[0])]


@contextmanager
def soon(act, *arguments, again_s: float | None = None):
    """Do something while what follows is running, and every `again_s` seconds once more as long as it is."""
    over = threading.Event()

    def work() -> None:
        time.sleep(0.5)
        act(*arguments)
        while again_s and not over.wait(again_s):
            act(*arguments)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("during", [True, False], ids=["during a run", "between runs"])
def test_a_rank_that_is_killed(load, during):
    model = load("endless" if during else "quick")
    ranks, everyone = processes()
    with soon(os.kill, ranks[1], signal.SIGKILL) as _:
        if not during:
            assert works(model)
            time.sleep(1)
        with pytest.raises(RuntimeError, match=r"^rank 1 of 2 died \(killed by SIGKILL\)$"):
            run(model)
    assert_all_end(everyone)
    assert rank_process_ids() == []
    with pytest.raises(RuntimeError, match=r"^the ranks of this model were stopped: rank 1 .*; load the model again$"):
        run(model)


def test_a_rank_that_is_stopped(load, monkeypatch):
    """It does not read its input either."""
    monkeypatch.setenv("NEURON_EMULATOR_TIMEOUT", "1")
    model = load("quick")
    ranks, everyone = processes()
    os.kill(ranks[1], signal.SIGSTOP)
    with pytest.raises(RuntimeError, match="^rank 1 of 2 is stopped and nothing was done for 1 s during a run; NEUR"):
        run(model)
    assert_all_end(everyone)


def test_a_rank_that_waits_for_another_while_starting(load, monkeypatch):
    """As when another process has connected to its port in place of the other rank."""
    monkeypatch.setenv("NEURON_EMULATOR_TIMEOUT", "1")
    send = runtime._send
    monkeypatch.setattr(runtime, "_send", lambda connections, messages: send(connections[:1], messages))
    with pytest.raises(RuntimeError, match=r"^rank 0 of 2 waits .* 1 s while starting, perhaps .*loopback\); NEURON"):
        load("quick")
    assert rank_process_ids() == []


def test_a_rank_that_cannot_start_says_why(monkeypatch):
    """It ends with status 0 then, which is no reason."""
    model = build_executor({"model": [compiled(Calls(total))]}, world_size=2)
    monkeypatch.setattr(Program, "to_bytes", lambda program: b"none")
    with pytest.raises(RuntimeError, match="^rank [01] failed: while starting: RuntimeError: not a program of the"):
        model.nxd_model.initialize([{}, {}], START)


@pytest.mark.parametrize("generations", [1, 2], ids=["keeper", "launcher"])
def test_a_launcher_that_is_killed(load, generations):
    model = load("endless")
    ranks = rank_process_ids()
    victim = parent_of(ranks[0])
    if generations == 2:
        victim = parent_of(victim)
    stopped = pytest.raises(RuntimeError, match="^the launcher of the ranks exited$")
    with soon(os.kill, victim, signal.SIGKILL), stopped:
        run(model)
    assert_all_end(ranks)


class Terminated(BaseException):
    pass


def terminate(*_):
    raise Terminated(143)


@pytest.mark.parametrize("ranks", [2, 1])
@pytest.mark.parametrize(
    ("number", "handler", "raised"),
    [(signal.SIGINT, signal.default_int_handler, KeyboardInterrupt), (signal.SIGTERM, terminate, Terminated)],
)
def test_what_a_signal_raises_stays_what_it_is(load, number, handler, raised, ranks):
    if ranks == 2:
        model = load("endless")
    else:
        model = build_module(compiled(Endless(1), 1), {}, inline_weights=True)
    previous = signal.signal(number, handler)
    try:
        # What a handler raises while a weak reference is cleared, Python prints and drops.
        with soon(os.kill, os.getpid(), number, again_s=8), pytest.raises(raised) as caught:
            run(model)
    finally:
        signal.signal(number, previous)
    assert caught.value.__suppress_context__, "TorchScript's thirty lines are shown"
    if ranks == 2:
        assert rank_process_ids() == []
        with pytest.raises(RuntimeError, match=r"^the ranks of this model were stopped: .*; load the model again$"):
            run(model)


def test_a_fork_and_a_copy_say_that_they_have_no_ranks(load):
    model = load("quick")
    with pytest.raises(torch.jit.Error, match="^ValueError: This model is not initialized, please call"):
        run(copy.deepcopy(model))
    reader, writer = os.pipe()
    given = torch.ones(SIZE, SIZE)  # PyTorch's own threads are not in the fork
    child = os.fork()
    if child == 0:
        try:
            model(given)
        except Exception as error:
            os.write(writer, str(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    assert os.read(reader, 1000) == b"the ranks of this model belong to another process: load the model here"
    os.close(reader)
    assert works(model)


def test_a_model_outlives_the_thread_that_loaded_it(load):
    loaded = []
    thread = threading.Thread(target=lambda: loaded.append(load("quick")))
    thread.start()
    thread.join()
    time.sleep(1.5)  # longer than anything that looks for a parent takes
    assert works(loaded[0])


def test_idle_ranks_wait(load):
    """Without looking now and then whether there is work; gloo's own loop wakes each of the two ranks every 10 ms."""
    model = load("quick")
    run(model)
    _, everyone = processes()

    def spent() -> tuple[float, float, int]:
        """Time, processor time, and how often a thread left off waiting, as Linux counts it."""
        seconds = sum(sum(psutil.Process(each).cpu_times()[:2]) for each in everyone)
        threads = [file.read_text() for each in everyone for file in Path(f"/proc/{each}/task").glob("*/status")]
        return (
            time.monotonic(),
            seconds,
            sum(int(re.search(r"(?m)^voluntary_ctxt_switches:\s+(\d+)", text)[1]) for text in threads),
        )

    time.sleep(0.5)  # what the run left to do
    before = spent()
    time.sleep(2)
    took, seconds, awakenings = (after - start for after, start in zip(spent(), before))
    assert awakenings < 250 * took, "of three processes; a loop that looks every 10 ms would add 100 in a second"
    assert seconds < 0.25 * took, "a loop that never waits takes all of the time"


@pytest.mark.parametrize("killed", [False, True], ids=["alive", "killed"])
def test_models_share_the_launcher_that_was_prepared(load, killed):
    launching.prepare_ranks()
    launcher = launching._launcher
    launching.prepare_ranks()
    assert launching._launcher is launcher
    if killed:
        os.kill(launcher.pid, signal.SIGKILL)
        assert_all_end([launcher.pid])
    first, second = load("quick"), load("quick")
    keepers = {parent_of(rank) for rank in rank_process_ids()}
    assert len(keepers) == 2
    parents = {parent_of(each) for each in keepers}
    assert len(parents) == 1 and (parents == {launcher.pid}) is not killed
    assert works(first) and works(second)


def test_a_keeper_that_is_stopped_is_ended(load, monkeypatch):
    monkeypatch.setattr(launching, "_EXIT_SECONDS", 0.5)
    model = load("quick")
    _, everyone = processes()
    os.kill(everyone[-1], signal.SIGSTOP)
    del model
    gc.collect()
    assert_all_end(everyone)


# Imports once, and forks an owner of ranks for each line that it reads. There is no guard around its main program:
# workers that imported it again would recurse.
OWNERS = """
import os, sys, time, traceback
from optimum_pixart_neuron import emulator
emulator.activate()
from tests.emulator.test_processes import Calls, Endless, compiled, on_ranks, rank_process_ids, run, total
from optimum_pixart_neuron.emulator import launching
import torch

torch.set_num_threads(1)  # a fork would wait for ever for the threads that its parent worked with
quick, endless = compiled(Calls(total)), compiled(Endless())

def load(program):
    return on_ranks([{}, {}], program)

def tell():
    print(os.getpid(), *rank_process_ids(), flush=True)

def idle():
    model = load(quick)
    tell()
    time.sleep(60)

def busy():
    model = load(endless)
    tell()
    run(model)

def prepared():
    launching.prepare_ranks()
    print(os.getpid(), launching._launcher.pid, flush=True)
    time.sleep(60)

def forks():
    model = load(quick)
    child = os.fork()
    if child:
        tell()
    time.sleep(60)

for line in sys.stdin:
    if os.fork() == 0:
        os.setsid()
        try:
            globals()[line.strip()]()
        except Exception:
            traceback.print_exc()
            print(flush=True)  # an owner without ranks, which the test does not wait for
        os._exit(0)

# The end of this interpreter, with ranks.
models = load(quick), load(quick)
tell()
"""


@pytest.fixture(scope="module")
def owners():
    process = subprocess.Popen(
        [sys.executable, "-c", OWNERS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    yield process
    process.kill()
    process.communicate()


def begin(owners, kind):
    """Start an owner; returns its process id and those of its ranks."""
    owners.stdin.write(f"{kind}\n")
    owner, *ranks = (int(each) for each in owners.stdout.readline().split())
    return owner, ranks


@pytest.mark.parametrize(
    ("kind", "number"),
    [
        ("busy", signal.SIGKILL),
        pytest.param("busy", signal.SIGINT, marks=pytest.mark.soak),
        pytest.param("idle", signal.SIGKILL, marks=pytest.mark.soak),
        ("idle", signal.SIGTERM),
        ("prepared", signal.SIGKILL),
        ("forks", signal.SIGKILL),
    ],
)
def test_nothing_survives_the_end_of_its_owner(owners, kind, number):
    """SIGINT is Ctrl-C: it goes to the whole foreground group, of which the ranks must not be part.

    A fork that lives on has copies of the sockets and must have closed them.
    """
    owner, ranks = begin(owners, kind)
    everyone = ranks if kind == "prepared" else [*ranks, parent_of(ranks[0])]
    if number == signal.SIGINT:
        os.killpg(owner, number)
    else:
        os.kill(owner, number)
    try:
        assert_all_end(everyone)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(owner, signal.SIGKILL)


def test_the_end_of_the_interpreter(owners):
    output, _ = owners.communicate(timeout=60)
    everyone = [int(each) for each in output.split()]
    assert len(everyone) == 5
    assert owners.returncode == 0
    assert_all_end(everyone)


BARE = """
import os, sys
from pathlib import Path
from optimum_pixart_neuron import emulator
emulator.activate()
from tests.emulator.test_processes import START, Calls, build_executor, compiled, total, works
from optimum_pixart_neuron.emulator.archive import check_archive
import torch
archive = Path("model.neuron").absolute()
torch.jit.save(build_executor({"model": [compiled(Calls(total))]}, world_size=2), archive)
# PyTorch and its compiler cannot be imported without a current folder; afterwards all goes on.
os.mkdir("gone")
os.chdir("gone")
os.rmdir(os.path.abspath("."))
sys.path.append(Path("/somewhere"))
check_archive(archive)
model = torch.jit.load(archive)
model.nxd_model.initialize([{}, {}], START)
Path(sys.argv[1]).write_text(str(works(model)))
"""


@pytest.mark.soak
def test_no_current_folder_and_no_standard_streams(tmp_path):
    root = str(Path(__file__).parents[2])
    (tmp_path / "script.py").write_text(f"import sys\nsys.path.insert(0, {root!r})\n{BARE}")
    command = 'exec "$0" script.py "$1" 0<&- 1>&- 2>&-'
    done = subprocess.run(["sh", "-c", command, sys.executable, tmp_path / "answer"], cwd=tmp_path, timeout=300)
    assert done.returncode == 0
    assert (tmp_path / "answer").read_text() == "True"

"""What is said when ranks do not answer: the cause, whatever its order among the complaints of others."""

import os
import signal
import subprocess
import time
from multiprocessing import Pipe

import pytest

from optimum_pixart_neuron.emulator.waiting import Answers, idle_limit

KILLED, ENDED = signal.SIGKILL, 0  # wait statuses


class Keeper:
    """As `launching.Keeper`, told what it hears."""

    def __init__(self, process_ids=()):
        self.control, self.end = Pipe()
        self.exits, self.gone, self.rank_ids = {}, False, list(process_ids)
        self.process_id = os.getpid()

    def hear(self):
        try:
            rank, status = self.control.recv()
        except EOFError:
            self.gone = True
        else:
            self.exits[rank] = status


@pytest.fixture
def ranks():
    """Both ends of the connections to three ranks."""
    return [Pipe() for _ in range(3)]


def answers(ranks, keeper, limit=60.0):
    return Answers([own for own, _ in ranks], keeper, limit, "during a run").collect()


def test_answers_come_in_the_order_of_ranks(ranks):
    for number, (_, end) in reversed(list(enumerate(ranks))):
        end.send(("done", number))
    assert answers(ranks, Keeper()) == [0, 1, 2]


def complain(end, after, text):
    end.send(("failed", (after, text)))
    end.close()


@pytest.mark.parametrize("reports", [(), (1,), (0, 1, 2)], ids=str)
def test_the_first_to_fail_is_named_though_it_ended_with_status_0(ranks, reports):
    keeper = Keeper()
    complain(ranks[0][1], 7.0, "gloo: connection closed by peer")
    complain(ranks[2][1], 6.5, "gloo: connection reset")
    complain(ranks[1][1], 5.0, "OSError: No space left")
    for rank in reports:
        keeper.end.send((rank, ENDED))
    with pytest.raises(RuntimeError, match="^rank 1 failed: OSError: No space left$"):
        answers(ranks, keeper)


def test_one_that_was_killed_is_named_before_those_that_complain(ranks):
    keeper = Keeper()
    complain(ranks[0][1], 1.0, "gloo: connection closed by peer")
    ranks[2][1].close()
    keeper.end.send((0, ENDED))
    keeper.end.send((2, KILLED))
    with pytest.raises(RuntimeError, match=r"^rank 2 of 3 died \(killed by SIGKILL\)$"):
        answers(ranks, keeper)


def test_one_that_was_killed_before_it_was_asked(ranks):
    keeper = Keeper()
    keeper.exits[1] = KILLED
    with pytest.raises(RuntimeError, match=r"^rank 1 of 3 died \(killed by SIGKILL\)$"):
        answers(ranks, keeper, limit=0.8)


@pytest.mark.parametrize("complains", [False, True], ids=["in silence", "with a complaint"])
def test_a_keeper_that_is_gone(ranks, complains):
    keeper = Keeper()
    if complains:
        complain(ranks[1][1], 1.0, "gloo: connection reset by peer")
    keeper.end.close()
    with pytest.raises(RuntimeError, match="^the launcher of the ranks exited$"):
        answers(ranks, keeper)


@pytest.fixture
def sleeper():
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


def test_a_stopped_rank_is_named(ranks, sleeper):
    sleeper.send_signal(signal.SIGSTOP)
    keeper = Keeper([os.getpid(), os.getpid(), sleeper.pid])
    with pytest.raises(RuntimeError, match="^rank 2 of 3 is stopped and nothing was done for 0.4 s during a run; N"):
        answers(ranks, keeper, limit=0.4)


def test_ranks_that_wait_for_each_other(ranks, sleeper):
    keeper = Keeper([sleeper.pid] * 3)
    keeper.process_id = sleeper.pid
    ranks[0][1].send(("done", None))
    with pytest.raises(RuntimeError, match=r"^rank 1 of 3 waits and nothing was done for 0.4 s .* \(gloo, loopback\)"):
        answers(ranks, keeper, limit=0.4)


@pytest.mark.seconds
def test_ranks_that_work_are_waited_for(ranks):
    """This process is the one that is watched, and its other thread works."""
    import threading

    def work():
        started, number = time.process_time(), 0
        while time.process_time() - started < 1.5:
            number += 1
        for _, end in ranks:
            end.send(("done", None))

    thread = threading.Thread(target=work)
    thread.start()
    assert answers(ranks, Keeper(), limit=0.5) == [None] * 3
    thread.join()


@pytest.mark.parametrize("value", ["0", "-1", "soon", "nan", "1e999x"])
def test_a_limit_that_is_none(monkeypatch, value):
    monkeypatch.setenv("NEURON_EMULATOR_TIMEOUT", value)
    with pytest.raises(RuntimeError, match=f"NEURON_EMULATOR_TIMEOUT={value}: write a number of seconds above 0"):
        idle_limit()


@pytest.mark.parametrize(("value", "seconds"), [("", 300), ("12.5", 12.5)])
def test_the_limit(monkeypatch, value, seconds):
    monkeypatch.setenv("NEURON_EMULATOR_TIMEOUT", value)
    assert idle_limit() == seconds

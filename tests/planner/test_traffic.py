"""Bytes sent by formula against what the traced program's collectives send."""

import pytest

from optimum_pixart_neuron.hardware import get_instance
from optimum_pixart_neuron.planner import XL_2, Request, predict
from optimum_pixart_neuron.planner.traffic import Collectives

from .programs import MODES, small_programs


def totals(collectives) -> dict:
    kinds = {}
    for each in collectives:
        total = kinds.setdefault(each.kind, {"count": 0, "bytes_sent": 0})
        total["count"] += each.count
        total["bytes_sent"] += each.bytes_sent
    return kinds


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_of_each_mode(mode):
    row, programs = small_programs(mode)
    for component, program in programs.items():
        assert totals(row.component(component).collectives) == program.traffic(), component


def test_xl_2_at_1024_px():
    """The figures that tests/parallel/test_traffic.py counts in the traced program."""
    sent = {
        (mode, ranks): predict(XL_2, Request(), "trn1", mode=mode, ranks=ranks).bytes_sent_per_step
        for mode, ranks in (("tensor", 4), ("context", 4), ("context", 8), ("data", 8))
    }
    assert sent[("tensor", 4)] == 2_378_170_368
    assert sent[("context", 4)] <= 0.27e9
    assert sent[("context", 8)] <= 0.21e9
    assert sent[("data", 8)] == 0


@pytest.mark.parametrize(
    ("kind", "group", "ranks", "crossing"),
    [
        ("all-gather", 2, 4, 0),  # both ranks on one chip
        ("all-gather", 4, 4, 200),  # each chip needs the 200 bytes of the other
        ("all-gather", 4, 8, 200),
        ("all-reduce", 4, 4, 100),  # two chips: half of what is summed goes out, half of the sum
        ("all-reduce", 8, 8, 150),
        ("all-to-all", 4, 4, 100),  # two ranks, each of which sends half away
        ("all-gather", 3, 6, 400),  # the chip in the middle has one rank of each group, and lacks two of each
    ],
)
def test_what_crosses_the_link_of_two_cores(kind, group, ranks, crossing):
    collectives = Collectives(kind=kind, count=1, size=100, group=group, ranks=ranks)
    assert collectives.bytes_over_link(2) == pytest.approx(crossing)


def test_the_link_bounds_only_between_chips():
    on_chip = predict(XL_2, Request(), "trn2", mode="tensor", ranks=4)
    across = predict(XL_2, Request(), "trn2", mode="tensor", ranks=8)
    assert on_chip.component("transformer").bound.link == 0
    size = 2 * 4096 * 1152 * 2  # rows, tokens, channels, bytes; over two chips an all-reduce sends it once
    link = 3 * 28 * size / get_instance("trn2").link_bandwidth
    assert across.component("transformer").bound.link == pytest.approx(link)

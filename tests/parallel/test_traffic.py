"""What one denoising step of XL/2 sends at 1024 px, counted from traced programs; nothing is executed.

Programs of one block and of two are traced: each further block sends what the second one does.
"""

from functools import cache

import pytest
import torch

from optimum_pixart_neuron.components.transformer.sharding import PLAN
from optimum_pixart_neuron.parallel.exchange import choose_exchange
from optimum_pixart_neuron.parallel.split import ContextSplit, Split, TensorSplit
from optimum_pixart_neuron.program.hygiene import check_program
from optimum_pixart_neuron.program.program import TracedProgram

from . import traces

TOKENS, HEADS, HEAD_WIDTH, BLOCKS = 4096, 16, 72, 28


@cache
def trace(split: Split, blocks: int = 1) -> TracedProgram:
    return traces.trace(split, {**traces.XL_2, "num_layers": blocks}, tokens=300, dtype=torch.bfloat16)


def traffic(split: Split) -> dict[str, dict[str, int]]:
    """Count and bytes of each kind of collective, of all blocks."""
    one, two = (trace(split, blocks).traffic() for blocks in (1, 2))
    return {
        kind: {key: sent + (BLOCKS - 1) * (two[kind][key] - sent) for key, sent in each.items()}
        for kind, each in one.items()
    }


def context(ranks: int) -> ContextSplit:
    exchange = choose_exchange(tokens=TOKENS, heads=HEADS, head_width=HEAD_WIDTH, ranks=ranks // 2)
    return ContextSplit(ranks=ranks, guidance_groups=2, exchange=exchange)


@pytest.mark.seconds
def test_context_on_4_ranks():
    assert traffic(context(4)) == {"all-gather": {"count": BLOCKS + 1, "bytes_sent": 264_634_368}}
    program = trace(context(4))
    assert check_program(program, torch.bfloat16) == []
    # Adjacent cores exchange, and the last gather is over all of them.
    assert {collective.groups for collective in program.collectives} == {((0, 1), (2, 3)), ((0, 1, 2, 3),)}


@pytest.mark.seconds
def test_context_on_8_ranks_sends_less():
    sent = traffic(context(8))
    assert sent["all-to-all"]["count"] == 2 * BLOCKS
    assert sum(kind["bytes_sent"] for kind in sent.values()) <= 0.21e9


@pytest.mark.seconds
def test_tensor_on_4_ranks_sends_nine_times_as_much():
    split = TensorSplit(plan=PLAN, ranks=4)
    assert traffic(split) == {"all-reduce": {"count": 3 * BLOCKS, "bytes_sent": 2_378_170_368}}
    assert check_program(trace(split), torch.bfloat16) == []


@pytest.mark.parametrize(
    ("sequence_ranks", "heads", "chosen"),
    [(2, 16, "gather"), (4, 16, "all-to-all"), (8, 16, "all-to-all"), (4, 6, "gather")],
    ids=["equal bytes", "fewer bytes", "far fewer bytes", "heads do not divide"],
)
def test_the_exchange_is_chosen_by_bytes(sequence_ranks, heads, chosen):
    assert choose_exchange(tokens=TOKENS, heads=heads, head_width=HEAD_WIDTH, ranks=sequence_ranks) == chosen

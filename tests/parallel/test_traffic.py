"""What one denoising step sends, counted from the traced program of XL/2 at 1024 px; nothing is executed."""

import pytest
import torch

from optimum_pixart_neuron.components.transformer.graph import PixArtTransformer
from optimum_pixart_neuron.components.transformer.sharding import PLAN
from optimum_pixart_neuron.neuron.compiler import CompilerSettings, environment_variables
from optimum_pixart_neuron.neuron.sdk import ensure_sdk
from optimum_pixart_neuron.parallel.apply import materialize
from optimum_pixart_neuron.parallel.exchange import choose_exchange
from optimum_pixart_neuron.parallel.split import ContextSplit, Split, TensorSplit
from optimum_pixart_neuron.program.hygiene import check_program
from optimum_pixart_neuron.program.program import TracedProgram, trace_program

XL_2 = {"caption_channels": 4096, "sample_size": 128, "use_additional_conditions": False}
TOKENS, HEADS, HEAD_WIDTH, BLOCKS = 4096, 16, 72, 28
GB = 1e9


def trace(split: Split) -> TracedProgram:
    ensure_sdk()

    def build():
        with torch.device("meta"):
            model = PixArtTransformer.build(XL_2, latent_height=128, latent_width=128, dtype=torch.bfloat16)
            split.apply(model, torch.bfloat16)
        materialize(model)
        return model

    mask = torch.ones(2, 300, dtype=torch.int64)
    inputs = (torch.empty(2, 4, 128, 128), torch.empty(2, 300, 4096), torch.empty(2), mask)
    with environment_variables(CompilerSettings(target="trn1", lnc=1).environment(split.ranks)):
        return trace_program(build, inputs, split.ranks)


def context(ranks: int, exchange: str | None = None) -> ContextSplit:
    sequence_ranks = ranks // 2
    chosen = exchange or choose_exchange(tokens=TOKENS, heads=HEADS, head_width=HEAD_WIDTH, ranks=sequence_ranks)
    return ContextSplit(ranks=ranks, guidance_groups=2, exchange=chosen)


def total(program: TracedProgram) -> int:
    return sum(kind["bytes_sent"] for kind in program.traffic().values())


@pytest.mark.soak
def test_context_on_4_ranks():
    program = trace(context(4))
    assert program.traffic()["all-gather"]["count"] == BLOCKS + 1
    assert total(program) <= 0.27 * GB
    assert check_program(program, torch.bfloat16) == []
    # Adjacent cores exchange, and the last gather is over all of them.
    assert {collective.groups for collective in program.collectives} == {((0, 1), (2, 3)), ((0, 1, 2, 3),)}


@pytest.mark.seconds
def test_context_on_8_ranks():
    program = trace(context(8))
    assert program.traffic()["all-to-all"]["count"] == 2 * BLOCKS
    assert total(program) <= 0.21 * GB


@pytest.mark.soak
def test_tensor_on_4_ranks_sends_nine_times_as_much():
    program = trace(TensorSplit(plan=PLAN, ranks=4))
    assert program.traffic() == {"all-reduce": {"count": 3 * BLOCKS, "bytes_sent": 2_378_170_368}}
    assert check_program(program, torch.bfloat16) == []


@pytest.mark.parametrize(
    ("sequence_ranks", "heads", "chosen"),
    [(2, 16, "gather"), (4, 16, "all-to-all"), (8, 16, "all-to-all"), (4, 6, "gather")],
    ids=["equal bytes", "fewer bytes", "far fewer bytes", "heads do not divide"],
)
def test_the_exchange_is_chosen_by_bytes(sequence_ranks, heads, chosen):
    assert choose_exchange(tokens=TOKENS, heads=heads, head_width=HEAD_WIDTH, ranks=sequence_ranks) == chosen

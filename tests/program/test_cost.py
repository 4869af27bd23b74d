"""Costs counted on a program without values: against torch's counter, and against the program that is traced."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from optimum_pixart_neuron.aten_graph import largest_live_set
from optimum_pixart_neuron.components.common.attention_kernel import KernelAttention
from optimum_pixart_neuron.components.transformer.graph import PixArtTransformer
from optimum_pixart_neuron.neuron.compiler import CompilerSettings, environment_variables
from optimum_pixart_neuron.neuron.sdk import ensure_sdk
from optimum_pixart_neuron.parallel.split import ContextSplit
from optimum_pixart_neuron.program.cost import Cost
from optimum_pixart_neuron.program.program import trace_program

# Small, and of another shape than the released one in every size.
TRANSFORMER = {
    "num_layers": 2,
    "num_attention_heads": 4,
    "attention_head_dim": 12,
    "cross_attention_dim": 48,
    "in_channels": 3,
    "out_channels": 5,
    "patch_size": 2,
    "caption_channels": 40,
    "sample_size": 32,
    "attention_bias": False,
    "use_additional_conditions": False,
}
ROWS, TOKENS, CELLS = 4, 24, 32
INPUTS = (
    torch.ones(ROWS, 3, CELLS, CELLS),
    torch.ones(ROWS, TOKENS, 40),
    torch.ones(ROWS),
    torch.ones(ROWS, TOKENS, dtype=torch.int64),
)
KERNEL = KernelAttention(name="attention_isa_kernel", lnc=1)


@pytest.fixture(autouse=True, scope="module")
def sdk():
    ensure_sdk()


def transformer(split=None, kernel=None, **config) -> nn.Module:
    sizes = {"latent_height": CELLS, "latent_width": CELLS, "dtype": torch.bfloat16}
    with torch.device("meta"):
        model = PixArtTransformer.build({**TRANSFORMER, **config}, kernel=kernel, **sizes)
        if split:
            split.apply(model, torch.bfloat16)
    return model


def context(ranks: int, exchange: str) -> ContextSplit:
    return ContextSplit(ranks=ranks, guidance_groups=2, exchange=exchange)


@pytest.mark.seconds
@pytest.mark.parametrize(
    ("split", "kernel"), [(None, KERNEL), (context(4, "gather"), None), (context(8, "all-to-all"), KERNEL)], ids=str
)
def test_a_program_is_counted_as_it_is_traced(split, kernel):
    ranks = split.ranks if split else 1
    with environment_variables(CompilerSettings(target="trn1", lnc=1).environment(ranks)):
        cost = Cost.of(lambda: transformer(split, kernel), INPUTS, ranks=ranks)
        traced = trace_program(lambda: transformer(split, kernel), INPUTS, ranks)
    graph, names = traced.graph.graph_module.graph, traced.graph.weight_names
    assert cost.activations == largest_live_set(graph, len(names))
    assert cost.bytes_sent == sum(kind["bytes_sent"] for kind in traced.traffic().values())
    assert sum(cost.collectives.values()) == len(traced.collectives)
    given = [node.meta["val"] for node in graph.find_nodes(op="placeholder")]
    assert cost.weights == cost.read == sum(weight.nbytes for weight in given[: len(names)])
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        traced.graph.graph_module(*given)
    assert cost.flops == counter.get_total_flops()


@pytest.mark.seconds
def test_blocks_are_extrapolated_exactly():
    split = context(4, "gather")
    with environment_variables(CompilerSettings(target="trn1", lnc=1).environment(4)):
        one, two, three, five = (
            Cost.of(lambda blocks=blocks: transformer(split, num_layers=blocks), INPUTS, ranks=4)
            for blocks in (1, 2, 3, 5)
        )
    assert one.repeated(two, 1) == one
    assert one.repeated(two, 3) == three
    assert one.repeated(two, 5) == five


def test_64_ranks_of_a_trn2_are_one_group():
    """At LNC 2, which the compiler is given; NxD folds 64 ranks of single cores into two groups."""
    split = context(64, "gather")
    with environment_variables(CompilerSettings(target="trn2", lnc=2).environment(64)):
        cost = Cost.of(lambda: transformer(split, num_layers=1), INPUTS, ranks=64, lnc=2)
    (last,) = [collective for collective in cost.collectives if len(collective.groups) == 1]
    assert last.groups == (tuple(range(64)),)


class Products(nn.Module):
    """A table of 100 rows of 8 of which 2 x 3 are read, a softmax, and products of 72 and of 300 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(100, 8)
        self.weight = nn.Parameter(torch.empty(72, 300))

    def forward(self, ids: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        scores = self.table(ids).softmax(dim=-1)
        return scores.sum() + (image @ self.weight) @ self.weight.t()


def test_what_the_engines_have_to_do():
    cost = Cost.of(Products, (torch.ones(2, 3, dtype=torch.int64), torch.ones(5, 72)))
    assert cost.flops == 2 * 2 * 5 * 72 * 300
    # 72 rows of the systolic array are filled up to 128, 300 to 2 x 128 + 64.
    assert cost.array_flops == 2 * 5 * 300 * 128 + 2 * 5 * 72 * 320
    assert cost.exponentials == 2 * 3 * 8
    assert cost.weights == 4 * (100 * 8 + 72 * 300)
    assert cost.read == 4 * (2 * 3 * 8 + 72 * 300)
    assert cost.bytes_sent == 0


def test_heads_of_72_channels_take_as_long_as_heads_of_128():
    """In the scores; the weighted values contract over the key tokens."""

    class Attention(nn.Module):
        def forward(self, query, key, value):
            return KERNEL(query, key, value)

    shape = (2, 3, 512, 72)
    cost = Cost.of(Attention, (torch.ones(shape), torch.ones(shape), torch.ones(shape)))
    products = 2 * 3 * 512 * 512
    assert cost.flops == 2 * 2 * products * 72
    assert cost.array_flops == 2 * products * (128 + 72)
    assert cost.exponentials == products

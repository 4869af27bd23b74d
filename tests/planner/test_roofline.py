"""Bounds: what crosses the link between chips, and which resource takes longest."""

import pytest
import torch

from optimum_pixart_neuron.components.registry import DENOISER
from optimum_pixart_neuron.hardware import get_instance
from optimum_pixart_neuron.planner import Request, predict
from optimum_pixart_neuron.planner.roofline import Bound, bytes_over_link
from optimum_pixart_neuron.program.program import Collective


def bound(instance: str = "trn1", **options) -> Bound:
    return predict(Request(**options), instance).component(DENOISER.name).bound


@pytest.mark.parametrize(
    ("kind", "group", "ranks", "crossing"),
    [
        ("all-gather", 2, 4, 0),  # both ranks on one chip
        ("all-gather", 4, 4, 200),  # each chip needs the 200 bytes of the other
        ("all-gather", 4, 8, 200),
        ("all-reduce", 4, 4, 100),  # two chips: half of what is summed goes out, half of the sum
        ("all-reduce", 8, 8, 150),
        ("reduce-scatter", 4, 4, 50),
        ("all-to-all", 4, 4, 100),  # two ranks, each of which sends half away
        ("all-gather", 3, 6, 400),  # the chip in the middle has one rank of each group, and lacks two of each
    ],
)
def test_what_crosses_the_link_of_two_cores(kind, group, ranks, crossing):
    groups = tuple(tuple(range(start, start + group)) for start in range(0, ranks, group))
    collective = Collective(kind=kind, shape=(50,), dtype=torch.bfloat16, groups=groups)
    assert bytes_over_link(collective, 2) == pytest.approx(crossing)


@pytest.mark.seconds
def test_the_link_bounds_only_between_chips():
    assert bound("trn2", parallel_mode="tensor", tensor_parallel_size=4).link == 0
    size = 2 * 4096 * 1152 * 2  # rows, tokens, channels, bytes; over two chips an all-reduce sends it once
    link = 3 * 28 * size / get_instance("trn2").link_bandwidth
    assert bound("trn2", parallel_mode="tensor", tensor_parallel_size=8).link == pytest.approx(link)


@pytest.mark.seconds
@pytest.mark.parametrize(("side", "by"), [(1024, "matmul"), (4096, "softmax")])
def test_exponentials_overtake_products_as_self_attention_grows(side, by):
    found = bound(height=side, width=side, tensor_parallel_size=1)
    scores = 28 * 16 * (side // 16) ** 4
    assert found.softmax == pytest.approx(scores / (128 * 1.4e9), rel=0.1)  # and 7 % of cross-attention at 1024 px
    assert found.by == by


@pytest.mark.seconds
def test_float32_takes_four_times_as_long_on_the_tensor_engine():
    exact, half = (
        bound(tensor_parallel_size=1, attention="math", torch_dtype=dtype) for dtype in ("float32", "bfloat16")
    )
    assert exact.matmul / half.matmul == pytest.approx(4)

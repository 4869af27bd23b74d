"""Collectives of compiled programs, through torch_xla's names, on real ranks."""

import pytest
import torch
import torch_xla.core.xla_model as xm
from torch import nn

from optimum_pixart_neuron.emulator.program import Program
from tests.emulator.programs import Calls, on_ranks

WORLD = [[0, 1, 2, 3]]
PAIRS = [[0, 2], [1, 3]]


class Collectives(nn.Module):
    """Each result is gathered over all ranks, so that rank 0's output shows what every rank got."""

    def __init__(self, dtype):
        super().__init__()
        self.own = nn.Parameter(torch.zeros(2, 4, dtype=dtype), requires_grad=False)

    def show(self, value):
        return xm.all_gather(value[None], dim=0, groups=WORLD, pin_layout=False)

    def forward(self, x):
        own = self.own + x
        in_place = [own * 1, own * 2]
        xm.all_reduce(xm.REDUCE_MAX, in_place, groups=WORLD)
        shared = torch.empty_like(own)
        xm.all_gather(own[:1], dim=0, groups=PAIRS, output=shared, pin_layout=False)
        return {
            "sum": self.show(xm.all_reduce(xm.REDUCE_SUM, own)),
            "mean": self.show(xm.all_reduce(xm.REDUCE_SUM, own, scale=0.25, groups=WORLD)),
            "max": self.show(in_place[1]),
            "pair_sum": self.show(xm.all_reduce(xm.REDUCE_SUM, own, groups=PAIRS)),
            "gather": self.show(xm.all_gather(own, dim=1, groups=PAIRS, pin_layout=False)),
            "output": self.show(shared),
            "scatter": self.show(xm.reduce_scatter(xm.REDUCE_SUM, own, 1.0, 1, 4, groups=WORLD)),
            "exchange": self.show(xm.all_to_all(own, 1, 0, 4, groups=WORLD, pin_layout=False)),
            "permute": self.show(xm.collective_permute(own, [[0, 1], [1, 2], [2, 0]])),
        }


@pytest.mark.ranks
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_results_on_four_ranks(dtype):
    generator = torch.Generator().manual_seed(0)
    own = [torch.randn(2, 4, generator=generator).to(dtype) for _ in range(4)]
    program = Program.compile(Collectives(dtype), (torch.zeros(2, 4, dtype=dtype),), world_size=4)
    assert set(program.meshes) == {((0, 1, 2, 3),), ((0, 2), (1, 3))}
    result = on_ranks([{"own": tensor} for tensor in own], program)(torch.zeros(2, 4, dtype=dtype))

    total = own[0] + own[1] + own[2] + own[3]  # in rank order, rounded to the dtype at each step
    pairs = [own[0] + own[2], own[1] + own[3]] * 2
    zeros = torch.zeros_like(own[0])
    columns = [tensor.split(1, 1) for tensor in own]
    expected = {
        "sum": [total] * 4,
        "mean": [total * 0.25] * 4,
        "max": [torch.stack(own).amax(0) * 2] * 4,
        "pair_sum": pairs,
        "gather": [torch.cat([own[0], own[2]], 1), torch.cat([own[1], own[3]], 1)] * 2,
        "output": [torch.cat([own[0][:1], own[2][:1]]), torch.cat([own[1][:1], own[3][:1]])] * 2,
        "scatter": list(total.split(1, 1)),
        "exchange": [torch.cat([columns[source][rank] for source in range(4)]) for rank in range(4)],
        "permute": [own[2], own[0], own[1], zeros],
    }
    for name, parts in expected.items():
        assert torch.equal(result[name], torch.stack(parts)), name


def test_pinned_layouts_are_refused():
    with pytest.raises(RuntimeError, match="xm.all_gather with pin_layout=True is wrong in SPMD"):
        xm.all_gather(torch.ones(1), groups=[[0, 1]])
    with pytest.raises(RuntimeError, match="xm.all_to_all with pin_layout=True is wrong in SPMD"):
        xm.all_to_all(torch.ones(2), 0, 0, 2, groups=[[0, 1]])


def test_counts_must_match_the_groups():
    with pytest.raises(RuntimeError, match="shard_count 4 differs from the group size 2"):
        xm.reduce_scatter(xm.REDUCE_SUM, torch.ones(4), 1.0, 0, 4, groups=[[0, 1]])
    with pytest.raises(ValueError, match="rows must have one length"):
        xm.all_reduce(xm.REDUCE_SUM, torch.ones(1), groups=[[0, 1], [2]])


def test_sizes_must_divide_when_compiled():
    uneven = Calls(lambda x: xm.reduce_scatter(xm.REDUCE_SUM, x, 1.0, 0, 2, groups=[[0, 1]]))
    with pytest.raises(RuntimeError, match=r"dimension 0 of \[3\] is not divisible by group size 2"):
        Program.compile(uneven, (torch.ones(3),), world_size=2)

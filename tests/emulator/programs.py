"""Small modules and their programs, alone and on ranks."""

import torch
from torch import nn

from optimum_pixart_neuron.emulator.program import Program
from optimum_pixart_neuron.emulator.spmd import build_executor

START = torch.tensor([0], dtype=torch.int32)


class Calls(nn.Module):
    """Applies one function to its input."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def total(x):
    """The sum over two ranks."""
    return torch.ops.neuron_emulator.all_reduce(x, "sum", 1.0, [0, 1], 2)


class Ranked(nn.Module):
    """Adds over two ranks: the input times a weight, plus a Python constant that the tracing process gave."""

    def __init__(self, rank=0.0):
        super().__init__()
        self.rank = rank
        self.weight = nn.Parameter(torch.zeros(3), requires_grad=False)

    def forward(self, x):
        return {"sum": total(x * self.weight + self.rank)}


def on_ranks(weights, *programs: Program):
    """The programs, loaded on as many ranks as there are weights."""
    model = build_executor({"model": list(programs)}, world_size=len(weights))
    model.nxd_model.initialize(weights, START)
    return model

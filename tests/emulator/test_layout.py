"""Kernels that ask for dense inputs, where a run comes to other strides than the trace."""

import torch
from torch import nn

from optimum_pixart_neuron.emulator.program import Program


class Block(nn.Module):
    """The middle block of a VAE at batch 1: attention leaves channels last, and a group norm follows."""

    def __init__(self):
        super().__init__()
        self.linear, self.norm = nn.Linear(16, 16), nn.GroupNorm(4, 16)

    def forward(self, x):
        batch, channels, height, width = x.shape
        attended = self.linear(x.view(batch, channels, -1).transpose(1, 2))
        return self.norm(attended.transpose(-1, -2).reshape(batch, channels, height, width) + x)


def test_a_group_norm_after_a_transposed_sum():
    torch.manual_seed(0)
    module, x = Block().eval(), torch.randn(1, 16, 8, 8)
    program = Program.compile(module, (x,))
    state = module.state_dict()
    (output,) = program.run([state[name] for name in program.weight_names], [x])
    torch.testing.assert_close(output, module(x))

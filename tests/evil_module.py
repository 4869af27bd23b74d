"""A module of TorchScript that writes a file while it is loaded."""

import torch
from torch import Tensor, nn


class Evil(nn.Module):
    def __init__(self, victim: str):
        super().__init__()
        self.victim = victim
        self.written = torch.zeros(0)

    def forward(self, x: Tensor) -> Tensor:
        return x

    @torch.jit.export
    def __getstate__(self):
        return (self.victim, self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]):
        self.written = torch.from_file(state[0], True, 4).fill_(7.0)
        self.victim, self.training = state[0], state[1]

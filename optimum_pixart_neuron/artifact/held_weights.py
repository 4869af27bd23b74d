"""The weights that the file of a program of one core holds, apart from its machine code."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ..errors import PixArtNeuronError, one_line


def load_unplaced(file: Path) -> torch.jit.ScriptModule:
    """A program of one core in memory, on no core; a file that is none is a PixArtNeuronError."""
    from torch_neuronx.contexts import disable_nrt_load

    try:
        with disable_nrt_load():
            return torch.jit.load(file)
    except RuntimeError as error:
        raise PixArtNeuronError(f"{file} is no program: {one_line(error)}") from error


def weights_of(program: torch.jit.ScriptModule) -> dict[str, Tensor]:
    """What it holds, by state-dict name; torch_neuronx has an arrow for each dot."""
    return {path.replace("->", "."): tensor.detach() for path, tensor in program.weights.named_parameters()}

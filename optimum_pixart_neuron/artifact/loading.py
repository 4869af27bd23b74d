"""Load the programs of one export onto the cores they are for."""

import json
from pathlib import Path
from typing import Any

import torch
from optimum.neuron.modeling_traced import NeuronTracedModel

from ..export.output import WEIGHTS_FOLDER
from ..files import read_ahead
from ..parallel.shard_writer import shard_file


def neuron_section(program: Path) -> dict:
    """The `neuron` section of the `config.json` beside a program."""
    return json.loads((program.parent / "config.json").read_text()).get("neuron", {})


def load_program(program: Path, cores: int) -> list[Any]:
    """Load one program of ours: once over all its ranks, or one copy on each of `cores` cores.

    Returns:
        the copies; a single one where the ranks run it together.
    """
    weights = program.parent / WEIGHTS_FOLDER
    if weights.is_dir():
        ranks = neuron_section(program)["parallel"]["ranks"]
        for rank in range(ranks):
            with shard_file(weights, rank).open("rb") as file:
                read_ahead(file.fileno())
        return [NeuronTracedModel.load_model(program, tensor_parallel_size=ranks)]
    return [_load_copy(program, core) for core in range(cores)]


def _load_copy(program: Path, core: int) -> Any:
    """As optimum-neuron 0.4.5 `NeuronTracedModel.load_model`, on another core than the first."""
    import torch_neuronx

    copy = torch.jit.load(program)
    torch_neuronx.experimental.set_neuron_cores(copy, start_nc=core, nc_count=1)
    if not neuron_section(program)["inline_weights_to_neff"]:
        torch_neuronx.move_trace_to_device(copy, core)
    return copy

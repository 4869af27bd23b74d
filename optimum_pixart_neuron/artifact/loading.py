"""Load the programs of one export onto the cores they are for."""

from pathlib import Path
from typing import Any

import torch
from optimum.neuron.modeling_traced import NeuronTracedModel

from ..errors import ArtifactError
from ..files import read_ahead
from ..neuron.sdk import ensure_sdk
from .compiled import AGAIN, PROGRAM_FILE, WEIGHTS_FOLDER, Compiled, shard_files


def load_program(component: Path, cores: int) -> list[Any]:
    """Load one program of ours: once over all its ranks, or one copy on each of `cores` cores.

    Args:
        component: its folder.

    Returns:
        the copies; a single one where the ranks run it together.

    Raises:
        ArtifactError: on the emulator, the program is not one that the emulator wrote.
    """
    program, compiled = component / PROGRAM_FILE, Compiled.read(component)
    try:
        ensure_sdk().check_program(program)
    except RuntimeError as error:
        raise ArtifactError(f"{program}: {error}; {AGAIN}") from None
    if (component / WEIGHTS_FOLDER).is_dir():
        for shard in shard_files(component, compiled.ranks):
            with shard.open("rb") as file:
                read_ahead(file.fileno())
        return [NeuronTracedModel.load_model(program, tensor_parallel_size=compiled.ranks)]
    # A program of one core in a pipeline of several was meant for one.
    one = compiled.parallel.mode is None and compiled.tensor_parallel_size > 1
    return [_load_copy(program, core, compiled) for core in range(1 if one else cores)]


def _load_copy(program: Path, core: int, compiled: Compiled) -> Any:
    """As optimum-neuron 0.4.5 `NeuronTracedModel.load_model`, on another core than the first."""
    import torch_neuronx

    copy = torch.jit.load(program)
    torch_neuronx.experimental.set_neuron_cores(copy, start_nc=core, nc_count=1)
    if not compiled.inline_weights_to_neff:
        torch_neuronx.move_trace_to_device(copy, core)
    return copy

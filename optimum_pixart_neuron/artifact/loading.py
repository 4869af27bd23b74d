"""Load the programs of one export onto the cores they are for."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from optimum.neuron.modeling_traced import NeuronTracedModel

from ..checkpoint.layout import INDEX
from ..components.registry import PARTS
from ..errors import ArtifactError, LoadError, PixArtNeuronError
from ..files import read_ahead
from ..neuron.sdk import ensure_sdk
from ..neuron.troubles import device_reason
from .compiled import AGAIN, WEIGHTS_FOLDER, Compiled, shard_files
from .configurations import read_copied


def load_program(component: Path, cores: int) -> dict[str, list[Any]]:
    """Load the programs of a component of ours: once over all their ranks, or one copy on each of `cores` cores.

    Args:
        component: its folder.

    Returns:
        for each file, by its path in the folder, the copies; a single one where the ranks run it together.

    Raises:
        ArtifactError: nothing in the folder is compiled; on the emulator, a program is not one that the emulator
            wrote.
    """
    compiled = Compiled.require(component)
    return {file: _load_file(component, file, compiled, cores) for file in compiled.files}


def _load_file(component: Path, file: str, compiled: Compiled, cores: int) -> list[Any]:
    program = component / file
    try:
        ensure_sdk().check_program(program)
    except RuntimeError as error:
        raise ArtifactError(f"{program}: {error}; {AGAIN}") from None
    if (component / WEIGHTS_FOLDER).is_dir():
        for shard in shard_files(component, compiled.ranks):
            with shard.open("rb") as weights:
                read_ahead(weights.fileno())
        return [NeuronTracedModel.load_model(program, tensor_parallel_size=compiled.ranks)]
    # A program of one core in a pipeline of several was meant for one.
    mode = compiled.parallel.mode if compiled.parallel else None
    one = mode is None and compiled.tensor_parallel_size > 1
    return [_load_copy(program, core, compiled) for core in range(1 if one else cores)]


def _load_copy(program: Path, core: int, compiled: Compiled) -> Any:
    """As optimum-neuron 0.4.5 `NeuronTracedModel.load_model`, on another core than the first."""
    import torch_neuronx

    copy = torch.jit.load(program)
    # Under its last name first: that of the beta lost support with SDK 2.24.
    places = torch_neuronx if hasattr(torch_neuronx, "set_neuron_cores") else torch_neuronx.experimental
    places.set_neuron_cores(copy, start_nc=core, nc_count=1)
    if not compiled.inline_weights_to_neff:
        torch_neuronx.move_trace_to_device(copy, core)
    return copy


def load_copied(folder: Path) -> dict[str, Any]:
    """The tokenizer and the scheduler of an export, made by known classes from known files.

    One that is missing, or that its class refuses, is an ArtifactError.
    """
    found = read_copied(folder)
    missing = [name for name, part in PARTS.items() if part.copied is not None and name not in found]
    if missing:
        raise ArtifactError(f"{folder / INDEX} names no {missing[0]}; {AGAIN}")
    return {name: part.load() for name, part in found.items()}


@contextmanager
def loading(folder: Path) -> Iterator[None]:
    """Turn what the runtime or optimum-neuron raises in the block into a LoadError: reason, cause and remedy."""
    try:
        yield
    except PixArtNeuronError:
        raise
    except Exception as error:
        raise LoadError(f"{folder} cannot be loaded: {device_reason(error)}") from error

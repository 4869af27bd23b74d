"""The weights of a component whose program is there: shards beside it, or, on one core, tensors in its file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..artifact.compiled import shard_files
from ..artifact.held_weights import load_unplaced, weights_of
from ..errors import PixArtNeuronError
from ..parallel.shard_writer import write_shards
from .archive import save_program

if TYPE_CHECKING:
    from ..components.export_config import ExportConfig
    from .compile import CompileJob


def write_weights(job: CompileJob) -> None:
    """Give the programs in the component's folder the checkpoint's weights.

    A program of one core has them in its TorchScript file, from where they are read again and compared: a weight that
    it did not take is a PixArtNeuronError.
    """
    first = job.component
    if job.spmd:
        files = shard_files(job.folder, first.ranks)
        write_shards(first.weights(), first.read_weight, files, title=f"    {job.name} weights")
    else:
        for program in first.programs:
            _replace_weights(program, job.folder / job.program_file(program))


def _replace_weights(component: ExportConfig, file: Path) -> None:
    """By torch_neuronx itself: optimum-neuron's wrapper leaves out names with a digit behind a letter (0.4.5)."""
    import torch_neuronx

    dtypes = {name: weight.dtype for name, weight in component.weights().items()}
    program = load_unplaced(file)
    torch_neuronx.replace_weights(program, {name: component.read_weight(name).to(dtypes[name]) for name in dtypes})
    save_program(program, file)
    del program
    held = weights_of(load_unplaced(file))
    wrong = [
        name
        for name, tensor in held.items()
        if name not in dtypes or not torch.equal(tensor, component.read_weight(name).to(dtypes[name]))
    ]
    if wrong or not held:
        raise PixArtNeuronError(
            f"{component.COMPONENT.name}: the program took {len(held) - len(wrong)} of {len(held)} weights of the"
            f" checkpoint{f', not {wrong[0]}' if wrong else ''}; compile it with --disable_neuron_cache and without"
            " --programs_from"
        )

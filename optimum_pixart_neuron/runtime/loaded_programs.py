"""Programs of an export, loaded onto their cores and made callable for pipelines."""

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from ..artifact.compiled import Compiled
from ..artifact.loading import load_program
from ..components.component import Component
from ..components.registry import DENOISER
from ..neuron.machine import Machine
from ..neuron.sdk import ensure_sdk
from .batching import BatchedProgram, ProgramInput
from .several_programs import SeveralPrograms
from .turns import OneAtATime


def load_programs(programs: Mapping[str, Path], ranks: int) -> dict[str, Any]:
    """Load programs of ours; those of one core are copied to every core that the pipeline has.

    Args:
        programs: file of each component's program, by the component's name.

    Returns:
        for each, the copies of its programs by file, see `load_program`.
    """
    cores = _cores(ranks)
    order = sorted(programs, key=lambda name: name != DENOISER.name)  # the largest copy of the host's memory first
    return {name: load_program(programs[name].parent, cores) for name in order}


def load_one(component: Component, folder: Path) -> tuple[Compiled, Callable[..., Any]]:
    """Load a component that optimum-neuron's loader does not know.

    Returns:
        what it was compiled for, and its program.
    """
    read = Compiled.require(folder)
    return read, runnable(component, read, load_program(folder, _cores(read.tensor_parallel_size)))


def _cores(ranks: int) -> int:
    """Cores that get a copy of each program of one core.

    On one rank the guidance pair and the images go to two, as with the host's DataParallel.
    """
    return max(ranks, min(2, Machine.of(ensure_sdk()).cores))


def runnable(component: Component, compiled: Compiled, loaded: Any) -> Callable[..., Any]:
    """The programs of a component as threads may call them; ours take any number of rows.

    Args:
        loaded: as `load_program` returns it where it is ours, else the program.
    """
    if not compiled.is_ours:
        return OneAtATime(loaded, name=component.name, shared_cores=compiled.ranks > 1)
    copies = {
        file: [OneAtATime(program, name=component.name, shared_cores=compiled.ranks > 1) for program in programs]
        for file, programs in loaded.items()
    }
    programs = [
        BatchedProgram(
            copies[each.program.file if each.program else compiled.files[0]],
            program_inputs(component, each),
            each.program.name if each.program else None,
        )
        for each in compiled.each()
    ]
    return programs[0] if len(programs) == 1 else SeveralPrograms(programs)


def for_one_call(part: Any) -> Any:
    """A component of a pipeline for the steps of one call."""
    part = copy.copy(part)
    if isinstance(part.model, (BatchedProgram, SeveralPrograms)):
        part.model = part.model.for_one_call()
    return part


def program_inputs(component: Component, compiled: Compiled) -> list[ProgramInput]:
    """What the compiled program of a component takes, in call order."""
    sizes = {**compiled.sizes, "batch_size": compiled.batch}
    return [
        ProgramInput(name=given.name, shape=given.shape(sizes), dtype=getattr(torch, given.dtype))
        for given in component.inputs
    ]

"""Operators behind the scripted `NxDModel`: start the ranks of a set of programs, and run one of them."""

import torch
from torch import Tensor

from . import handles
from .collectives import NAMESPACE
from .device import current_device
from .program import Program
from .runtime import RankPool
from .surfacing import surfacing

_LIBRARY = torch.library.Library(NAMESPACE, "FRAGMENT")


class LoadedRanks:
    """Programs placed on one core per rank, and the pool of processes that runs them."""

    def __init__(self, programs: list[Program], checkpoint: list[dict[str, Tensor]], world_size: int):
        device = current_device()
        for program in programs:
            device.check_flags(program.flags)
        device.check_cores(0, world_size)
        if len(checkpoint) != world_size:
            raise RuntimeError(f"{len(checkpoint)} weight dicts were given, the programs run on {world_size} ranks")
        for rank, weights in enumerate(checkpoint):
            for program in programs:
                program.check_weights(weights, f"rank {rank}")
        self.programs = programs
        self._device = device
        self._claim = device.claim(range(world_size), device_bytes(programs))
        try:
            for program in programs:
                program.check_values(device.memory_per_core)
            self.pool = RankPool(programs, checkpoint)
        except BaseException:
            device.release(self._claim)
            raise

    def run(self, index: int, inputs: list[Tensor]) -> list[Tensor]:
        self.programs[index].check_inputs(inputs)
        return self.pool.run(index, inputs)

    def run_ranked(self, index: int, inputs: list[list[Tensor]]) -> list[list[Tensor]]:
        if len(inputs) != self.programs[index].world_size:
            raise RuntimeError(f"inputs of {len(inputs)} ranks were given, the program runs on all of its own")
        for own in inputs:
            self.programs[index].check_inputs(own)
        return self.pool.run_ranked(index, inputs)

    def close(self) -> None:
        self.pool.close()
        self._device.release(self._claim)


def device_bytes(programs: list[Program]) -> int:
    """Device memory of one rank: weights shared by all programs, everything else per program."""
    weights = {name: spec.nbytes for p in programs for name, spec in zip(p.weight_names, p.weights)}
    others = [program.device_bytes - sum(spec.nbytes for spec in program.weights) for program in programs]
    return sum(weights.values()) + sum(others)


def _initialize(
    programs: list[Tensor], checkpoint: list[dict[str, Tensor]], start_rank: int, world_size: int
) -> Tensor:
    if start_rank != 0:
        raise RuntimeError(f"start rank {start_rank}: the emulator runs all ranks on this host, give start rank 0")
    decoded = [Program.from_bytes(program.contiguous().numpy().data) for program in programs]
    loaded = LoadedRanks(decoded, checkpoint, world_size)
    return handles.new_handle(loaded, loaded.close)


def _execute(handle: Tensor, index: int, inputs: list[Tensor]) -> list[Tensor]:
    return _loaded(handle).run(index, inputs)


def execute_ranked(handle: Tensor, index: int, inputs: list[list[Tensor]]) -> list[list[Tensor]]:
    """Run a program with inputs for each rank; returns the outputs of each, in the order of the program.

    Raises:
        RuntimeError: the ranks are of another process, the inputs are not those of the program, or a rank failed.
    """
    return _loaded(handle).run_ranked(index, inputs)


def _loaded(handle: Tensor) -> LoadedRanks:
    loaded = handles.find(handle)
    if loaded is None:
        raise RuntimeError("the ranks of this model belong to another process: load the model here")
    return loaded


def _is_loaded(handle: Tensor) -> bool:
    """Whether what the handle stands for can be executed; true in a fork too, where executing it says why not."""
    return handles.find(handle) is not None or handles.is_forked(handle)


_LIBRARY.define("is_loaded(Tensor handle) -> bool")
_LIBRARY.impl("is_loaded", _is_loaded, "CompositeExplicitAutograd")
_LIBRARY.define(
    "spmd_initialize(Tensor[] programs, Dict(str, Tensor)[] checkpoint, int start_rank, int world_size) -> Tensor"
)
_LIBRARY.impl("spmd_initialize", surfacing(_initialize), "CompositeExplicitAutograd")
_LIBRARY.define("spmd_execute(Tensor handle, int index, Tensor[] inputs) -> Tensor[]")
_LIBRARY.impl("spmd_execute", surfacing(_execute), "CompositeExplicitAutograd")

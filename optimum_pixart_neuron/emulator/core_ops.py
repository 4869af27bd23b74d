"""Operators behind a scripted single-core program: place it, and execute it in the calling process."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from . import handles
from .collectives import NAMESPACE
from .device import current_device
from .program import Program, TensorSpec
from .surfacing import surfacing

_LIBRARY = torch.library.Library(NAMESPACE, "FRAGMENT")


class LoadedProgram:
    """A program placed on one core, or replicated on several.

    Args:
        start_nc: first core; negative for the least used one.
        nc_count: copies on consecutive cores; negative for one.
    """

    def __init__(self, program: Program, start_nc: int, nc_count: int):
        device = current_device()
        device.check_flags(program.flags)
        if (start_nc, nc_count) == (-1, -1):
            start_nc, nc_count = device.default_placement
        copies = max(nc_count, 1)
        first = start_nc if start_nc >= 0 else (device.least_used_core() if copies == 1 else 0)
        device.check_cores(first, copies)
        self.program = program
        self._device = device
        self._claim = device.claim(range(first, first + copies), program.device_bytes)
        try:
            program.check_values(device.memory_per_core)
        except BaseException:
            self.close()
            raise

    @property
    def cores(self) -> tuple[int, ...]:
        return self._claim.cores

    def close(self) -> None:
        self._device.release(self._claim)


def _load(serialised: Tensor, start_nc: int, nc_count: int) -> Tensor:
    program = Program.from_bytes(serialised.contiguous().numpy().data)
    loaded = LoadedProgram(program, start_nc, nc_count)
    return handles.new_handle(loaded, loaded.close)


def _execute(handle: Tensor, inputs: list[Tensor], weights: list[Tensor], dynamic_batch: bool) -> list[Tensor]:
    loaded = handles.find(handle)
    if loaded is None:
        raise RuntimeError("this program is loaded in another process: load the model here")
    program = loaded.program
    program.check_weights(dict(zip(program.weight_names, weights)), "module")
    if dynamic_batch:
        return _execute_in_chunks(program, inputs, weights)
    return program.run(weights, inputs)


def _execute_in_chunks(program: Program, inputs: list[Tensor], weights: list[Tensor]) -> list[Tensor]:
    """Split dim 0 of all inputs into chunks of the compiled batch, the last one filled up with zeros."""
    compiled = program.inputs[0].shape[0]
    batches = {tensor.shape[0] for tensor in inputs}
    if len(batches) != 1:
        raise RuntimeError(f"dynamic batching: inputs have batch sizes {sorted(batches)}, they must be equal")
    batch = batches.pop()
    chunks = []
    for start in range(0, batch, compiled):
        chunk = [tensor[start : start + compiled] for tensor in inputs]
        missing = compiled - chunk[0].shape[0]
        if missing:
            chunk = [pad(tensor, (0, 0) * (tensor.dim() - 1) + (0, missing)) for tensor in chunk]
        chunks.append(program.run(weights, chunk))
    return [torch.cat(parts)[:batch] for parts in zip(*chunks)]


def check_batched(program: Program) -> None:
    """RuntimeError unless all inputs and outputs share the size of dim 0, which dynamic batching splits."""
    tensors: tuple[TensorSpec, ...] = program.inputs + program.outputs
    batches = {spec.shape[0] if spec.shape else 0 for spec in tensors}
    if len(batches) != 1 or 0 in batches:
        raise RuntimeError(f"dynamic batching: sizes of dim 0 are {sorted(batches)}, all must equal the batch size")


def _cores(handle: Tensor) -> list[int]:
    loaded = handles.find(handle)
    return [] if loaded is None else list(loaded.cores)


_LIBRARY.define("load(Tensor program, int start_nc, int nc_count) -> Tensor")
_LIBRARY.impl("load", surfacing(_load), "CompositeExplicitAutograd")
_LIBRARY.define("execute(Tensor handle, Tensor[] inputs, Tensor[] weights, bool dynamic_batch) -> Tensor[]")
_LIBRARY.impl("execute", surfacing(_execute), "CompositeExplicitAutograd")
_LIBRARY.define("cores(Tensor handle) -> int[]")
_LIBRARY.impl("cores", _cores, "CompositeExplicitAutograd")

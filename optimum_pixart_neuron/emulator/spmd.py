"""The TorchScript module that `ModelBuilder.trace` returns: one program for all ranks behind NxD's executor interface.

Shape of the object, its methods, its routing by exact input shapes and its error before `initialize` follow NxD 0.15
`trace/spmd.py` (`NxDModelExecutor` around `NxDModel`), so that code written for it, optimum-neuron's loader above all,
cannot tell the difference. The programs travel inside the archive.
"""

import torch
from torch import Tensor, nn

from . import spmd_ops  # noqa: F401  (registers the operators that the script below calls)
from .program import Program
from .scripting import define_module, packer_of
from .surfacing import surface


class NxDModel(nn.Module):
    """Scripted. `programs` holds the serialised programs, `offsets` the first one of each key."""

    programs: list[Tensor]
    offsets: dict[str, int]
    input_shape_map: dict[str, tuple[str, int]]
    weights: list[dict[str, Tensor]]

    def __init__(
        self,
        programs: list[Tensor],
        offsets: dict[str, int],
        input_shape_map: dict[str, tuple[str, int]],
        packer: torch.jit.ScriptModule,
        world_size: int,
        start_rank_id: int,
    ):
        super().__init__()
        self.programs = programs
        self.offsets = offsets
        self.input_shape_map = input_shape_map
        self.packer = packer
        self.world_size: int = world_size
        self.start_rank_id: int = start_rank_id
        # TorchScript cannot type an empty list; the key is the one NxD uses for "nothing yet"
        self.weights = [{"__neuronprivatetensor__": torch.tensor(0)}]
        self.handle = torch.empty(0, dtype=torch.int64)

    @torch.jit.export
    def initialize(self, checkpoint: list[dict[str, Tensor]], start_rank_tensor: Tensor):
        start_rank = torch.ops.aten.Int(start_rank_tensor)
        self.handle = torch.empty(0, dtype=torch.int64)
        self.handle = torch.ops.neuron_emulator.spmd_initialize(self.programs, checkpoint, start_rank, self.world_size)
        self.weights = checkpoint

    @torch.jit.export
    def initialize_with_saved_weights(self, start_rank_tensor: Tensor):
        self.initialize(self.weights, start_rank_tensor)

    @torch.jit.export
    def router(self, inputs: list[Tensor]) -> tuple[str, int]:
        shapes = str([tensor.shape for tensor in inputs])
        if shapes not in self.input_shape_map:
            raise KeyError(
                "no program was compiled for input shapes " + shapes + ", only for " + str(self.input_shape_map.keys())
            )
        return self.input_shape_map[shapes]

    def forward(self, inputs: list[Tensor]):
        key, bucket = self.router(inputs)
        if not torch.ops.neuron_emulator.is_loaded(self.handle):
            raise ValueError(
                "This model is not initialized, please call traced_model.nxd_model.initialize(sharded_checkpoint) or "
                "traced_model.nxd_model.initialize_with_saved_weights()"
            )
        flat = torch.ops.neuron_emulator.spmd_execute(self.handle, self.offsets[key] + bucket, inputs)
        return self.packer(flat)


class NxDModelExecutor(nn.Module):
    """Scripted. Calls `nxd_model` with its positional arguments as one list."""

    def __init__(self, nxd_model: torch.jit.ScriptModule):
        super().__init__()
        self.nxd_model = nxd_model


def build_executor(
    programs: dict[str, list[Program]], *, world_size: int, start_rank_id: int = 0
) -> torch.jit.ScriptModule:
    """Wrap compiled programs for `world_size` ranks.

    Args:
        programs: per key of `ModelBuilder.add`, one program per bucket. All return the same structure and take as
            many inputs; of two with equal input shapes the last one is used.
        world_size: ranks; `initialize` expects one dict of weights for each.
        start_rank_id: recorded on the module, as NxD does; all ranks of a program run on this host.

    Returns:
        A script module called with the inputs positionally, not initialised yet. Its `nxd_model.initialize(weights,
        rank)` starts the ranks; they stop when the module is collected.

    Raises:
        RuntimeError: no program, or programs that differ in output structure, number of inputs or ranks.
    """
    flat = [program for buckets in programs.values() for program in buckets]
    if not flat:
        raise RuntimeError("there is no program: add a model before tracing")
    first = flat[0]
    for program in flat:
        if program.structure != first.structure or len(program.inputs) != len(first.inputs):
            raise RuntimeError("all keys and buckets must take as many inputs and return the same structure")
        if program.world_size != world_size:
            raise RuntimeError(f"a program compiled for {program.world_size} ranks cannot run on {world_size}")
    offsets: dict[str, int] = {}
    shape_map: dict[str, tuple[str, int]] = {}
    count = 0
    for key, buckets in programs.items():
        offsets[key] = count
        count += len(buckets)
        for bucket, program in enumerate(buckets):
            shape_map[str([list(spec.shape) for spec in program.inputs])] = (key, bucket)
    serialised = [torch.frombuffer(program.to_bytes(), dtype=torch.uint8) for program in flat]
    model = NxDModel(serialised, offsets, shape_map, packer_of(first.structure), world_size, start_rank_id)
    names = ", ".join(first.input_names)
    executor = define_module(
        NxDModelExecutor(torch.jit.script(model)),
        f"def forward(self, {names}):\n    return self.nxd_model.forward([{names}])\n",
    )
    return surface(executor)

"""The TorchScript module that `torch_neuronx.trace` returns: a single-core program, its weights inside or beside it.

Nothing is placed on a core while tracing. A loaded archive is placed when `set_neuron_cores` or a similar call says
where, or else at its first call; on hardware that happens inside `torch.jit.load` unless lazy loading was saved.
"""

import torch
from torch import Tensor, nn

from . import core_ops, spmd_ops  # noqa: F401  (registers the operators that the script below calls)
from .program import Program
from .scripting import define_module, pack_expression, packer_of
from .surfacing import surface


class NeuronModel(nn.Module):
    """Scripted. Stands for `neuron::Model`; optimum-neuron and torch_neuronx code never touches its attributes.

    `start_nc` and `nc_count` as in `torch_neuronx.set_neuron_cores`; `asynchronous` and `lazy` are recorded, and make
    no difference to a program that runs in the calling process.
    """

    inlined: list[Tensor]

    def __init__(self, program: Tensor, inlined: list[Tensor]):
        super().__init__()
        self.program = program
        self.inlined = inlined
        self.start_nc: int = -1
        self.nc_count: int = -1
        self.asynchronous: bool = False
        self.lazy: bool = False
        self.dynamic_batch: bool = False
        self.handle = torch.empty(0, dtype=torch.int64)

    @torch.jit.export
    def load(self, start_nc: int, nc_count: int):
        self.handle = torch.empty(0, dtype=torch.int64)  # gives its memory back before more is claimed
        self.start_nc = start_nc
        self.nc_count = nc_count
        self.handle = torch.ops.neuron_emulator.load(self.program, start_nc, nc_count)

    def forward(self, inputs: list[Tensor], weights: list[Tensor]) -> list[Tensor]:
        if not torch.ops.neuron_emulator.is_loaded(self.handle):
            self.load(self.start_nc, self.nc_count)
        return torch.ops.neuron_emulator.execute(self.handle, inputs, weights + self.inlined, self.dynamic_batch)


class NeuronModule(nn.Module):
    """Scripted. What the user calls: the traced module's argument names and output structure around `model`."""

    def __init__(self, model: torch.jit.ScriptModule, weights: nn.Module | None):
        super().__init__()
        self.model = model
        if weights is not None:
            self.weights = weights


class Weights(nn.Module):
    """Scripted. Separated weights as parameters named by their state-dict path with `->` for `.`."""


def build_module(program: Program, state: dict[str, Tensor], *, inline_weights: bool) -> torch.jit.ScriptModule:
    """Wrap a compiled program.

    Args:
        program: compiled for one rank.
        state: the module's parameters and buffers, by state-dict name.
        inline_weights: keep the weights inside the program, where nothing can replace them.
    """
    packer_of(program.structure)  # refuses what TorchScript cannot return
    ordered = [state[name].detach() for name in program.weight_names]
    weights, expression = None, "torch.jit.annotate(List[Tensor], [])"
    if not inline_weights:
        weights = Weights()
        names = [name.replace(".", "->") for name in program.weight_names]
        for name, tensor in zip(names, ordered):
            weights.register_parameter(name, nn.Parameter(tensor, requires_grad=False))
        if names:
            expression = "[" + ", ".join(f"getattr(self.weights, {name!r})" for name in names) + "]"
    serialised = torch.frombuffer(program.to_bytes(), dtype=torch.uint8)
    model = torch.jit.script(NeuronModel(serialised, [tensor.clone() for tensor in ordered] if inline_weights else []))
    inputs = ", ".join(program.input_names)
    module = define_module(
        NeuronModule(model, weights),
        f"def forward(self, {inputs}):\n"
        f"    flat = self.model.forward([{inputs}], {expression})\n"
        f"    return {pack_expression(program.structure)}\n",
    )
    return surface(module)


def neuron_models(module: nn.Module) -> list[torch.jit.ScriptModule]:
    """The single-core programs inside a script module; none in an NxD or an eager module."""
    scripted = (part for part in module.modules() if isinstance(part, torch.jit.RecursiveScriptModule))
    return [part for part in scripted if part.original_name == NeuronModel.__name__]


def program_of(model: torch.jit.ScriptModule) -> Program:
    """Decode the program of one of `neuron_models`."""
    return Program.from_bytes(memoryview(model.program.contiguous().numpy()))

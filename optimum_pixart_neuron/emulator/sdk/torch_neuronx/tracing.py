"""`torch_neuronx.trace` (torch-neuronx API reference, trace)."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from optimum_pixart_neuron.emulator.compiler_flags import split_flags
from optimum_pixart_neuron.emulator.device import hold_cores
from optimum_pixart_neuron.emulator.neuronx_cc import LOG_FILE, compile_graph
from optimum_pixart_neuron.emulator.program import Program
from optimum_pixart_neuron.emulator.single_core import build_module


class _Function(nn.Module):
    """A plain function as a module, with the function's own signature for argument names."""

    def __init__(self, function: Callable[..., Any]):
        super().__init__()
        self.forward = function


def trace(
    func: Callable[..., Any],
    example_inputs: Any,
    *_: Any,
    input_output_aliases: Mapping[Tensor, int] | None = None,
    compiler_workdir: str | None = None,
    compiler_args: str | list[str] | None = None,
    partitioner_config: Any = None,
    inline_weights_to_neff: bool = True,
    cpu_backend: bool = False,
) -> torch.jit.ScriptModule:
    """Compile a module or function for one NeuronCore; nothing is loaded.

    Args:
        func: called positionally with the example inputs; returns tensors in tuples, lists or dicts.
        example_inputs: a tensor or a tuple or list of tensors; they fix shapes and dtypes.
        compiler_workdir: where to leave the compiled program, as `graph.neff`, and the compiler's log.
        compiler_args: neuronx-cc flags as one string or as a list.
        inline_weights_to_neff: False keeps weights replaceable, in the result's `weights` submodule.
        cpu_backend: compile without a device, which needs `--target` or `NEURON_PLATFORM_TARGET_OVERRIDE`. Otherwise
            the runtime starts, and this process holds its cores until it ends.

    Raises:
        RuntimeError: the module or the flags cannot be compiled, or a feature is not emulated (aliases, partitioner).
    """
    if input_output_aliases:
        raise RuntimeError("input_output_aliases are not emulated: return the new state as an output")
    if partitioner_config is not None:
        raise RuntimeError("partitioner_config is not emulated: trace the whole module")
    if not cpu_backend:
        hold_cores()
    inputs = (example_inputs,) if isinstance(example_inputs, Tensor) else tuple(example_inputs)
    for index, tensor in enumerate(inputs):
        if not isinstance(tensor, Tensor):
            raise RuntimeError(f"example input {index} is a {type(tensor).__name__}: give tensors only")
    module = func if isinstance(func, nn.Module) else _Function(func)
    program = Program.compile(module, inputs, compiler_args=compiler_args, world_size=1)
    if program.meshes:
        raise RuntimeError("the module has collectives, which need ranks: compile it with neuronx_distributed")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(compiler_workdir or scratch)
        folder.mkdir(parents=True, exist_ok=True)
        flags = split_flags(compiler_args)
        if not any(flag.startswith("--logfile") for flag in flags):
            flags.append(f"--logfile={folder / LOG_FILE}")
        neff = compile_graph(bytes(program.to_bytes()), flags, folder)
        (folder / "graph.neff").write_bytes(neff)
    program = Program.from_bytes(neff)
    state = dict([*module.named_parameters(), *module.named_buffers()])
    return build_module(program, state, inline_weights=inline_weights_to_neff)

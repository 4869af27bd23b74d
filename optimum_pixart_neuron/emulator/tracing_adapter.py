"""What `Program.compile` needs from the traced graph. Imported only where something is compiled, never in a worker."""

import inspect
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from ..aten_graph import aliases_first_argument, schema_of, trace_graph
from .program import TensorSpec


@dataclass(frozen=True)
class Traced:
    """The graph with its outputs described without pytree types: see `Program.structure`."""

    graph_module: fx.GraphModule
    weight_names: tuple[str, ...]
    outputs: tuple[TensorSpec, ...]
    structure: Any


def trace(module: nn.Module, example_inputs: tuple[Tensor, ...]) -> Traced:
    """Trace and check that the outputs are tensors in the containers TorchScript can return."""
    traced = trace_graph(module, example_inputs)
    (output,) = [node for node in traced.graph_module.graph.nodes if node.op == "output"]
    nodes = output.args[0]
    indices = pytree.tree_unflatten(list(range(len(nodes))), traced.output_spec)
    for index, node in enumerate(nodes):
        if not isinstance(node, fx.Node):
            raise RuntimeError(f"output {index} is {node!r}: a compiled module can only return tensors")
    outputs = tuple(TensorSpec.of(node.meta["val"]) for node in nodes)
    return Traced(traced.graph_module, traced.weight_names, outputs, describe(indices))


def describe(output: Any) -> Any:
    """JSON-able structure: an int is the index of a flat output, `["tuple"|"list", ...]` and dicts hold structures.

    Subclasses of dict (transformers' and diffusers' outputs) count as dicts, as they do for `torch.jit.trace`.
    """
    if isinstance(output, int):
        return output
    if isinstance(output, dict):
        return {str(key): describe(value) for key, value in output.items() if value is not None}
    if isinstance(output, (tuple, list)):
        return ["tuple" if isinstance(output, tuple) else "list", *[describe(item) for item in output]]
    raise RuntimeError(f"output of type {type(output).__name__}: return tensors in a tuple, list or dict")


def input_names(module: nn.Module, count: int) -> tuple[str, ...]:
    """Names of `forward`'s positional parameters, as `torch.jit.trace` keeps them; `argN` behind `*args`."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(module.forward).parameters.values()
    names = [parameter.name for parameter in parameters if parameter.kind in kinds][:count]
    return (*names, *[f"arg{index}" for index in range(len(names), count)])


def mutated_placeholders(placeholders: list[fx.Node]) -> tuple[int, ...]:
    """Positions of placeholders that an in-place operation writes to, directly or through a view."""
    found = []
    for position, placeholder in enumerate(placeholders):
        pending = [placeholder]
        while pending:
            node = pending.pop()
            aliases = [user for user in node.users if user.args and user.args[0] is node]
            aliases = [user for user in aliases if aliases_first_argument(user)]
            if any(schema_of(user).is_mutable for user in aliases):
                found.append(position)
                break
            pending += aliases
    return tuple(found)

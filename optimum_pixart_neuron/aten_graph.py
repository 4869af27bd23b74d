"""Trace a module into one flat ATen graph without computing anything.

The graph is what a compiler is given: every operation, static shapes, dtypes. The export checks its hygiene and
memory, the planner counts on it, and the emulator compiles it.
"""

import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree


@dataclass(frozen=True, kw_only=True)
class TracedGraph:
    """One traced program.

    Attributes:
        graph_module: takes the weights in the order of `weight_names`, then the inputs in call order, as flat
            positional tensors, and returns a flat list of tensors. Tensors it holds itself are baked constants.
        weight_names: state-dict names of parameters and persistent buffers that the program reads.
        output_spec: the pytree that restores the module's own output structure from the flat list.
    """

    graph_module: fx.GraphModule
    weight_names: tuple[str, ...]
    output_spec: Any


def trace_graph(module: nn.Module, example_inputs: tuple[Tensor, ...]) -> TracedGraph:
    """Trace `module(*example_inputs)` with fake tensors: no memory is allocated for values and nothing is executed.

    Parameters and persistent buffers become inputs of the graph, under their first state-dict name when they are
    tied; they may live on any device, `meta` included. Non-persistent buffers and tensors made in `forward` from
    Python values are baked into the graph, as they are by torch-neuronx (NxD 0.15 `trace/hlo_utils.py`).

    Args:
        module: any module in eval mode; its `forward` takes tensors positionally.
        example_inputs: tensors that give the static shapes and dtypes; their values are not read.
    """
    persistent = set(module.state_dict(keep_vars=True))
    weights = {
        name: tensor
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]
        if name in persistent  # a tied tensor appears once, under its first name
    }
    mode = FakeTensorMode(allow_non_fake_inputs=True)

    def fake(tensor: Tensor) -> Tensor:
        with mode:
            return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu")

    output_spec = None

    def flat_forward(*tensors: Tensor) -> list[Tensor]:
        nonlocal output_spec
        named = dict(zip(weights, tensors))
        output = torch.func.functional_call(module, named, tensors[len(named) :])
        flat, output_spec = pytree.tree_flatten(output)
        return flat

    arguments = [fake(tensor) for tensor in [*weights.values(), *example_inputs]]
    with torch.no_grad():
        graph_module = make_fx(flat_forward)(*arguments)
    if graph_module.graph.eliminate_dead_code():
        graph_module.recompile()
    return TracedGraph(graph_module=graph_module, weight_names=tuple(weights), output_spec=output_spec)


def schema_of(node: fx.Node) -> Any:
    """The `torch.FunctionSchema` of what a node calls; None if that is no operator."""
    return getattr(node.target, "_schema", None)


def aliases_first_argument(node: fx.Node) -> bool:
    """Whether the operation returns a view of its first argument, or that argument itself."""
    schema = schema_of(node)
    return schema is not None and bool(schema.arguments) and schema.arguments[0].alias_info is not None


def largest_live_set(graph: fx.Graph, weight_count: int) -> int:
    """Bytes of the largest set of values alive at once in program order: inputs and outputs, weights not.

    A view costs nothing and keeps what it looks at alive. What a compiler makes of the program may need less, by
    tiling and fusion, or more, by reordering.

    Args:
        graph: of a traced program, each node's value in its `meta["val"]`.
        weight_count: how many of the first placeholders are weights.
    """
    nodes = list(graph.nodes)
    free = set([node for node in nodes if node.op == "placeholder"][:weight_count])
    owner: dict[fx.Node, fx.Node] = {}
    last_use: dict[fx.Node, fx.Node] = {}
    for node in nodes:
        is_view = node.op == "call_function" and node.args and aliases_first_argument(node)
        picks = node.op == "call_function" and node.target is operator.getitem
        owner[node] = owner[node.args[0]] if (is_view or picks) and isinstance(node.args[0], fx.Node) else node
        for used in node.all_input_nodes:
            last_use[owner[used]] = node
    alive = peak = 0
    for node in nodes:
        if owner[node] is node and node not in free and node.op in ("placeholder", "call_function"):
            alive += node_bytes(node)
        peak = max(peak, alive)
        for used in {owner[used] for used in node.all_input_nodes}:
            if last_use[used] is node and used not in free and used.op in ("placeholder", "call_function"):
                alive -= node_bytes(used)
    return peak


# Operations on 64-bit integers that neuronx-cc announces to refuse, see `hardware.sdk_releases`: their names here.
_INT64_KINDS = {
    "dot": ("addmm", "baddbmm", "bmm", "dot", "matmul", "mm", "mv"),
    "pow": ("pow",),
    "scatter": ("index_add", "index_copy", "index_put", "scatter", "scatter_add", "scatter_reduce"),
}
_INT64_KIND_OF = {name: kind for kind, names in _INT64_KINDS.items() for name in names}


def int64_kind(node: fx.Node) -> str | None:
    """Which of "dot", "pow" and "scatter" on 64-bit integers an operation is; None for another operation."""
    if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
        return None
    value = node.meta.get("val")
    is_int64 = isinstance(value, Tensor) and value.dtype == torch.int64
    return _INT64_KIND_OF.get(node.target.overloadpacket.__name__.rstrip("_")) if is_int64 else None


def node_bytes(node: fx.Node) -> int:
    """Bytes of the values that a node makes."""
    value = node.meta.get("val")
    tensors = value if isinstance(value, (list, tuple)) else [value]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors if isinstance(tensor, Tensor))

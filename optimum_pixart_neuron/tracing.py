"""Trace a module into one flat ATen graph without computing anything.

The graph is what a compiler is given: every operation, static shapes, dtypes. It is used where the export checks a
program's hygiene (`export/hygiene.py`) and where the emulator compiles one (`emulator/program.py`).
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
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

    graph_module: torch.fx.GraphModule
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
    graph_module.graph.eliminate_dead_code()
    graph_module.recompile()
    return TracedGraph(graph_module=graph_module, weight_names=tuple(weights), output_spec=output_spec)

"""Run a module on tensors without values, and note every operation in a graph.

The graph has the operations, shapes and dtypes of the one that `aten_graph.trace_graph` makes for a compiler, and is
made several times as fast, because nothing has to be able to run it.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode


def record_graph(module: nn.Module, example_inputs: tuple[Tensor, ...]) -> tuple[fx.Graph, int]:
    """Run `module(*example_inputs)` on the meta device.

    Args:
        module: in eval mode, with its parameters and buffers on the meta device.
        example_inputs: on the meta device.

    Returns:
        the graph, each node's value in its `meta["val"]`, and how many of its first placeholders are weights:
        parameters and persistent buffers.
    """
    recorder = _OperationRecorder()
    persistent = set(module.state_dict(keep_vars=True))
    named = [*module.named_parameters(), *module.named_buffers()]
    weights = [tensor for name, tensor in named if name in persistent]
    for number, tensor in enumerate((*weights, *example_inputs)):
        recorder.note(recorder.graph.placeholder(f"tensor_{number}"), tensor)
    with torch.no_grad(), torch.device("meta"), recorder:
        output = module(*example_inputs)
    recorder.graph.output([recorder.node(tensor) for tensor in pytree.tree_leaves(output)])
    recorder.graph.eliminate_dead_code()
    return recorder.graph, len(weights)


class _OperationRecorder(TorchDispatchMode):
    """Notes what passes PyTorch's dispatcher."""

    def __init__(self) -> None:
        super().__init__()
        self.graph = fx.Graph()
        # By identity, with the tensor: what is freed could give its identity to another.
        self._nodes: dict[int, tuple[fx.Node, Tensor]] = {}

    def note(self, node: fx.Node, value: Any) -> None:
        """Remember the node that makes a value."""
        node.meta["val"] = value
        if isinstance(value, Tensor):
            self._nodes[id(value)] = (node, value)
        else:
            for index, part in enumerate(value):
                if isinstance(part, Tensor):
                    self.note(self.graph.call_function(operator.getitem, (node, index)), part)

    def node(self, value: Any) -> Any:
        """What stands for an argument: the node of a tensor, anything else itself."""
        if not isinstance(value, Tensor):
            return value
        if id(value) not in self._nodes:  # a constant of the program
            self.note(self.graph.get_attr(f"constant_{len(self._nodes)}"), value)
        return self._nodes[id(value)][0]

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = function(*args, **(kwargs or {}))
        arguments = pytree.tree_map(self.node, args), pytree.tree_map(self.node, kwargs or {})
        if isinstance(result, (Tensor, tuple, list)):
            self.note(self.graph.call_function(function, *arguments), result)
        return result

"""What a compiler should not be given: checks on the traced program of a component.

neuronx-cc compiles what it is given. Each check names a pattern that costs accuracy, memory or speed on a NeuronCore;
all were seen in the HLO of the unmodified modules (torch_xla 2.8.1 lowering of diffusers 0.35 and transformers 4.57).
"""

import math
from dataclasses import dataclass

import torch
from torch.fx import Node
from torch.utils import _pytree as pytree

from ..aten_graph import int64_kind
from .lowerings import is_lowered
from .program import TracedProgram

MAX_CONSTANT_BYTES = 1_000_000
MAX_STATISTICS = 4096
"""Numbers: a collective of so few costs its latency, whatever their dtype."""

_MATMULS = {"mm", "addmm", "bmm", "baddbmm", "convolution"}
_NORMS = {"native_layer_norm", "native_group_norm", "native_batch_norm", "mean", "var", "var_mean", "rsqrt"}
_FUSED_ATTENTION = "scaled_dot_product"
_NEAREST = "upsample_nearest"
# torch 2.8 traces a nearest upsampling as `_unsafe_index` with computed indices.
_INDEX_READS = {"index", "_unsafe_index", "gather", "index_select", "take"}
# Reading an integer input, comparing it and casting it is not arithmetic.
_INDEX_ARITHMETIC = {
    "abs", "add", "arange", "bitwise_and", "clamp", "cumsum", "div", "floor_divide", "log", "maximum", "minimum",
    "mul", "neg", "pow", "remainder", "rsub", "sub", "sum", "where",
}  # fmt: skip
_LOW_PRECISION = {torch.bfloat16, torch.float16}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One place in a program that breaks a rule.

    Attributes:
        rule: the rule's name.
        operation: the operation and its shape.
    """

    rule: str
    operation: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.operation}"


def check_program(program: TracedProgram, weights_dtype: torch.dtype) -> list[Finding]:
    """All findings in `program`, in program order; an empty list is a clean program.

    Rules:
        float64: a tensor of 8-byte floats; there is no such unit.
        float32-matmul: a float32 matmul or convolution though the weights are in lower precision, fused attention
            included, because `F.scaled_dot_product_attention` lowers to float32 matmuls.
        low-precision-norm: statistics of a norm in lower precision.
        large-constant: a baked constant above `MAX_CONSTANT_BYTES`; it belongs among the weights.
        index-arithmetic: integer arithmetic on tensors at run time.
        index-gather: a gather with computed indices, nearest upsampling included.
        float32-collective: a collective in float32 though the weights are in lower precision; a few statistics may.
        int64: a product, power, scatter or collective of 64-bit integers, which neuronx-cc announces to refuse.
        unlowered: an operation on a weight that PyTorch/XLA does not lower, of which tracers die.

    Args:
        weights_dtype: the dtype the component was exported with.
    """
    low = weights_dtype in _LOW_PRECISION
    findings = []
    nodes = program.graph.graph_module.graph.nodes
    weights = set([node for node in nodes if node.op == "placeholder"][: len(program.graph.weight_names)])
    for node in nodes:
        if node.op == "get_attr":
            constant = getattr(program.graph.graph_module, node.target)
            size = constant.numel() * constant.element_size()
            if size > MAX_CONSTANT_BYTES:
                shown = f"{list(constant.shape)} {constant.dtype}, {size} bytes"
                findings.append(Finding(rule="large-constant", operation=shown))
        elif node.op == "call_function" and isinstance(node.target, torch._ops.OpOverload):
            findings += [Finding(rule=rule, operation=_describe(node)) for rule in _broken_rules(node, low)]
            if weights.intersection(node.all_input_nodes) and not is_lowered(node.target):
                findings.append(Finding(rule="unlowered", operation=_describe(node)))
    for collective in program.collectives:
        shown = f"{collective.kind} {list(collective.shape)}"
        if collective.dtype == torch.int64:
            findings.append(Finding(rule="int64", operation=shown))
        if low and collective.dtype == torch.float32 and math.prod(collective.shape) > MAX_STATISTICS:
            findings.append(Finding(rule="float32-collective", operation=shown))
    return findings


def _broken_rules(node: Node, low: bool) -> list[str]:
    name = _name(node)
    outputs, inputs = _tensors(node), [tensor for argument in node.all_input_nodes for tensor in _tensors(argument)]
    rules = []
    if any(tensor.dtype == torch.float64 for tensor in outputs):
        rules.append("float64")
    if low and (_FUSED_ATTENTION in name or (name in _MATMULS and outputs[0].dtype == torch.float32)):
        rules.append("float32-matmul")
    if name in _NORMS and inputs and inputs[0].dtype in _LOW_PRECISION:
        rules.append("low-precision-norm")
    if name in _INDEX_ARITHMETIC and _is_index(outputs[0]):
        rules.append("index-arithmetic")
    if int64_kind(node) is not None:
        rules.append("int64")
    if _NEAREST in name or (name in _INDEX_READS and any(_is_computed_index(index) for index in _indices(node))):
        rules.append("index-gather")
    return rules


def _is_index(tensor: torch.Tensor) -> bool:
    return tensor.dtype in (torch.int64, torch.int32) and tensor.numel() > 1


def _indices(node: Node) -> list[Node]:
    """What a gather reads with: every argument after the tensor it reads from."""
    return [argument for argument in pytree.tree_leaves(node.args[1:]) if isinstance(argument, Node)]


def _is_computed_index(node: Node) -> bool:
    """An integer tensor that the program makes, not one it was given."""
    return node.op == "call_function" and any(_is_index(tensor) for tensor in _tensors(node))


def _tensors(node: Node) -> list[torch.Tensor]:
    value = node.meta.get("val")
    return [tensor for tensor in (value if isinstance(value, (list, tuple)) else [value]) if torch.is_tensor(tensor)]


def _name(node: Node) -> str:
    """Of an ATen operation, without its overload."""
    target = node.target
    assert isinstance(target, torch._ops.OpOverload), target
    return target.overloadpacket.__name__


def _describe(node: Node) -> str:
    outputs = ", ".join(
        f"{list(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}" for tensor in _tensors(node)
    )
    return f"{_name(node)} -> {outputs}"

"""Byte format of a compiled program: a flat list of instructions as JSON, followed by the raw baked constants.

Nothing in it is executable: an archive from a stranger can name ATen operators, not code. Values are numbered: weights
first, then inputs, then constants, then one per instruction.
"""

import json
import operator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx

MAGIC = b"neuron-emulator-program\n"
NAMESPACES = ("aten", "prims", "neuron_emulator")
_GETITEM = "getitem"
_ENUMS = {torch.dtype: "dtype", torch.layout: "layout", torch.memory_format: "memory_format"}


@dataclass(frozen=True)
class Instruction:
    """One operation: `operation` is `namespace::name.overload`; arguments are encoded (see `_encode`)."""

    operation: str
    arguments: list[Any]
    keywords: dict[str, Any]
    frees: list[int] = field(default_factory=list)


def encode_graph(graph_module: fx.GraphModule) -> tuple[list[Instruction], list[int], list[Tensor]]:
    """Turn a flat ATen graph into instructions, the numbers of its outputs, and its constants.

    Raises:
        RuntimeError: an operation is not an ATen operator, or a constant has no values (device `meta`).
    """
    nodes = list(graph_module.graph.nodes)
    placeholders = [node for node in nodes if node.op == "placeholder"]
    attributes = [node for node in nodes if node.op == "get_attr"]
    calls = [node for node in nodes if node.op == "call_function"]
    number = {node: index for index, node in enumerate([*placeholders, *attributes, *calls])}
    last_use = {node: max((number[user] for user in node.users if user in number), default=None) for node in number}
    (output,) = [node for node in nodes if node.op == "output"]
    results = set(output.all_input_nodes)

    freed_by: dict[int, list[int]] = {}
    for node, last in last_use.items():
        if last is not None and node not in results:
            freed_by.setdefault(last, []).append(number[node])
    instructions = [
        Instruction(
            _operation_name(node.target),
            [_encode(argument, number) for argument in node.args],
            {key: _encode(argument, number) for key, argument in node.kwargs.items()},
            freed_by.get(number[node], []),
        )
        for node in calls
    ]
    constants = [_constant(graph_module, node) for node in attributes]
    return instructions, [number[node] for node in output.args[0]], constants


def _constant(graph_module: fx.GraphModule, node: fx.Node) -> Tensor:
    value: Any = graph_module
    for part in node.target.split("."):
        value = getattr(value, part)
    if not isinstance(value, Tensor) or value.device.type != "cpu":
        device = getattr(value, "device", type(value).__name__)
        raise RuntimeError(f"constant {node.target} on {device} has no values to bake: build the module on the CPU")
    return value.detach()


def _operation_name(target: Any) -> str:
    if target is operator.getitem:
        return _GETITEM
    if not isinstance(target, torch._ops.OpOverload) or target.namespace not in NAMESPACES:
        raise RuntimeError(f"operation {target} cannot be compiled: only {', '.join(NAMESPACES)} operators can")
    return f"{target._schema.name}.{target._overloadname}"


def resolve_operation(name: str) -> Any:
    """The callable of an operation name; RuntimeError when this torch does not have it."""
    if name == _GETITEM:
        return operator.getitem
    namespace, _, rest = name.partition("::")
    base, _, overload = rest.partition(".")
    try:
        if namespace not in NAMESPACES:
            raise AttributeError(namespace)
        return getattr(getattr(getattr(torch.ops, namespace), base), overload)
    except AttributeError:
        raise RuntimeError(f"operation {name} is unknown to torch {torch.__version__}: compile again") from None


def _encode(argument: Any, number: dict[fx.Node, int]) -> Any:
    if isinstance(argument, fx.Node):
        return {"value": number[argument]}
    if isinstance(argument, (list, tuple)):
        return [_encode(item, number) for item in argument]
    for kind, key in _ENUMS.items():
        if isinstance(argument, kind):
            return {key: str(argument).removeprefix("torch.")}
    if isinstance(argument, torch.device):
        if argument.type != "cpu":
            raise RuntimeError(f"device {argument} inside a program: make tensors on the device of an input")
        return {"device": "cpu"}
    if argument is None or isinstance(argument, (bool, int, float, str)):
        return argument
    raise RuntimeError(f"argument {argument!r} of type {type(argument).__name__} cannot be compiled")


def decode_argument(argument: Any, values: list[Any]) -> Any:
    """The run-time value of an encoded argument, given the values computed so far."""
    if isinstance(argument, list):
        return [decode_argument(item, values) for item in argument]
    if isinstance(argument, dict):
        ((key, content),) = argument.items()
        if key == "value":
            return values[content]
        return torch.device(content) if key == "device" else getattr(torch, content)
    return argument


def pack(header: dict[str, Any], constants: list[Tensor]) -> bytearray:
    """Header and constants as one buffer. Constants are described in the header under `constants`."""
    described = [{"shape": list(c.shape), "dtype": str(c.dtype).removeprefix("torch.")} for c in constants]
    text = json.dumps({**header, "constants": described}).encode()
    buffer = bytearray(MAGIC + len(text).to_bytes(8, "little") + text)
    for constant in constants:
        buffer += constant.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return buffer


def unpack(buffer: bytes | bytearray | memoryview) -> tuple[dict[str, Any], list[Tensor]]:
    """The reverse of `pack`; RuntimeError when the buffer is not a program."""
    view = memoryview(buffer)
    start = len(MAGIC) + 8
    if bytes(view[: len(MAGIC)]) != MAGIC:
        raise RuntimeError("not a program of the Neuron emulator: compile it again with the emulator")
    length = int.from_bytes(view[len(MAGIC) : start], "little")
    header = json.loads(bytes(view[start : start + length]))
    constants, offset = [], start + length
    for described in header["constants"]:
        dtype = getattr(torch, described["dtype"])
        size = torch.Size(described["shape"]).numel() * dtype.itemsize
        raw = bytearray(view[offset : offset + size])
        flat = torch.frombuffer(raw, dtype=dtype) if size else torch.empty(0, dtype=dtype)
        constants.append(flat.view(described["shape"]))
        offset += size
    return header, constants

"""Byte format of a compiled program: a flat list of instructions as JSON, followed by the raw baked constants.

Nothing in it is executable: a program from a stranger can name operations of `operations.py`, not code. Values are
numbered: weights first, then inputs, then constants, then one per instruction.
"""

import json
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx

from .header import ProgramHeader, read_header
from .operations import DTYPES, ENUMERATIONS, operation_name

MAGIC = b"neuron-emulator-program\n"
_LARGEST_HEADER = 64 << 20  # bytes; that of a transformer with 28 blocks has one


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
            operation_name(node.target),
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
    for part in str(node.target).split("."):
        value = getattr(value, part)
    if not isinstance(value, Tensor) or value.device.type != "cpu":
        device = getattr(value, "device", type(value).__name__)
        raise RuntimeError(f"constant {node.target} on {device} has no values to bake: build the module on the CPU")
    return value.detach()


def _encode(argument: Any, number: dict[fx.Node, int]) -> Any:
    if isinstance(argument, fx.Node):
        return {"value": number[argument]}
    if isinstance(argument, (list, tuple)):
        return [_encode(item, number) for item in argument]
    for kind, members in ENUMERATIONS.items():
        for name, member in members.items():
            if argument is member:
                return {kind: name}
    if isinstance(argument, torch.device):
        if argument.type != "cpu":
            raise RuntimeError(f"device {argument} inside a program: make tensors on the device of an input")
        return {"device": "cpu"}
    if argument is None or isinstance(argument, (bool, int, float, str)):
        return argument
    raise RuntimeError(f"argument {argument!r} of type {type(argument).__name__} cannot be compiled")


def decode_argument(argument: Any, values: list[Any], device: str = "cpu") -> Any:
    """The run-time value of an encoded argument, given the values computed so far and where they are."""
    if isinstance(argument, list):
        return [decode_argument(item, values, device) for item in argument]
    if isinstance(argument, dict):
        ((kind, content),) = argument.items()
        if kind == "value":
            return values[content]
        return torch.device(device) if kind == "device" else ENUMERATIONS[kind][content]
    return argument


def pack(header: dict[str, Any], constants: list[Tensor]) -> bytearray:
    """Header and constants as one buffer. Constants are described in the header under `constants`."""
    described = [{"shape": list(c.shape), "dtype": str(c.dtype).removeprefix("torch.")} for c in constants]
    text = json.dumps({**header, "constants": described}).encode()
    buffer = bytearray(MAGIC + len(text).to_bytes(8, "little") + text)
    for constant in constants:
        buffer += constant.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return buffer


def unpack(buffer: bytes | bytearray | memoryview, torch_release: str) -> tuple[ProgramHeader, list[Tensor]]:
    """The reverse of `pack`; RuntimeError when the buffer is no whole program, or one of another torch."""
    view = memoryview(buffer)
    start = len(MAGIC) + 8
    if len(view) < start or bytes(view[: len(MAGIC)]) != MAGIC:
        raise RuntimeError("not a program of the Neuron emulator: compile it again with the emulator")
    length = int.from_bytes(view[len(MAGIC) : start], "little")
    if length > min(len(view) - start, _LARGEST_HEADER):
        raise RuntimeError(f"the program is damaged: its header has {length} bytes, the program {len(view)}")
    header = read_header(bytes(view[start : start + length]), torch_release)
    offset = start + length
    expected = offset + sum(constant.nbytes for constant in header.constants)
    if expected != len(view):
        raise RuntimeError(f"the program is damaged: it has {len(view)} bytes, its header describes {expected}")
    constants = []
    for described in header.constants:
        raw = bytearray(view[offset : offset + described.nbytes])
        dtype = DTYPES[described.dtype]
        flat = torch.frombuffer(raw, dtype=dtype) if raw else torch.empty(0, dtype=dtype)
        constants.append(flat.view(described.shape))
        offset += described.nbytes
    return header, constants

"""One compiled program: the emulator's stand-in for a NEFF.

A program is an ATen graph traced once, as rank 0, and executed by every rank with that rank's weights. Like a NEFF it
has fixed shapes and dtypes, and everything that Python knew at trace time is baked into it.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from ..cpu import products
from . import collectives, kernels, layout
from .collectives import Mesh
from .compiler_flags import CompilerFlags, parse_flags, platform_target
from .memory_meter import MemoryMeter
from .operations import DTYPES, resolve_operation
from .refused_integers import check_integers
from .serialization import Instruction, decode_argument, encode_graph, pack, unpack


@dataclass(frozen=True)
class TensorSpec:
    """Static shape and dtype of one tensor."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @classmethod
    def of(cls, tensor: Tensor) -> "TensorSpec":
        return cls(tuple(tensor.shape), tensor.dtype)

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{str(self.dtype).removeprefix('torch.')}{list(self.shape)}"


@dataclass(frozen=True, kw_only=True)
class Program:
    """A compiled program.

    Attributes:
        weight_names: state-dict names, in the order in which `run` takes the weights.
        weights, inputs, outputs: static shapes and dtypes.
        input_names: parameter names of the module's `forward`.
        structure: how the flat outputs are arranged: an index, or a list or dict of structures (see `restore`).
        meshes: the distinct replica groups of its collectives.
        device_bytes: rough device memory of one rank: weights, constants, and the largest set of live values.
        mutated: positions of weights and inputs that an in-place operation writes to; they are copied first.
    """

    weight_names: tuple[str, ...]
    weights: tuple[TensorSpec, ...]
    input_names: tuple[str, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    structure: Any
    meshes: tuple[Mesh, ...]
    world_size: int
    flags: CompilerFlags
    device_bytes: int
    mutated: tuple[int, ...]
    instructions: list[Instruction]
    results: list[int]
    constants: list[Tensor]

    @classmethod
    def compile(
        cls,
        module: nn.Module,
        example_inputs: tuple[Tensor, ...],
        *,
        compiler_args: str | list[str] | None = None,
        world_size: int = 1,
    ) -> "Program":
        """Trace `module(*example_inputs)` as rank 0 and check what neuronx-cc would.

        Args:
            module: in eval mode, weights already at their sharded shapes; values of weights are not read.
            example_inputs: give the static shapes and dtypes.
            compiler_args: neuronx-cc flags.
            world_size: ranks that will run the program.

        Raises:
            RuntimeError: bad compiler flags, an operation that cannot be compiled, an output that is no tensor, a
                kernel launched for another logical core config.
            ValueError: replica groups that do not cover all ranks.
        """
        from ..aten_graph import largest_live_set
        from .tracing_adapter import input_names, mutated_placeholders, trace

        flags = parse_flags(compiler_args, platform_target())
        with collectives.tracing(world_size):
            traced = trace(module, example_inputs)
        graph = traced.graph_module
        kernels.check_launches(graph, flags.lnc)
        arguments = compiler_args if isinstance(compiler_args, str) else " ".join(compiler_args or ())
        check_integers(graph, arguments, collectives.NAMESPACE)
        instructions, results, constants = encode_graph(graph)
        placeholders = [node for node in graph.graph.nodes if node.op == "placeholder"]
        state = dict([*module.named_parameters(), *module.named_buffers()])
        weights = tuple(TensorSpec.of(state[name]) for name in traced.weight_names)
        return cls(
            weight_names=traced.weight_names,
            weights=weights,
            input_names=input_names(module, len(example_inputs)),
            inputs=tuple(TensorSpec.of(tensor) for tensor in example_inputs),
            outputs=traced.outputs,
            structure=traced.structure,
            meshes=_meshes(graph, world_size),
            world_size=world_size,
            flags=flags,
            device_bytes=sum(spec.nbytes for spec in weights)
            + sum(TensorSpec.of(constant).nbytes for constant in constants)
            + largest_live_set(graph.graph, len(weights)),
            mutated=mutated_placeholders(placeholders),
            instructions=instructions,
            results=results,
            constants=constants,
        )

    def check_inputs(self, inputs: list[Tensor]) -> None:
        """Raise RuntimeError unless count, shapes and dtypes are those compiled."""
        if len(inputs) != len(self.inputs):
            raise RuntimeError(f"the program was compiled for {len(self.inputs)} inputs, {len(inputs)} were given")
        for index, (tensor, spec) in enumerate(zip(inputs, self.inputs)):
            if TensorSpec.of(tensor) != spec:
                name = self.input_names[index]
                raise RuntimeError(
                    f"input {index} ({name}): compiled for {spec}, got {TensorSpec.of(tensor)}; shapes are static"
                )

    def check_weights(self, weights: dict[str, Tensor], owner: str) -> None:
        """Raise RuntimeError when a weight is missing or differs from what was compiled; more weights are fine."""
        missing = [name for name in self.weight_names if name not in weights]
        if missing:
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            raise RuntimeError(f"{owner}: missing weights {', '.join(missing[:3])}{more}")
        for name, spec in zip(self.weight_names, self.weights):
            if TensorSpec.of(weights[name]) != spec:
                given = TensorSpec.of(weights[name])
                raise RuntimeError(f"{owner}: weight {name} is {given}, the program was compiled for {spec}")

    @torch.no_grad()
    def run(self, weights: list[Tensor], inputs: list[Tensor]) -> list[Tensor]:
        """Execute; `weights` in the order of `weight_names`. Returns the flat outputs as tensors of their own."""
        self.check_inputs(inputs)
        # A device buffer is dense and row-major, whatever the strides of the tensor on the host.
        dense = [tensor.contiguous() for tensor in inputs]
        values: list[Any] = [*weights, *dense, *self.constants, *[None] * len(self.instructions)]
        for position in self.mutated:
            values[position] = values[position].clone()
        self._compute(values, self._operations)
        first = len(values) - len(self.instructions)
        return [values[number].clone() if number < first else values[number] for number in self.results]

    @torch.no_grad()
    def check_values(self, memory: int) -> None:
        """Compute the shape of every value, none of which the program says itself.

        Args:
            memory: bytes of a core.

        Raises:
            RuntimeError: an operation that does not take what it is given, more memory than the core has, or other
                outputs than the program declares.
        """
        declared = [*self.weights, *self.inputs, *map(TensorSpec.of, self.constants)]
        values: list[Any] = [torch.empty(spec.shape, dtype=spec.dtype, device="meta") for spec in declared]
        values += [None] * len(self.instructions)
        meter = MemoryMeter(memory)
        for value in values[: len(declared)]:
            meter.add(value)
        operations = [resolve_operation(each.operation) for each in self.instructions]
        self._compute(values, operations, meter)
        outputs = tuple(TensorSpec.of(values[number]) for number in self.results)
        if outputs != self.outputs:
            raise RuntimeError("the program is damaged: its outputs are not of the shapes and dtypes that it declares")

    def _compute(self, values: list[Any], operations: list[Any], meter: "MemoryMeter | None" = None) -> None:
        """Execute, in place of the values' last items; with a `meter` on the device `meta`, and every error named."""
        device = "cpu" if meter is None else "meta"
        first = len(values) - len(self.instructions)
        for index, (operation, instruction) in enumerate(zip(operations, self.instructions), start=first):
            arguments = [decode_argument(argument, values, device) for argument in instruction.arguments]
            keywords = {
                key: decode_argument(argument, values, device) for key, argument in instruction.keywords.items()
            }
            if meter is None:
                values[index] = operation(*arguments, **keywords)
            else:
                values[index] = meter.add(_without_data(instruction.operation, operation, arguments, keywords))
            for freed in instruction.frees:
                if meter is not None:
                    meter.remove(values[freed])
                values[freed] = None

    @property
    def _operations(self) -> list[Any]:
        cached = self.__dict__.get("_resolved")
        if cached is None:
            resolved = (resolve_operation(each.operation) for each in self.instructions)
            cached = [layout.densified(products.preferred(operation)) for operation in resolved]
            self.__dict__["_resolved"] = cached
        return cached

    def to_bytes(self) -> bytearray:
        """Serialise; `from_bytes` reads it in any process whose torch has the same major and minor version."""
        header = {
            "torch": _torch_release(),
            "weights": [[name, *_spec_out(spec)] for name, spec in zip(self.weight_names, self.weights)],
            "inputs": [[name, *_spec_out(spec)] for name, spec in zip(self.input_names, self.inputs)],
            "outputs": [_spec_out(spec) for spec in self.outputs],
            "structure": self.structure,
            "meshes": self.meshes,
            "world_size": self.world_size,
            "target": self.flags.target,
            "lnc": self.flags.lnc,
            "device_bytes": self.device_bytes,
            "mutated": self.mutated,
            "instructions": [[i.operation, i.arguments, i.keywords, i.frees] for i in self.instructions],
            "results": self.results,
        }
        return pack(header, self.constants)

    @classmethod
    def from_bytes(cls, buffer: bytes | bytearray | memoryview) -> "Program":
        """Deserialise; RuntimeError when the bytes are no program, a damaged one, or one of another torch."""
        header, constants = unpack(buffer, _torch_release())
        return cls(
            weight_names=tuple(name for name, _, _ in header.weights),
            weights=tuple(_spec_in(shape, dtype) for _, shape, dtype in header.weights),
            input_names=tuple(name for name, _, _ in header.inputs),
            inputs=tuple(_spec_in(shape, dtype) for _, shape, dtype in header.inputs),
            outputs=tuple(_spec_in(shape, dtype) for shape, dtype in header.outputs),
            structure=header.structure,
            meshes=tuple(tuple(tuple(row) for row in mesh) for mesh in header.meshes),
            world_size=header.world_size,
            flags=CompilerFlags(header.target, header.lnc),
            device_bytes=header.device_bytes,
            mutated=tuple(header.mutated),
            instructions=[Instruction(*entry) for entry in header.instructions],
            results=header.results,
            constants=constants,
        )


def _torch_release() -> str:
    return ".".join(torch.__version__.split(".")[:2])


def _spec_out(spec: TensorSpec) -> tuple[list[int], str]:
    return list(spec.shape), str(spec.dtype).removeprefix("torch.")


def _spec_in(shape: list[int], dtype: str) -> TensorSpec:
    return TensorSpec(tuple(shape), DTYPES[dtype])


def _meshes(graph: fx.GraphModule, world_size: int) -> tuple[Mesh, ...]:
    """The distinct replica groups of the graph's collectives, in order of first use."""
    meshes: dict[Mesh, None] = {}
    for node in graph.graph.nodes:
        schema = getattr(node.target, "_schema", None)
        if node.op == "call_function" and schema is not None and schema.name.startswith(collectives.NAMESPACE):
            if schema.arguments[-1].name != "group_size":
                continue  # no replica groups: a permutation or a kernel
            mesh = collectives.as_mesh(node.args[-2], node.args[-1])
            collectives.check_mesh(mesh, world_size)
            meshes[mesh] = None
    return tuple(meshes)


def _without_data(name: str, operation: Any, arguments: list[Any], keywords: dict[str, Any]) -> Any:
    schema = getattr(operation, "_schema", None)
    if schema is not None and any(argument.name == "device" for argument in schema.arguments):
        keywords = {"device": torch.device("meta"), **keywords}  # or it makes its result on the CPU
    try:
        return operation(*arguments, **keywords)
    except Exception as error:  # of many kinds, as PyTorch finds something wrong with an argument
        cause = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise RuntimeError(f"the program is damaged: operation {name}: {cause[:200]}") from None

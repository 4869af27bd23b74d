"""What the header of a compiled program may say: every name known, every number within bounds, every value defined.

A program may come from anywhere. What is read here is used without further checks by those who run programs.
"""

import keyword
import math
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from .collectives import NAMESPACE, as_mesh, check_mesh
from .operations import DTYPES, ENUMERATIONS, resolve_operation

_MOST_RANKS = 1024
_MOST_DIMENSIONS = 16
_MOST_BYTES = 1 << 50
_DEEPEST = 16  # structures of outputs, nested arguments

_ARGUMENT_KINDS = {**ENUMERATIONS, "device": {"cpu": None}}


def _dtype(name: Any) -> str:
    if not isinstance(name, str) or name not in DTYPES:
        raise ValueError(f"unknown dtype {str(name)[:40]!r}")
    return name


def _identifier(name: Any) -> str:
    """Names of inputs become names of parameters in TorchScript."""
    if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name) or name.startswith("__"):
        raise ValueError(f"no name of an input: {str(name)[:40]!r}")
    return name


def _structure(structure: Any, depth: int = 0) -> Any:
    """Indices of outputs in tuples, lists and dicts, as `Program.structure`."""
    if depth > _DEEPEST:
        raise ValueError("outputs are nested too deeply")
    if type(structure) is int:
        return structure
    if isinstance(structure, dict):
        return {name: _structure(item, depth + 1) for name, item in structure.items()}
    if isinstance(structure, list) and structure and structure[0] in ("tuple", "list"):
        return [structure[0], *[_structure(item, depth + 1) for item in structure[1:]]]
    raise ValueError(f"outputs cannot be arranged as {str(structure)[:40]!r}")


_Index = Annotated[int, Field(ge=0)]
_Shape = Annotated[list[Annotated[int, Field(ge=0, le=_MOST_BYTES)]], Field(max_length=_MOST_DIMENSIONS)]
_Dtype = Annotated[str, BeforeValidator(_dtype)]
_InputName = Annotated[str, BeforeValidator(_identifier)]
_Target = Annotated[str, Field(pattern="^(inf2|trn1|trn1n|trn2)$")]


class ConstantHeader(BaseModel):
    """One baked constant, whose bytes follow the header."""

    model_config = ConfigDict(strict=True, extra="forbid")

    shape: _Shape
    dtype: _Dtype

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * DTYPES[self.dtype].itemsize


class ProgramHeader(BaseModel):
    """Fields of `Program`, in the form that `Program.to_bytes` writes."""

    model_config = ConfigDict(strict=True, extra="forbid")

    torch: str
    weights: list[tuple[str, _Shape, _Dtype]]
    inputs: list[tuple[_InputName, _Shape, _Dtype]]
    outputs: list[tuple[_Shape, _Dtype]]
    structure: Annotated[Any, BeforeValidator(_structure)]
    meshes: list[list[list[_Index]]]
    world_size: Annotated[int, Field(ge=1, le=_MOST_RANKS)]
    target: _Target
    lnc: Annotated[int, Field(ge=1, le=2)]
    device_bytes: Annotated[int, Field(ge=0, le=_MOST_BYTES)]
    mutated: list[_Index]
    instructions: list[tuple[str, list[Any], dict[str, Any], list[_Index]]]
    results: list[_Index]
    constants: list[ConstantHeader]

    @model_validator(mode="after")
    def _fits_together(self) -> "ProgramHeader":
        for names in ([entry[0] for entry in self.weights], [entry[0] for entry in self.inputs]):
            if len(set(names)) < len(names):
                raise ValueError("two weights or inputs have one name")
        if len(self.results) != len(self.outputs) or not _is_arranged(self.structure, len(self.outputs)):
            raise ValueError("outputs, results and their arrangement do not agree")
        if any(number >= len(self.weights) + len(self.inputs) for number in self.mutated):
            raise ValueError("it writes to inputs that it does not have")
        for mesh in self.meshes:
            if sum(map(len, mesh)) != self.world_size:
                raise ValueError("replica groups do not name every rank")
            check_mesh(tuple(map(tuple, mesh)), self.world_size)
        self._check_instructions()
        return self

    def _check_instructions(self) -> None:
        """Every operation is listed and every value is there when it is used."""
        first = len(self.weights) + len(self.inputs) + len(self.constants)
        defined = set(range(first))
        meshes = {tuple(map(tuple, mesh)) for mesh in self.meshes}
        for number, (name, arguments, keywords, frees) in enumerate(self.instructions, start=first):
            resolve_operation(name)
            for argument in (*arguments, *keywords.values()):
                _check_argument(argument, defined)
            if name.startswith(NAMESPACE):
                _check_ranks(name, arguments, meshes, self.world_size)
            defined.add(number)
            if not defined.issuperset(frees):
                raise ValueError("a value is freed that is not there")
            defined.difference_update(frees)
        if not defined.issuperset(self.results):
            raise ValueError("a result is not there at the end")


class _Release(BaseModel):
    torch: str


def read_header(content: bytes, torch_release: str) -> ProgramHeader:
    """The header from JSON.

    Args:
        content: UTF-8.
        torch_release: major and minor version of the installed torch.

    Raises:
        RuntimeError: what is wrong with it, or the torch that it was compiled under.
    """
    try:
        made_with = _Release.model_validate_json(content).torch
        if made_with != torch_release:
            raise RuntimeError(
                f"the program was compiled under torch {made_with[:20]}, this is torch {torch_release}: compile again"
            )
        return ProgramHeader.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])[:80]
        raise RuntimeError(f"the program is damaged: {place + ': ' if place else ''}{first['msg'][:200]}") from None


def _is_arranged(structure: Any, outputs: int) -> bool:
    found: list[int] = []
    pending = [structure]
    while pending:
        item = pending.pop()
        if isinstance(item, int):
            found.append(item)
        else:
            pending += item.values() if isinstance(item, dict) else item[1:]
    return sorted(found) == list(range(outputs))


def _check_argument(argument: Any, defined: set[int], depth: int = 0) -> None:
    if depth > _DEEPEST:
        raise ValueError("an argument is nested too deeply")
    if isinstance(argument, list):
        for item in argument:
            _check_argument(item, defined, depth + 1)
    elif isinstance(argument, dict):
        if len(argument) != 1:
            raise ValueError("an argument is of no kind")
        ((kind, content),) = argument.items()
        if kind == "value":
            known = type(content) is int and content in defined
        else:
            known = isinstance(content, str) and content in _ARGUMENT_KINDS.get(kind, {})
        if not known:
            raise ValueError(f"an argument is no {kind[:20]} that is there: {str(content)[:40]!r}")
    elif not (argument is None or isinstance(argument, (bool, int, float, str))):
        raise ValueError("an argument is of no kind")


def _check_ranks(name: str, arguments: list[Any], meshes: set, world_size: int) -> None:
    """Collectives among groups that the header names; permutations among ranks that there are."""
    operation = name.partition("::")[2].partition(".")[0]
    if operation == "attention":
        return
    ranks = arguments[1] if operation == "collective_permute" and len(arguments) == 2 else arguments[-2:-1]
    if operation != "collective_permute":
        ranks, size = (arguments[-2], arguments[-1]) if len(arguments) > 2 else ([], 0)
        if not _are_indices(ranks) or type(size) is not int or size < 1 or as_mesh(ranks, size) not in meshes:
            raise ValueError(f"{operation} among replica groups that the program does not name")
        return
    if not _are_indices(ranks) or len(ranks) % 2 or any(rank >= world_size for rank in ranks):
        raise ValueError("collective_permute among ranks that there are not")
    for ends in (ranks[0::2], ranks[1::2]):
        if len(set(ends)) < len(ends):
            raise ValueError("collective_permute sends from or to a rank twice")


def _are_indices(ranks: Any) -> bool:
    return isinstance(ranks, list) and all(type(rank) is int and rank >= 0 for rank in ranks)

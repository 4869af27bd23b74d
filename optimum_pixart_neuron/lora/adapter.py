"""Adapters read from files of anybody's: every name, shape and type is known before a number of it is used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from safetensors import safe_open

from ..errors import CheckpointError, printable
from ..files import TensorEntry, open_regular, safetensors_contents
from .formats import Format, Key, Role, format_of
from .scaling import LoraSettings

if TYPE_CHECKING:
    from torch import Tensor

    from .merge import LowRankChange

_TYPES = ("F64", "F32", "F16", "BF16")
_NUMBER_TYPES = (*_TYPES, "I64", "I32", "I16", "I8", "U8")
"""Of alpha."""
_WEIGHT = ".weight"

Geometry = Mapping[str, Mapping[str, tuple[int, ...]]]
"""Part of a checkpoint -> its weights by name -> shape."""


@dataclass(frozen=True, kw_only=True)
class _LowRank:
    """What an adapter has for one weight, still in its file.

    Attributes:
        down, up, magnitude: names of the tensors; no magnitude without DoRA.
        scale: of the product.
    """

    down: str
    up: str
    magnitude: str | None
    scale: float

    @property
    def tensors(self) -> list[str]:
        """Names of all."""
        return [name for name in (self.down, self.up, self.magnitude) if name]


@dataclass(frozen=True, kw_only=True, eq=False)
class Adapter:
    """One adapter. Another one may have come from the same file, at another time.

    Attributes:
        path: of the file that holds its tensors; absolute.
        changes: part of a checkpoint -> weight that is changed -> by what.
        held: its tensors by name, where they are in memory; None where they are read from the file each time.
    """

    path: Path
    changes: Mapping[str, Mapping[str, _LowRank]]
    held: Mapping[str, Tensor] | None = field(default=None, repr=False)

    def in_memory(self) -> Adapter:
        """The same with its tensors, whatever becomes of the file."""
        wanted = {name for weights in self.changes.values() for each in weights.values() for name in each.tensors}
        return replace(self, held={name: tensor.clone() for name, tensor in self._read(wanted).items()})

    def _read(self, names: Iterable[str]) -> Mapping[str, Tensor]:
        if self.held is not None:
            return self.held
        with safe_open(self.path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in names}

    def change(self, part: str, weight: str, strength: float = 1.0) -> LowRankChange:
        """What it has for one weight; `strength` is its user's factor."""
        from .merge import LowRankChange

        found = self.changes[part][weight]
        tensors = self._read(found.tensors)
        return LowRankChange(
            down=tensors[found.down],
            up=tensors[found.up],
            scale=found.scale * strength,
            magnitude=tensors[found.magnitude] if found.magnitude else None,
        )


@dataclass(frozen=True)
class ActiveAdapter:
    """An adapter in use, with its user's factor."""

    adapter: Adapter
    strength: float = 1.0


def changes_of(adapters: Sequence[ActiveAdapter], part: str, weight: str) -> list[LowRankChange]:
    """What adapters have for one weight, read, in their order."""
    having = (each for each in adapters if weight in each.adapter.changes.get(part, {}))
    return [each.adapter.change(part, weight, each.strength) for each in having]


def changed_weights(adapters: Sequence[ActiveAdapter], part: str) -> frozenset[str]:
    """Names of the weights of a part that any of the adapters changes."""
    return frozenset(name for each in adapters for name in each.adapter.changes.get(part, {}))


class _Tensor(NamedTuple):
    """One of a file, by its header."""

    name: str
    shape: tuple[int, ...]


def read_adapter(path: Path, configuration: Path | None, geometry: Geometry) -> Adapter:
    """Look an adapter through; its matrices stay in the file.

    Args:
        path: of its safetensors file.
        configuration: peft's, beside it; None where there is none.
        geometry: of what it is for.

    Raises:
        CheckpointError: it is no safetensors file, has a tensor that is not known or does not fit, a number that is
            none, or wants what cannot be merged; names the tensor or key.
    """
    entries, said = _contents(path)
    form, unknown = format_of(entries)
    if unknown is not None or not entries:
        what = f"has the tensor {printable(unknown)}, which no LoRA of the form of {form.name} has" if unknown else ""
        raise CheckpointError(f"{path} {what or 'holds no tensor'}; it is not merged")
    if form.name == "peft" and configuration is None and not any(name.startswith("unet.") for name in entries):
        raise CheckpointError(f"{path} is peft's, and the adapter_config.json that says its scale is not beside it")
    settings = LoraSettings.read(configuration) if configuration else None
    changes: dict[str, dict[str, _LowRank]] = {}
    for (part, weight), tensors in _by_weight(path, entries, form, geometry).items():
        own = settings or LoraSettings.of_part(said, part, path)
        changes.setdefault(part, {})[weight] = _low_rank(path, weight, geometry[part][weight], tensors, own)
    _check_finite(path, entries)
    return Adapter(path=path, changes=changes)


def _contents(path: Path) -> tuple[dict[str, TensorEntry], dict[str, str]]:
    try:
        with open_regular(path) as file:
            entries, said = safetensors_contents(file)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise CheckpointError(f"{path} is not a readable safetensors file: {error}") from None
    for name, entry in entries.items():
        if entry.dtype not in (_TYPES if entry.shape else _NUMBER_TYPES):
            raise CheckpointError(f"{path}: tensor {printable(name)} is stored as {entry.dtype}; take a float type")
    return entries, said


def _check_finite(path: Path, names: Iterable[str]) -> None:
    with safe_open(path, framework="pt") as file:
        for name in names:
            if not file.get_tensor(name).isfinite().all():
                raise CheckpointError(f"{path}: tensor {printable(name)} holds numbers that are not finite")


def _by_weight(
    path: Path, entries: Mapping[str, TensorEntry], form: Format, geometry: Geometry
) -> dict[tuple[str, str], dict[Role, _Tensor]]:
    """Part and name of each weight that is changed -> its tensors."""
    modules = {
        part: {
            form.written(name.removesuffix(_WEIGHT)): name
            for name, shape in weights.items()
            if name.endswith(_WEIGHT) and len(shape) in (2, 4)  # of linear layers and convolutions
        }
        for part, weights in geometry.items()
    }
    found: dict[tuple[str, str], dict[Role, _Tensor]] = {}
    for name, entry in entries.items():
        key = form.key(name)
        assert key is not None  # `format_of` has asked
        part, weight = _weight(path, name, key, modules)
        roles = found.setdefault((part, weight), {})
        if key.role in roles:
            other = printable(roles[key.role].name)
            raise CheckpointError(f"{path}: {other} and {printable(name)} are for one weight")
        roles[key.role] = _Tensor(name, tuple(entry.shape))
    return found


def _weight(path: Path, name: str, key: Key, modules: Mapping[str, Mapping[str, str]]) -> tuple[str, str]:
    for part in [key.part] if key.part else modules:
        if key.module in modules.get(part, {}):
            return part, modules[part][key.module]
    where = key.part if key.part in modules else " or ".join(modules)
    raise CheckpointError(f"{path}: tensor {printable(name)} is for a module that the {where} has not")


def _low_rank(
    path: Path, weight: str, shape: tuple[int, ...], tensors: Mapping[Role, _Tensor], settings: LoraSettings | None
) -> _LowRank:
    down, up = tensors.get(Role.DOWN), tensors.get(Role.UP)
    if down is None or up is None:
        only = ", ".join(printable(each.name) for each in tensors.values())
        raise CheckpointError(f"{path} has only one of the two matrices for {weight}: {only}")
    rank, ones = down.shape[0] if down.shape else 0, [1] * (len(shape) - 2)
    if not rank or (down.shape, up.shape) != ((rank, *shape[1:]), (shape[0], rank, *ones)):
        raise CheckpointError(
            f"{path}: the matrices for {weight} have shapes {down.shape} and {up.shape}, a weight of {shape} needs"
            f" {_shown('rank', *shape[1:])} and {_shown(shape[0], 'rank', *ones)}"
        )
    magnitude = tensors.get(Role.MAGNITUDE)
    _check_magnitude(path, weight, shape, magnitude, settings)
    scale = _scale(path, weight, rank, tensors.get(Role.ALPHA), settings)
    return _LowRank(down=down.name, up=up.name, magnitude=magnitude.name if magnitude else None, scale=scale)


def _shown(*sizes: object) -> str:
    return f"({', '.join(map(str, sizes))})"


def _check_magnitude(
    path: Path, weight: str, shape: tuple[int, ...], magnitude: _Tensor | None, settings: LoraSettings | None
) -> None:
    if settings is not None and settings.use_dora != (magnitude is not None):
        has = "has none" if magnitude is None else f"has {printable(magnitude.name)}"
        raise CheckpointError(f"{path}: use_dora is {settings.use_dora} in its configuration, and {weight} {has}")
    if magnitude is None:
        return
    rows, columns = (shape[0], *[1] * (len(shape) - 1)), (1, shape[1])
    of_peft = (1, shape[0], 1, 1)  # of a convolution's rows
    if magnitude.shape not in [(shape[0],), rows, columns if len(shape) == 2 else of_peft]:
        raise CheckpointError(
            f"{path}: {printable(magnitude.name)} has shape {magnitude.shape}, which are the norms of neither rows nor"
            f" columns of {shape}"
        )


def _scale(path: Path, weight: str, rank: int, alpha: _Tensor | None, settings: LoraSettings | None) -> float:
    """Without a word on alpha it is the rank, as diffusers and kohya's scripts take it."""
    if alpha is None:
        return settings.scale(weight.removesuffix(_WEIGHT), rank) if settings else 1.0
    if prod(alpha.shape) != 1:
        raise CheckpointError(f"{path}: {printable(alpha.name)} is no single number")
    with safe_open(path, framework="pt") as file:
        return float(file.get_tensor(alpha.name).item()) / rank

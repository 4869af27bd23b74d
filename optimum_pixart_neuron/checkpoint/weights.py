"""Weight files of one component, read lazily: headers are enough for every check."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, Field
from safetensors import safe_open

from ..components.common.single_file import Piece, SingleFile
from ..errors import CheckpointError
from ..files import TensorEntry, open_regular, read_typed, safetensors_header
from ..lora.adapter import ActiveAdapter, changed_weights, changes_of

if TYPE_CHECKING:  # configurations are read without torch
    from torch import Tensor

# Of a file whose content was not checked out (git-lfs `docs/spec.md`, "The Pointer": under 1024 bytes).
_LFS_POINTER, _LARGEST_POINTER = b"version https://git-lfs", 1024
# What safetensors calls the types that are cast to the export's.
FLOAT_TYPES = ("F64", "F32", "F16", "BF16")
# Prefixes of weights that were saved with what wrapped the model.
_WRAPPERS = {"_orig_mod.": "torch.compile", "module.": "torch's DistributedDataParallel"}
# Names in the attention of autoencoders before diffusers 0.16, which renames them while it loads (0.35,
# `ModelMixin._fix_state_dict_keys_on_load`).
_FORMER_ATTENTION = re.compile(r"(?P<block>.+\.attentions\.\d+)\.(?P<former>query|key|value|proj_attn)\.(?P<end>\w+)")
_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


@dataclass(frozen=True)
class WeightNames:
    """Names of the safetensors files of one component.

    Attributes:
        index: of sharded files; None for a single one.
        files: the single file, or the shards.
    """

    index: str | None
    files: tuple[str, ...]

    @classmethod
    def among(cls, names: Iterable[str], stem: str, variant: str | None) -> WeightNames | None:
        """What of a folder's file names are its weights, sharded before single; None where there are none.

        Args:
            stem: of the names, see `WEIGHT_STEMS`.
            variant: such as "fp16"; None for the plain files.
        """
        names = set(names)
        infix = f".{variant}" if variant else ""
        # The second of each is how diffusers wrote sharded variants before 0.32 (0.35, `_fetch_index_file_legacy`).
        indexes = (f"{stem}.safetensors.index{infix}.json", f"{stem}.safetensors{infix}.index.json")
        shards = re.compile(rf"{re.escape(stem + infix)}-\d+-of-\d+\.safetensors")
        legacy_shards = re.compile(rf"{re.escape(stem)}-\d+-of-\d+{re.escape(infix)}\.safetensors")
        single = f"{stem}{infix}.safetensors"
        for index in indexes:
            if index in names:
                files = [name for name in names if shards.fullmatch(name) or legacy_shards.fullmatch(name)]
                return cls(index=index, files=tuple(sorted(files)))
        return cls(index=None, files=(single,)) if single in names else None


class _Index(BaseModel):
    """An index of sharded weights; a shard lies beside it."""

    weight_map: dict[str, Annotated[str, Field(pattern=r"^[\w.-]{1,200}\.safetensors$")]]


@dataclass(frozen=True)
class ComponentWeights:
    """The safetensors files of one component.

    Attributes:
        files: each weight's name, as diffusers and transformers call it today -> the file that holds it.
        entries: what the headers say of each.
        stored: where those lie that are called otherwise in the file, or are a share of another weight.
    """

    files: dict[str, Path]
    entries: dict[str, TensorEntry]
    stored: Mapping[str, Piece] = field(default_factory=dict)

    @classmethod
    def find(cls, folder: Path, stem: str, variant: str | None) -> ComponentWeights:
        """Locate single or sharded safetensors in `folder`, with `variant` in their names if one is given.

        Raises:
            CheckpointError: no weights, only pickled ones, or a file that the index names is missing or unreadable.
        """
        names = [path.name for path in folder.iterdir()]
        found = WeightNames.among(names, stem, variant)
        if found is None:
            raise CheckpointError(why_missing(folder, names, stem, variant))
        paths = indexed_files(folder / found.index) if found.index else [folder / found.files[0]]
        files, entries, stored = {}, {}, {}
        for path in paths:
            for name, entry in header_of(path, found.index).items():
                today = _todays_name(name, path)
                files[today], entries[today] = path, entry
                if today != name:
                    stored[today] = Piece(name)
        return cls(files=files, entries=entries, stored=stored)

    @classmethod
    def of_file(cls, path: Path, form: SingleFile) -> ComponentWeights:
        """The weights of a component that one file holds alone, under other names.

        Raises:
            CheckpointError: it cannot be read, or has a name that is not known.
        """
        header = header_of(path)
        stored = form.pieces(header, path)
        entries = {}
        for name, piece in stored.items():
            rows, *others = header[piece.name].shape
            entries[name] = header[piece.name].model_copy(update={"shape": [rows // piece.count, *others]})
        return cls(files=dict.fromkeys(stored, path), entries=entries, stored=stored)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a weight, from the file's header.

        Raises:
            CheckpointError: it is stored as an integer or in 8 bits, whose scale is elsewhere.
        """
        entry = self.entries[name]
        if entry.dtype not in FLOAT_TYPES:
            raise CheckpointError(
                f"{self.files[name]}: weight {name} is stored as {entry.dtype}; an export reads"
                f" {', '.join(FLOAT_TYPES)}, so take the checkpoint before it was quantised"
            )
        return tuple(entry.shape)

    def read(self, name: str) -> Tensor:
        """One whole weight, backed by a memory mapping of its own: what was read leaves memory with the tensor."""
        piece = self.stored.get(name, Piece(name))
        with safe_open(self.files[name], framework="pt") as file:
            if piece.count == 1:
                return file.get_tensor(piece.name)
            rows = self.entries[name].shape[0]
            return file.get_slice(piece.name)[piece.number * rows : (piece.number + 1) * rows]


@dataclass(frozen=True)
class AdaptedWeights(ComponentWeights):
    """Weights with adapters merged into them as they are read, one at a time.

    Attributes:
        part: of the checkpoint, that the weights are of.
        adapters: in the order in which they are merged.
    """

    part: str = ""
    adapters: tuple[ActiveAdapter, ...] = ()

    @classmethod
    def of(cls, weights: ComponentWeights, part: str, adapters: Sequence[ActiveAdapter]) -> ComponentWeights:
        """The weights as they are where no adapter changes any of them."""
        if not changed_weights(adapters, part):
            return weights
        return cls(weights.files, weights.entries, weights.stored, part, tuple(adapters))

    def read(self, name: str) -> Tensor:
        """One whole weight; in float32 where an adapter changes it."""
        weight, changes = super().read(name), changes_of(self.adapters, self.part, name)
        if not changes:
            return weight
        from ..lora.merge import merged

        return merged(weight, changes)


def header_of(path: Path, index: str | None = None) -> dict[str, TensorEntry]:
    """What the header of a file says, which an index may have named.

    Raises:
        CheckpointError: it cannot be read, or is no safetensors file.
    """
    try:
        with open_regular(path) as file:
            return safetensors_header(file)
    except FileNotFoundError:
        named = f", though {index} names it; download it again" if index else ""
        raise CheckpointError(f"{path} is missing{named}") from None
    except OSError as error:
        raise CheckpointError(f"{path} is not a readable safetensors file: {error.strerror or error}") from None
    except ValueError as error:
        if path.stat().st_size < _LARGEST_POINTER and path.read_bytes().startswith(_LFS_POINTER):
            raise CheckpointError(f"{path} is a git-LFS pointer, not the weights; run `git lfs pull` there") from None
        raise CheckpointError(f"{path} is not a readable safetensors file: {error}") from None


def _todays_name(name: str, path: Path) -> str:
    for prefix, wrapper in _WRAPPERS.items():
        if name.startswith(prefix):
            raise CheckpointError(
                f"{path}: weights are named {prefix}…, as {wrapper} saves a model that it wraps; save the model inside"
            )
    former = _FORMER_ATTENTION.fullmatch(name)
    return f"{former['block']}.{_ATTENTION[former['former']]}.{former['end']}" if former else name


def indexed_files(index: Path) -> list[Path]:
    """The shards that an index names, there or not; an index that cannot be read is a CheckpointError."""
    shards = read_typed(index, _Index, CheckpointError).weight_map
    return sorted({index.parent / name for name in shards.values()})


def only_pickled(names: Iterable[str]) -> bool:
    """Whether a folder has .bin weights, single or sharded, and no safetensors."""
    names = list(names)
    return any(name.endswith((".bin", ".bin.index.json")) for name in names) and not any(
        ".safetensors" in name for name in names
    )


def why_missing(folder: Path | str, names: Iterable[str], stem: str, variant: str | None) -> str:
    """Why a folder of this machine or of the Hub, with these file names, has no weights to read."""
    wanted = f"{stem}.{variant}.safetensors" if variant else f"{stem}.safetensors"
    if only_pickled(names):
        return f"{folder} holds only .bin weights; pickled files can run code, convert them to {wanted} first"
    others = sorted(name for name in names if name.startswith((f"{stem}.", f"{stem}-")))
    found = f" (found {', '.join(others)}; change --variant)" if others else ""
    return f"{folder}/{wanted} is missing{found}"

"""A PixArt-Sigma checkpoint on disk: its configurations and its weights, read lazily.

Nothing here reads a weight before `ComponentWeights.read`; headers are enough for every check.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import safe_open

from ..errors import CheckpointError
from .layout import (
    COPIED_COMPONENTS,
    RECOGNIZED,
    TOKENIZER_MODELS,
    WEIGHT_STEMS,
    configuration_file,
)

if TYPE_CHECKING:  # configurations are read without torch
    import torch
    from torch import Tensor

# The sizes that an export takes from each configuration.
REQUIRED_KEYS = {
    "text_encoder": ("num_heads", "d_ff", "d_model", "vocab_size"),
    "transformer": (
        "sample_size",
        "patch_size",
        "num_attention_heads",
        "attention_head_dim",
        "in_channels",
        "caption_channels",
    ),
    "vae": ("block_out_channels", "latent_channels", "in_channels"),
}
# Tokens beside the sentences' pieces unless tokenizer_config.json gives another number.
_EXTRA_IDS = 100
# What safetensors calls the types that are cast to the export's.
FLOAT_TYPES = ("F64", "F32", "F16", "BF16")
# Channels of T5's embeddings, of the latents: (component, key) of the giver and of the taker.
_SEAMS = (
    (("text_encoder", "d_model"), ("transformer", "caption_channels")),
    (("vae", "latent_channels"), ("transformer", "in_channels")),
)


def read_json(path: Path) -> dict:
    """Read one JSON file of a checkpoint.

    Raises:
        CheckpointError: it is missing or is no JSON object.
    """
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing; is the checkpoint complete?") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is not a JSON object")
    return content


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


@dataclass(frozen=True)
class ComponentWeights:
    """The safetensors files of one component.

    Attributes:
        files: each weight's name -> the file that holds it.
    """

    files: dict[str, Path]

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
        files = {}
        for path in paths:
            if not path.exists():
                raise CheckpointError(f"{path} is missing, though {found.index} names it; download it again")
            try:
                with safe_open(path, framework="pt") as opened:
                    files.update(dict.fromkeys(opened.keys(), path))
            except Exception as error:  # safetensors raises its own type, which is not exported in every version
                raise CheckpointError(f"{path} is not a readable safetensors file: {error}") from None
        return cls(files=files)

    @cached_property
    def _opened(self) -> dict[Path, safe_open]:
        return {path: safe_open(path, framework="pt") for path in set(self.files.values())}

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a weight, from the file's header.

        Raises:
            CheckpointError: it is stored as an integer or in 8 bits, whose scale is elsewhere.
        """
        header = self._opened[self.files[name]].get_slice(name)
        if header.get_dtype() not in FLOAT_TYPES:
            raise CheckpointError(
                f"{self.files[name]}: weight {name} is stored as {header.get_dtype()}; an export reads"
                f" {', '.join(FLOAT_TYPES)}, so take the checkpoint before it was quantised"
            )
        return tuple(header.get_shape())

    def read(self, name: str) -> Tensor:
        """One whole weight, backed by a memory mapping of its own: what was read leaves memory with the tensor."""
        with safe_open(self.files[name], framework="pt") as file:
            return file.get_tensor(name)


def indexed_files(index: Path) -> list[Path]:
    """The shards that an index names, whether they are there or not.

    Raises:
        CheckpointError: the index cannot be read.
    """
    shards = read_json(index).get("weight_map", {})
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


@dataclass(frozen=True)
class ComponentSource:
    """Where one component of a checkpoint comes from.

    Attributes:
        model: what the user called it: a Hub id, with revision and path if given, or a folder.
        revision: commit hash on the Hub; None for a folder.
        folder: the component's own folder on this machine, such as `.../text_encoder`.
        files: names of the files in it, with those that are still on the Hub.
        variant: of its weight files, such as "fp16"; None for the plain ones.
        repository: id on the Hub; None for a folder.
        path: of the component's folder inside the repository.
        cached_only: whether the Hub was not asked, so that `files` is what the download cache holds.
    """

    model: str
    revision: str | None
    folder: Path
    files: frozenset[str] = frozenset()
    variant: str | None = None
    repository: str | None = None
    path: str = ""
    cached_only: bool = False


@dataclass(frozen=True)
class PixArtCheckpoint:
    """The components of a PixArt-Sigma pipeline, from one checkpoint or several.

    Attributes:
        source: what the user called it: a Hub id or a folder.
        sources: where each component comes from: text_encoder, transformer, vae, tokenizer and scheduler.
        model_index: what diffusers' model_index.json says of the pipeline.
        notes: what the user should know of where things come from, a line each.
    """

    source: str
    sources: Mapping[str, ComponentSource]
    model_index: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    def config(self, component: str) -> dict:
        """A component's `config.json`, or the tokenizer's or scheduler's own file."""
        return read_json(self.sources[component].folder / configuration_file(component))

    def weights(self, component: str) -> ComponentWeights:
        """A component's weight files."""
        source = self.sources[component]
        return ComponentWeights.find(source.folder, WEIGHT_STEMS[component], source.variant)

    def check(self) -> None:
        """Check that the configurations are there and fit each other; no weight has to be there yet.

        Raises:
            CheckpointError: names the first missing or unreadable file or key, or what does not fit, with both sizes.
        """
        for component, keys in REQUIRED_KEYS.items():
            config, file = self.config(component), self.sources[component].folder / "config.json"
            if component in RECOGNIZED and not RECOGNIZED[component](config):
                found = config.get("_class_name") or config.get("model_type")
                raise CheckpointError(f"{file} is of a {found}, which is no {component} of PixArt-Sigma")
            for key in keys:
                if config.get(key) is None:
                    raise CheckpointError(f"{file} has no {key}")
        for component in COPIED_COMPONENTS:
            self.config(component)
        self._check_conditions()
        for giver, taker in _SEAMS:
            self._check_seam(giver, taker)
        self._check_vocabulary()

    def _check_conditions(self) -> None:
        """diffusers 0.35 `PixArtTransformer2DModel`: without the key, 1024 px checkpoints have the conditions."""
        config = self.config("transformer")
        conditions = config.get("use_additional_conditions")
        if conditions or (conditions is None and config["sample_size"] == 128):
            raise CheckpointError(
                f"{self.sources['transformer'].folder / 'config.json'} asks for use_additional_conditions, image size"
                " and aspect ratio, as PixArt-Alpha has them; in PixArt-Sigma's it is false"
            )

    def _check_seam(self, giver: tuple[str, str], taker: tuple[str, str]) -> None:
        sizes = [self.config(component)[key] for component, key in (giver, taker)]
        if sizes[0] != sizes[1]:
            sides = [
                f"the {component} of {self.sources[component].model} has {key} {size}"
                for (component, key), size in zip((giver, taker), sizes)
            ]
            flags = [f"--{component}" for component, _ in (giver, taker) if component in RECOGNIZED]
            raise CheckpointError(f"{', '.join(sides)}: they do not fit; choose another {' or '.join(flags)}")

    def _check_vocabulary(self) -> None:
        """A token beyond the table of embeddings would read another row's memory on a NeuronCore."""
        folder = self.sources["tokenizer"].folder
        if not any((folder / name).exists() for name in TOKENIZER_MODELS):
            raise CheckpointError(f"{folder} holds neither {' nor '.join(TOKENIZER_MODELS)}")
        last, rows = _last_token(folder), self.config("text_encoder")["vocab_size"]
        if last >= rows:
            raise CheckpointError(
                f"the text_encoder of {self.sources['text_encoder'].model} has vocab_size {rows}, the tokenizer of"
                f" {self.sources['tokenizer'].model} gives token {last}: they do not fit; choose another"
                " --text_encoder"
            )


def _last_token(folder: Path) -> int:
    """The highest id that a tokenizer gives, as transformers 4.57 `T5Tokenizer` counts; its import takes seconds.

    Raises:
        CheckpointError: the tokenizer cannot be read.
    """
    sentences, settings = folder / TOKENIZER_MODELS[0], read_json(folder / "tokenizer_config.json")
    added = folder / "added_tokens.json"
    try:
        if sentences.exists():
            from sentencepiece import SentencePieceProcessor

            pieces = SentencePieceProcessor(model_file=str(sentences)).get_piece_size()
            known = [pieces - 1 + settings.get("extra_ids", _EXTRA_IDS)]
        else:
            from tokenizers import Tokenizer

            known = list(Tokenizer.from_file(str(folder / TOKENIZER_MODELS[1])).get_vocab().values())
        known += map(int, settings.get("added_tokens_decoder", {}))
        return max(known + list(read_json(added).values() if added.exists() else ()))
    except Exception as error:  # tokenizers raises nothing more special
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise CheckpointError(f"{folder} is not a readable tokenizer: {reason}") from None


def torch_dtype(name: str) -> torch.dtype:
    """`"bfloat16"` -> `torch.bfloat16`."""
    import torch

    return getattr(torch, name)

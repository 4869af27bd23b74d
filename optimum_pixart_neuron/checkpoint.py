"""A PixArt-Sigma checkpoint on disk: its configurations and its weights, read lazily.

Nothing here reads a weight before `ComponentWeights.read`; headers are enough for every check.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from .errors import CheckpointError

PIPELINE_CLASS = "PixArtSigmaPipeline"

# Folder of each component -> stem of its weight files (transformers, diffusers).
WEIGHT_STEMS = {
    "text_encoder": "model",
    "transformer": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
}
# What is copied to the export as it is, with the file that must be there.
COPIED_COMPONENTS = {"tokenizer": "tokenizer_config.json", "scheduler": "scheduler_config.json"}
TOKENIZER_MODELS = ("spiece.model", "tokenizer.json")
# The sizes that an export takes from each configuration.
REQUIRED_KEYS = {
    "text_encoder": ("num_heads", "d_ff"),
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
class ComponentWeights:
    """The safetensors files of one component.

    Attributes:
        files: each weight's name -> the file that holds it.
    """

    files: dict[str, Path]

    @classmethod
    def find(cls, folder: Path, stem: str, variant: str | None) -> "ComponentWeights":
        """Locate single or sharded safetensors in `folder`, with `variant` in their names if one is given.

        Raises:
            CheckpointError: no weights, only pickled ones, or a file that the index names is missing or unreadable.
        """
        infix = f".{variant}" if variant else ""
        index = folder / f"{stem}.safetensors.index{infix}.json"
        single = folder / f"{stem}{infix}.safetensors"
        if index.exists():
            weight_map = read_json(index).get("weight_map", {})
            paths = sorted({folder / name for name in weight_map.values()})
        elif single.exists():
            paths = [single]
        else:
            raise CheckpointError(_why_missing(folder, stem, variant))
        files = {}
        for path in paths:
            if not path.exists():
                raise CheckpointError(f"{path} is missing, though {index.name} names it; download it again")
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
        """The shape of a weight, from the file's header."""
        return tuple(self._opened[self.files[name]].get_slice(name).get_shape())

    def read(self, name: str) -> Tensor:
        """One whole weight, backed by the memory-mapped file."""
        return self._opened[self.files[name]].get_tensor(name)


def _why_missing(folder: Path, stem: str, variant: str | None) -> str:
    wanted = f"{stem}.{variant}.safetensors" if variant else f"{stem}.safetensors"
    if any(folder.glob("*.bin")):
        return f"{folder} holds only .bin weights; pickled files can run code, convert them to {wanted} first"
    others = sorted({path.name for path in folder.glob(f"{stem}.*")})
    found = f" (found {', '.join(others)}; change --variant)" if others else ""
    return f"{folder / wanted} is missing{found}"


@dataclass(frozen=True)
class PixArtCheckpoint:
    """A PixArt-Sigma checkpoint in diffusers' folder layout.

    Attributes:
        folder: where it lies on this machine.
        source: what the user called it: a Hub id or a folder.
        variant: of the weight files, such as "fp16"; None for the plain ones.
    """

    folder: Path
    source: str
    variant: str | None = None

    @classmethod
    def open(cls, folder: Path, *, source: str, variant: str | None = None) -> "PixArtCheckpoint":
        """Check that every component and its configuration is there; the weights may come later.

        Raises:
            CheckpointError: names the first missing or unreadable file, or the pipeline class if it is another one.
        """
        if not folder.is_dir():
            raise CheckpointError(f"{folder} is not a folder; --model takes a Hub id or the folder of a checkpoint")
        if not (folder / "model_index.json").exists():
            raise CheckpointError(f"{folder} is not a diffusers checkpoint: it has no model_index.json")
        checkpoint = cls(folder=folder, source=source, variant=variant)
        pipeline_class = checkpoint.model_index.get("_class_name")
        if pipeline_class != PIPELINE_CLASS:
            raise CheckpointError(f"{source} is a {pipeline_class}, not a {PIPELINE_CLASS}")
        for component in [*WEIGHT_STEMS, *COPIED_COMPONENTS]:
            if component not in checkpoint.model_index or not (folder / component).is_dir():
                raise CheckpointError(f"{source} has no {component}; a PixArt-Sigma export needs it")
        for component, keys in REQUIRED_KEYS.items():
            for key in keys:
                if checkpoint.config(component).get(key) is None:
                    raise CheckpointError(f"{folder / component / 'config.json'} has no {key}")
        for component, file in COPIED_COMPONENTS.items():
            read_json(folder / component / file)
        if not any((folder / "tokenizer" / name).exists() for name in TOKENIZER_MODELS):
            raise CheckpointError(f"{folder / 'tokenizer'} holds neither {' nor '.join(TOKENIZER_MODELS)}")
        return checkpoint

    @cached_property
    def model_index(self) -> dict:
        return read_json(self.folder / "model_index.json")

    def config(self, component: str) -> dict:
        """A component's `config.json`."""
        return read_json(self.folder / component / "config.json")

    def weights(self, component: str) -> ComponentWeights:
        """A component's weight files."""
        return ComponentWeights.find(self.folder / component, WEIGHT_STEMS[component], self.variant)


def torch_dtype(name: str) -> torch.dtype:
    """`"bfloat16"` -> `torch.bfloat16`."""
    return getattr(torch, name)

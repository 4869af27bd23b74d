"""What the small files of an artifact folder say, held against what each may say before a loader goes by them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..checkpoint.index import ModelIndex
from ..checkpoint.layout import INDEX
from ..components.common.copied import CopiedPart
from ..components.component import Component
from ..components.registry import PARTS
from ..errors import ArtifactError, printable
from ..files import read_json, typed
from .compiled import AGAIN, CONFIG_FILE, Compiled

_DTYPES = (None, "float32", "float16", "bfloat16", "float64")
# Of transformers' `PretrainedConfig` (4.57), which the host makes of every `config.json`: tables as long as a number
# in the file, and what becomes another object than a number or a word.
_REFUSED = ("num_labels", "id2label", "label2id", "pruned_heads", "quantization_config", "auto_map")
# Of optimum-neuron 0.4.5 `InputShapesArguments`, which the host makes of all sizes in the section.
_AXES = frozenset(
    "batch_size text_batch_size image_batch_size sequence_length num_choices width height image_size"
    " num_images_per_prompt patch_size num_channels feature_size nb_max_frames audio_sequence_length visual_seq_length"
    " point_batch_size nb_points_per_image num_beams vae_scale_factor encoder_hidden_size rotary_axes_dim".split()
)


def check_configuration(folder: Path, component: Component) -> None:
    """Refuse a `config.json` that is not the component's: an ArtifactError names the key."""
    path = folder / CONFIG_FILE
    config = read_json(path, ArtifactError, advice=AGAIN)
    compiled = Compiled.of(config, path)
    if compiled is None:
        raise ArtifactError(f"{path}: nothing in it is compiled; {AGAIN}")
    if component.part.settings is not None:
        typed(config, component.part.settings, path, ArtifactError, advice=AGAIN)
        for key in component.part.settings.READ:
            if key not in config:
                raise ArtifactError(f"{path} has no {key}; {AGAIN}")
    for key in _REFUSED:
        if config.get(key) is not None:
            raise ArtifactError(f"{path}: a {component.name} has no {key}; {AGAIN}")
    for each in _objects(config):
        for key in ("dtype", "torch_dtype"):
            if each.get(key) not in _DTYPES:
                raise ArtifactError(f"{path}: {key} is none of {', '.join(_DTYPES[1:])}; {AGAIN}")
    axes = dict.fromkeys(axis for given in component.inputs for axis in given.axes if isinstance(axis, str))
    for axis in axes:
        if axis not in compiled.sizes:
            raise ArtifactError(f"{path}: neuron has no static_{axis}; {AGAIN}")
    unknown = [axis for section in compiled.each() for axis in section.axes if axis not in _AXES]
    if unknown:
        raise ArtifactError(f"{path}: neuron has a static_{printable(unknown[0])}, which no program has; {AGAIN}")
    for key, expected in (("model_type", component.model_type), ("task", component.task)):
        if getattr(compiled, key) not in (None, expected):
            raise ArtifactError(f"{path} is damaged: neuron.{key} is not a {component.name}'s, {expected}; {AGAIN}")


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """An object with all that are nested in it: transformers 4.57 looks for dtypes in each (`dict_dtype_to_str`)."""
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _objects(inner)


def read_copied(folder: Path) -> dict[str, CopiedPart]:
    """Tokenizer and scheduler of an export, as far as its index names them; ArtifactError as of `CopiedPart.read`."""
    entries = ModelIndex.read(folder / INDEX, ArtifactError, advice=AGAIN).entries
    return {
        name: part.copied.read(folder / name, entries[name], ArtifactError)
        for name, part in PARTS.items()
        if part.copied is not None and name in entries
    }

"""The checkpoint that a folder was exported from, found again."""

from pathlib import Path
from typing import Any

from ..artifact.manifest import Manifest
from ..checkpoint.address import local_folder
from ..checkpoint.checkpoint import PixArtCheckpoint
from ..checkpoint.open import fetch_weights, open_checkpoint
from ..checkpoint.options import CheckpointOptions
from ..components.registry import COMPONENTS
from ..errors import CheckpointError


def original_of(folder: Path, manifest: Manifest | None, given: dict[str, Any]) -> PixArtCheckpoint:
    """Open the checkpoint and have its weights on this machine.

    Args:
        folder: of the export.
        manifest: of that folder; None where it has none.
        given: the options of a checkpoint that the user gave; the others are as they were at the export, and without
            `model` it is what the manifest names, at the revision that it names.

    Raises:
        CheckpointError: neither manifest nor `model`, the checkpoint is not there any more, or its weights are not
            the ones that were exported.
    """
    told = manifest.options if manifest else {}
    recorded = {name: told[name] for name in CheckpointOptions.model_fields if name in told}
    if manifest and not any(name.startswith("lora_") for name in given):
        recorded |= _merged(manifest)
    if "model" not in given:
        if manifest is None:
            raise CheckpointError(f"{folder} does not say what it was exported from; name the checkpoint with --model")
        here = local_folder(manifest.model)
        if manifest.revision is None and not (here and here.exists()):
            raise CheckpointError(
                f"{manifest.model}, from which {folder} was exported, is not there; name it by --model"
            )
        recorded |= {"model": manifest.model, "revision": manifest.revision}
    else:
        recorded.pop("revision", None)
    options = CheckpointOptions(**{**recorded, **given})
    checkpoint = open_checkpoint(options)
    fetch_weights(options, checkpoint)
    if manifest is not None and not given:
        _check_unchanged(manifest, checkpoint)
    return checkpoint


def _merged(manifest: Manifest) -> dict[str, Any]:
    """The options that name the adapters of an export."""
    return {
        "lora_model_ids": [
            f"{each.model}@{each.revision}" if each.revision else each.model for each in manifest.adapters
        ],
        "lora_weight_names": [each.file for each in manifest.adapters],
        "lora_adapter_names": [each.name for each in manifest.adapters],
        "lora_scales": [each.scale for each in manifest.adapters],
    }


def _check_unchanged(manifest: Manifest, checkpoint: PixArtCheckpoint) -> None:
    """A checkpoint that was trained on since would look like a failed export."""
    for merged, opened in zip(manifest.adapters, checkpoint.adapters):
        if not merged.content.resembles(opened.adapter.path):
            raise CheckpointError(
                f"{opened.adapter.path} is not the LoRA that was merged; to compare with it all the same, give"
                f" --lora_model_ids {merged.model}"
            )
    for name, component in manifest.components.items():
        if name not in COMPONENTS:  # somebody registered it where it was exported; it is not compared here
            continue
        folder = checkpoint.sources[COMPONENTS[name].part.name].folder
        changed = [
            folder / file for file, record in component.source.files.items() if not record.resembles(folder / file)
        ]
        if changed:
            raise CheckpointError(
                f"{changed[0]} is not the file that was exported; to compare with it all the same, give"
                f" --model {checkpoint.source}"
            )

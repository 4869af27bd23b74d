"""Bring a checkpoint onto this machine: nothing to do for a folder, two downloads for a Hub id."""

from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from ..checkpoint import COPIED_COMPONENTS, WEIGHT_STEMS, PixArtCheckpoint
from ..errors import CheckpointError
from .options import ExportOptions

_CONFIGURATION = ["model_index.json", *(f"{name}/config.json" for name in WEIGHT_STEMS)] + [
    f"{name}/*" for name in COPIED_COMPONENTS
]


def open_checkpoint(options: ExportOptions) -> PixArtCheckpoint:
    """The checkpoint that `options.model` names, with its configurations; weights come with `fetch_weights`.

    Raises:
        CheckpointError: it is no PixArt-Sigma checkpoint, or it cannot be downloaded.
    """
    folder = _locate(options, _CONFIGURATION)
    return PixArtCheckpoint.open(folder, source=options.model, variant=options.variant)


def fetch_weights(options: ExportOptions, checkpoint: PixArtCheckpoint) -> None:
    """Download the weight files that the export reads, and check that all are there.

    Raises:
        CheckpointError: names the missing or unreadable file.
    """
    infix = f".{options.variant}" if options.variant else ""
    stems = WEIGHT_STEMS.items()
    patterns = [f"{name}/{stem}{infix}.safetensors" for name, stem in stems]
    patterns += [f"{name}/{stem}{infix}-*-of-*.safetensors" for name, stem in stems]
    patterns += [f"{name}/{stem}-*-of-*{infix}.safetensors" for name, stem in stems]
    patterns += [f"{name}/{stem}.safetensors.index{infix}.json" for name, stem in stems]
    _locate(options, patterns)
    for component in WEIGHT_STEMS:
        checkpoint.weights(component)


def _locate(options: ExportOptions, patterns: list[str]) -> Path:
    local = Path(options.model)
    if local.exists() or options.model.startswith((".", "/", "~")):
        return local.expanduser() / options.subfolder
    prefix = f"{options.subfolder}/" if options.subfolder else ""
    try:
        root = snapshot_download(
            options.model,
            revision=options.revision,
            cache_dir=options.cache_dir,
            token=options.token,
            local_files_only=options.local_files_only,
            allow_patterns=[prefix + pattern for pattern in patterns],
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(f"--model {options.model} cannot be downloaded: {reason}") from None
    return Path(root) / options.subfolder

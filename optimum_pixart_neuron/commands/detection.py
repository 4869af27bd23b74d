"""Which pipeline a model is, read from its model_index.json alone: no torch, no weights."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

from ..errors import CheckpointError

PIXART_SIGMA = "PixArtSigmaPipeline"
INDEX = "model_index.json"
_OTHER_INDEXES = ("config.json", "modules.json", "adapter_config.json")


def pipeline_class(args: Namespace) -> str | None:
    """Name of the diffusers pipeline class of `args.model`; None when the model is not a diffusers pipeline.

    Args:
        args: Parsed flags; reads model, subfolder, revision, cache_dir, token and local_files_only.

    Raises:
        CheckpointError: The model does not exist, cannot be reached, or is no checkpoint of any kind.
    """
    if Path(args.model).exists():
        index = _local_index(Path(args.model), args.subfolder)
    else:
        index = _hub_index(args)
    return None if index is None else _class_name(index)


def _local_index(model: Path, subfolder: str) -> Path | None:
    if not model.is_dir():
        raise CheckpointError(f"--model {model} is a file; give the folder of the checkpoint.")
    folder = model / subfolder
    if not folder.is_dir():
        raise CheckpointError(f"--subfolder {subfolder} does not exist in {model}.")
    if (folder / INDEX).is_file():
        return folder / INDEX
    if any((folder / name).is_file() for name in _OTHER_INDEXES):
        return None
    raise CheckpointError(f"--model {folder} is no checkpoint: it has no {INDEX}.")


def _hub_index(args: Namespace) -> Path | None:
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    where = {"revision": args.revision, "cache_dir": args.cache_dir}
    try:
        return Path(
            hf_hub_download(
                args.model,
                INDEX,
                subfolder=args.subfolder or None,
                token=args.token,
                local_files_only=args.local_files_only,
                **where,
            )
        )
    except HFValidationError:
        raise CheckpointError(
            f"--model {args.model}: no such folder, and not an id of the Hugging Face Hub."
        ) from None
    except LocalEntryNotFoundError:
        if isinstance(try_to_load_from_cache(args.model, "config.json", **where), str):
            return None
        raise CheckpointError(
            f"--model {args.model}: no such folder, its {INDEX} is not in the download cache, and the Hugging Face "
            "Hub cannot be reached."
        ) from None
    except EntryNotFoundError:
        return None
    except GatedRepoError:
        raise CheckpointError(
            f"--model {args.model} asks for a licence to be accepted on its page; then --token."
        ) from None
    except RepositoryNotFoundError:
        raise CheckpointError(
            f"--model {args.model}: no such folder, and no such repository on the Hugging Face Hub (private: --token)."
        ) from None
    except RevisionNotFoundError:
        raise CheckpointError(f"--revision {args.revision} does not exist in {args.model}.") from None
    except (HfHubHTTPError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"--model {args.model}: its {INDEX} cannot be read: {reason}") from None


def _class_name(index: Path) -> str:
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{index} cannot be read: {error}") from None
    name = content.get("_class_name") if isinstance(content, dict) else None
    if not isinstance(name, str):
        raise CheckpointError(f"{index} does not name a pipeline in its _class_name.")
    return name

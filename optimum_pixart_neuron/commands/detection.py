"""Which pipeline a model is, read from its model_index.json or its transformer's config.json: no torch, no weights."""

from __future__ import annotations

from pathlib import Path

from ..checkpoint.address import Address, download_error, not_cached
from ..checkpoint.layout import INDEX, resulting_class
from ..checkpoint.layout import PIPELINE_CLASS as PIXART_SIGMA
from ..checkpoint.options import CheckpointOptions
from ..components.registry import PARTS
from ..components.transformer.spec import is_pixart_transformer
from ..errors import CheckpointError
from ..files import read_json

# Where a checkpoint without model_index.json has its transformer: inside it, or it is one.
_TRANSFORMER_CONFIGS = ("transformer/config.json", "config.json")
_OTHER_INDEXES = ("config.json", "modules.json", "adapter_config.json")


def pipeline_class(args: CheckpointOptions) -> str | None:
    """Name of the diffusers pipeline class of `args.model`; None when the model is not a diffusers pipeline.

    A PixArt transformer alone counts as PixArt-Sigma, which the export completes.

    Args:
        args: names the model.

    Raises:
        CheckpointError: The model does not exist, cannot be reached, or is no checkpoint of any kind.
    """
    address = Address.of_model(args.model, args.revision, args.subfolder)
    files = _local_files(address, args.subfolder) if address.repository is None else _hub_files(address, args)
    if INDEX in files:
        return resulting_class(_class_name(files[INDEX]), transformer_given=args.transformer is not None)
    configs = [files[name] for name in _TRANSFORMER_CONFIGS if name in files]
    if any(is_pixart_transformer(read_json(path, CheckpointError)) for path in configs):
        return PIXART_SIGMA
    return None


def _local_files(address: Address, subfolder: str) -> dict[str, Path]:
    """The files that tell what a folder is, by name."""
    if not address.folder.exists():
        raise CheckpointError(f"--model {address.name}: no such folder, and not an id of the Hugging Face Hub.")
    if not address.folder.is_dir():
        raise CheckpointError(f"--model {address.name} is a file; give the folder of the checkpoint.")
    folder = address.folder / address.path
    if not folder.is_dir():
        raise CheckpointError(f"--subfolder {subfolder} does not exist in {address.name}.")
    names = dict.fromkeys((INDEX, *_TRANSFORMER_CONFIGS, *_OTHER_INDEXES))
    files = {name: folder / name for name in names if (folder / name).is_file()}
    if not files:
        raise CheckpointError(f"--model {folder} is no checkpoint: it has no {INDEX}.")
    return files


def _hub_files(address: Address, args: CheckpointOptions) -> dict[str, Path]:
    """The first file that tells what a repository is, by name; empty when it is none that diffusers knows."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    from ..hub import HUB_ERRORS

    found, offline = {}, args.local_files_only
    for name in (INDEX, *_TRANSFORMER_CONFIGS):
        try:
            path = hf_hub_download(
                address.repository,
                f"{address.path}/{name}" if address.path else name,
                revision=address.revision,
                cache_dir=args.cache_dir,
                token=args.token,
                local_files_only=offline,
            )
        except LocalEntryNotFoundError:
            offline = True
            continue
        except EntryNotFoundError:
            continue
        except HUB_ERRORS as error:
            raise download_error(error, address) from None
        found[name] = Path(path)
        if name == INDEX or is_pixart_transformer(read_json(found[name], CheckpointError)):
            return found
    if offline and not found:
        expected = [file for part in PARTS.values() for file in part.expected_files]
        missing = {address.repository: [f"{address.path}/{name}".lstrip("/") for name in expected]}
        raise not_cached(missing, cache_dir=args.cache_dir, local_files_only=args.local_files_only)
    return found


def _class_name(index: Path) -> str:
    name = read_json(index, CheckpointError).get("_class_name")
    if not isinstance(name, str):
        raise CheckpointError(f"{index} does not name a pipeline in its _class_name.")
    return name

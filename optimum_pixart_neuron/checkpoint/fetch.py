"""Where an address leads to, and downloads from there."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from requests.exceptions import ConnectionError, Timeout

from ..components.registry import PARTS
from ..errors import CheckpointError
from ..hub import HUB_ERRORS, hub_reason, quietly
from .address import Address
from .layout import INDEX
from .options import CheckpointOptions
from .sources import Source
from .weights import WeightNames, indexed_files, only_pickled, why_missing

_PICKLED, _WEIGHTS, _CONFIG = (".pth", ".pt", ".ckpt"), ".safetensors", "config.json"
_SHOWN_FILES = 5
_UNREACHABLE = (ConnectionError, Timeout, OfflineModeIsEnabled)


def locate(
    address: Address, components: Collection[str], options: CheckpointOptions, *, weights: bool = True
) -> Source:
    """What lies at an address, with the configurations of these components on this machine.

    Args:
        options: reads cache_dir, token and local_files_only.
        weights: whether they are wanted later, so that a cache that has nothing lacks them too.

    Raises:
        CheckpointError: it does not exist, cannot be downloaded, or is not in the download cache.
    """
    if _names_a_file(address):
        return _locate_file(address, options)
    if address.folder is not None:
        folder = _existing_folder(address, address.folder).absolute()
        return Source(address=address, folder=folder, files=_files_below(folder))
    prefix = address.prefix
    expected = [prefix + file for name in components for file in PARTS[name].expected_files(weights=weights)]
    nothing_cached = uncached({address.on_the_hub: expected}, options)
    listed = list_repository(address, options)
    patterns = [prefix + name for name in _configurations(components)]
    snapshot = snapshot_of(address, patterns, options, nothing_cached, offline=listed is None)
    folder = snapshot.absolute() / address.path
    below = {name.removeprefix(prefix) for name in listed or () if name.startswith(prefix)}
    files = _files_below(folder) if listed is None else frozenset(below)
    source = Source(address=address, folder=folder, files=files, revision=snapshot.name, cached_only=listed is None)
    if source.cached_only and source.index() is None:
        if not any(source.holds(name) or source.is_component(name) for name in components):
            raise nothing_cached
    if not source.files:
        raise CheckpointError(f"{address.flag} {address.name}: the repository has no {address.path or 'files'}")
    return source


def _names_a_file(address: Address) -> bool:
    here = address.folder is not None and address.folder.is_file()
    name = address.path if address.folder is None else address.folder.name if here else ""
    if name.endswith(_PICKLED):
        raise CheckpointError(
            f"{address.flag} {address.name} is pickled, and pickled files can run code; convert it to .safetensors as"
            " the manual shows (Checkpoints)"
        )
    return name.endswith(_WEIGHTS)


def _locate_file(address: Address, options: CheckpointOptions) -> Source:
    """A file that is a component by itself; it is downloaded whole, because its header tells what it is."""
    if address.folder is not None:
        path, revision = address.folder.absolute(), None
    else:
        above, _, _ = address.path.rpartition("/")
        beside = f"{above}/{_CONFIG}" if above else _CONFIG
        nothing_cached = uncached({address.on_the_hub: [address.path]}, options)
        snapshot = snapshot_of(address, [address.path, beside], options, nothing_cached)
        path, revision = snapshot.absolute() / address.path, snapshot.name
        if not path.is_file():
            raise CheckpointError(f"{address.flag} {address.name}: the repository has no {address.path}")
    source = Source(address=address, folder=path.parent, files=frozenset([path.name]), revision=revision, file=path)
    if not any(source.is_component(name) for name in PARTS):
        raise CheckpointError(
            f"{address.flag} {address.name} is no transformer under the names of PixArt's own repository; give the"
            " folder that diffusers' save_pretrained writes"
        )
    return source


def _existing_folder(address: Address, folder: Path) -> Path:
    if not folder.exists():
        raise CheckpointError(
            f"{address.flag} {address.name}: no such folder; give a checkpoint's, or an id of the Hugging Face Hub"
        )
    if not folder.is_dir():
        raise CheckpointError(f"{address.flag} {address.name} is a file; give the folder of the checkpoint")
    if not (folder / address.path).is_dir():
        raise CheckpointError(f"--subfolder {address.path} does not exist in {address.name}")
    return folder / address.path


def download_weights(sources: dict[str, Source], options: CheckpointOptions) -> None:
    """Have the weight files of these components on this machine.

    Raises:
        CheckpointError: there are none that an export reads, they cannot be downloaded, or they are not in the
            download cache, which names all that are missing.
    """
    wanted: dict[tuple[str, str], list[str]] = {}
    for component, source in sources.items():
        if source.address.repository is None or source.revision is None or source.cached_only or source.file:
            continue
        found = WeightNames.among(source.files, PARTS[component].stem, source.variant)
        if found is None:
            where = f"{source.address.repository}/{source.address.path}".rstrip("/")
            raise CheckpointError(why_missing(where, source.files, PARTS[component].stem, source.variant))
        files = wanted.setdefault((source.address.repository, source.revision), [])
        files += [source.address.prefix + name for name in (found.index, *found.files) if name]
    for (repository, revision), names in wanted.items():
        try:
            # The commit of the configurations, whatever the branch has become meanwhile.
            _download(repository, revision, names, options)
        except HUB_ERRORS as error:
            raise CheckpointError(f"weights of {repository} cannot be downloaded: {hub_reason(error)}") from None
    refuse_uncached(sources, options, weights=True)


def refuse_uncached(
    sources: dict[str, Source], options: CheckpointOptions, *, weights: bool, name_weights: bool = True
) -> None:
    """Refuse an export without network for files that the download cache lacks: a CheckpointError names them all.

    Args:
        weights: whether missing weights are a reason.
        name_weights: whether they are named beside missing configurations where they are none.
    """
    missing: dict[str, list[str]] = {}
    reason = False
    for component, source in sources.items():
        if source.cached_only:
            configurations = _missing_configurations(component, source)
            files = [*configurations, *(_missing_weights(component, source) if weights or name_weights else [])]
            reason = reason or bool(files if weights else configurations)
            if files:
                missing.setdefault(source.address.on_the_hub, []).extend(
                    source.address.prefix + name for name in files
                )
    if reason:
        raise uncached(missing, options)


def _missing_configurations(component: str, source: Source) -> list[str]:
    part = PARTS[component]
    if part.copied is not None:
        return part.copied.missing(source.files)
    return [] if part.configuration in source.files else [part.configuration]


def _missing_weights(component: str, source: Source) -> list[str]:
    stem = PARTS[component].weights
    if stem is None or only_pickled(source.files):
        return []
    found = WeightNames.among(source.files, stem, source.variant)
    if found is None:
        return [f"{stem}.{source.variant}.safetensors" if source.variant else f"{stem}.safetensors"]
    if found.index is None:
        return []
    return [path.name for path in indexed_files(source.folder / found.index) if not path.exists()]


def list_repository(address: Address, options: CheckpointOptions) -> list[str] | None:
    """Every file of a repository; None where the Hub is not to be asked or cannot be reached."""
    if options.local_files_only:
        return None
    try:
        info = HfApi(token=options.token).model_info(address.on_the_hub, revision=address.revision)
    except _UNREACHABLE:
        return None
    except HUB_ERRORS as error:
        raise _download_error(error, address) from None
    return [file.rfilename for file in info.siblings or ()]


def snapshot_of(
    address: Address,
    names: Iterable[str],
    options: CheckpointOptions,
    nothing_cached: CheckpointError,
    *,
    offline: bool = False,
) -> Path:
    """The folder of a repository's snapshot, with these files of it on this machine.

    Args:
        nothing_cached: raised offline, where the download cache has nothing of it.

    Raises:
        CheckpointError: see above, or the download failed.
    """
    try:
        return Path(_download(address.on_the_hub, address.revision, names, options, offline=offline))
    except LocalEntryNotFoundError:
        raise nothing_cached from None
    except HUB_ERRORS as error:
        raise _download_error(error, address) from None


def _download(
    repository: str, revision: str | None, names: Iterable[str], options: CheckpointOptions, *, offline: bool = False
) -> str:
    with quietly():
        return snapshot_download(
            repository,
            revision=revision,
            cache_dir=options.cache_dir,
            token=options.token,
            local_files_only=options.local_files_only or offline,
            allow_patterns=list(names),
        )


def _configurations(components: Collection[str]) -> list[str]:
    """Patterns of the small files; `config.json` is there where the place is a component itself."""
    parts = [PARTS[name] for name in components]
    files = [f"{part.name}/{file}" for part in parts for file in part.small_files]
    return [INDEX, "config.json", *files]


def _files_below(folder: Path) -> frozenset[str]:
    """Names of the files in a folder and in its folders; a link to nothing is no file."""
    paths = (path for pattern in ("*", "*/*") for path in folder.glob(pattern))
    return frozenset(path.relative_to(folder).as_posix() for path in paths if path.is_file())


def _download_error(error: Exception, address: Address) -> CheckpointError:
    """What huggingface_hub raised (0.36), as one line that names the flag."""
    if isinstance(error, RevisionNotFoundError):
        flag = "--revision" if address.flag == "--model" else f"{address.flag.rstrip(':')}: revision"
        return CheckpointError(f"{flag} {address.revision} does not exist in {address.repository}")
    reason = hub_reason(error)
    if isinstance(error, (HFValidationError, RepositoryNotFoundError)) and not isinstance(error, GatedRepoError):
        reason = f"no such folder, and {reason}"
    token = " (--token)" if isinstance(error, RepositoryNotFoundError) else ""
    return CheckpointError(f"{address.flag} {address.name}: {reason}{token}")


def uncached(missing: Mapping[str, Sequence[str]], options: CheckpointOptions) -> CheckpointError:
    """Say which files the download cache would have to hold.

    Args:
        missing: id of a repository -> its files.
    """
    left, parts = _SHOWN_FILES, []
    for repository, names in missing.items():
        if left > 0:
            parts.append(f"{repository}: {', '.join(names[:left])}")
        left -= len(names)
    more = f" and {-left} more" if left < 0 else ""
    if options.local_files_only:
        reason = "--local_files_only is given"
    elif constants.HF_HUB_OFFLINE:
        reason = "HF_HUB_OFFLINE is set"
    else:
        reason = "the Hugging Face Hub cannot be reached"
    cache = options.cache_dir or constants.HF_HUB_CACHE
    return CheckpointError(f"{reason}, and the download cache {cache} lacks {'; '.join(parts)}{more}")

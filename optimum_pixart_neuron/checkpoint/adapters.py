"""Adapters that users name: where each file is, and that it fits the checkpoint or export that it is for."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from ..components.registry import COMPONENTS
from ..errors import CheckpointError, printable
from ..lora.adapter import ActiveAdapter, Adapter, Geometry, read_adapter
from ..lora.scaling import CONFIGURATION
from .address import Address
from .fetch import list_repository, snapshot_of, uncached
from .options import CheckpointOptions

FLAG = "--lora_model_ids"
_USUAL = ("adapter_model.safetensors", "pytorch_lora_weights.safetensors")
"""Of peft and of diffusers; the first of them that is there is taken."""
_SUFFIX = ".safetensors"
_PICKLED = (".bin", ".pt", ".pth", ".ckpt")


@dataclass(frozen=True, kw_only=True)
class NamedAdapter:
    """An adapter as its user has it.

    Attributes:
        name: its user's.
        model: id of a repository on the Hub, or folder.
        revision: commit on the Hub; None for a folder.
        file: of its tensors, by path in the repository or folder.
        adapter: read.
        scale: its user's factor.
        number: its place among those that are merged together.
    """

    name: str
    model: str
    revision: str | None
    file: str
    adapter: Adapter
    scale: float = 1.0
    number: int = 0

    @property
    def active(self) -> ActiveAdapter:
        return ActiveAdapter(self.adapter, self.scale)

    def describe(self) -> str:
        """One line for whoever exports."""
        counts = [f"{len(weights)} of the {part}" for part, weights in self.adapter.changes.items()]
        return f"LoRA {self.name}: {self.model} ({self.file}) x {self.scale:g} changes {', '.join(counts)}"


def adapters_of(options: CheckpointOptions, configurations: Mapping[str, dict[str, Any]]) -> tuple[NamedAdapter, ...]:
    """The adapters that the options name, in their order, with their files on this machine.

    Args:
        configurations: `config.json` of each part of the checkpoint that they may be for.

    Raises:
        CheckpointError: one cannot be found, or does not fit the checkpoint.
    """
    count = len(options.lora_model_ids)
    if not count:
        return ()
    files = options.lora_weight_names or (None,) * count
    names = options.lora_adapter_names or tuple(f"default_{number}" for number in range(count))
    scales = options.lora_scales or (1.0,) * count
    geometry = geometry_of(configurations)
    found = []
    for number, (model, file, name, scale) in enumerate(zip(options.lora_model_ids, files, names, scales)):
        opened = open_adapter(FLAG, model, file, options, geometry, name=name)
        found.append(replace(opened, scale=scale, number=number))
    return tuple(found)


def geometry_of(configurations: Mapping[str, dict[str, Any]]) -> Geometry:
    """Names and shapes of the weights of each part, by its `config.json`; no weight has to be there."""
    from transformers.integrations.accelerate import init_empty_weights

    components = {component.part.name: component for component in reversed(COMPONENTS.values())}
    geometry = {}
    with init_empty_weights():
        for part, config in configurations.items():
            model = components[part].original().build(config)
            geometry[part] = {name: tuple(weight.shape) for name, weight in model.named_parameters()}
    return geometry


def open_adapter(
    flag: str,
    model: str,
    file: str | None,
    options: CheckpointOptions,
    geometry: Geometry,
    *,
    name: str,
    revision: str | None = None,
) -> NamedAdapter:
    """Find the file of an adapter, download it if need be, and read what it holds.

    Args:
        flag: or argument that names it, for messages.
        model: folder, file, or id[@revision][/path] on the Hub.
        file: in there; None for the one that there is.
        options: reads cache_dir, token and local_files_only.
        geometry: of what it is for.
        name: its user's.
        revision: branch, tag or commit on the Hub, where `model` names none.

    Raises:
        CheckpointError: it cannot be found or downloaded, is pickled, or does not fit.
    """
    if file is not None and (PurePosixPath(file).is_absolute() or ".." in PurePosixPath(file).parts):
        raise CheckpointError(f"{flag} {model}: {printable(file)} is no file inside it")
    _refuse_pickled(model, [file] if file else [])
    address, file = _folder_and_file(Address.parse(flag, model), file)
    folder, commit, found = _bring(address, file, options, revision)
    _refuse_pickled(model, [found])
    path = folder.absolute() / found
    configuration = path.with_name(CONFIGURATION)
    adapter = read_adapter(path, configuration if configuration.is_file() else None, geometry)
    model = str(address.folder) if address.folder is not None else address.on_the_hub
    return NamedAdapter(name=name, model=model, revision=commit, file=address.prefix + found, adapter=adapter)


def _folder_and_file(address: Address, file: str | None) -> tuple[Address, str | None]:
    """An address may end with the file itself."""
    here = address.folder is not None and address.folder.is_file()
    if not here and not address.path.endswith(_SUFFIX):
        return address, file
    if file is not None:
        raise CheckpointError(f"{address.flag} {address.name} is a file, and {printable(file)} another; leave one out")
    if address.folder is not None:
        return replace(address, folder=address.folder.parent), address.folder.name
    above, _, file = address.path.rpartition("/")
    return replace(address, path=above), file


def _bring(
    address: Address, file: str | None, options: CheckpointOptions, revision: str | None
) -> tuple[Path, str | None, str]:
    """Folder, commit and file's name of an adapter, on this machine."""
    if address.folder is not None:
        folder = address.folder / address.path
        if not folder.is_dir():
            raise CheckpointError(f"{address.flag} {address.name}: no such folder; give a LoRA's, or an id of the Hub")
        return folder, None, _chosen(address, [path.name for path in folder.iterdir()], file, folder)
    prefix = address.prefix
    address = replace(address, revision=address.revision or revision)
    listed = list_repository(address, options)
    chosen = file
    patterns = [f"{prefix}{file or '*' + _SUFFIX}", f"{prefix}{_beside(file)}"]
    if listed is not None:
        names = [each.removeprefix(prefix) for each in listed if each.startswith(prefix)]
        chosen = _chosen(address, names, file)
        patterns = [f"{prefix}{each}" for each in (chosen, _beside(chosen)) if each in names]
    nothing_cached = uncached({address.on_the_hub: [file or f"*{_SUFFIX}"]}, options)
    snapshot = snapshot_of(address, patterns, options, nothing_cached, offline=listed is None)
    folder = snapshot / address.path
    if chosen is None or not (folder / chosen).is_file():
        if not folder.is_dir():
            raise nothing_cached
        chosen = _chosen(address, [path.name for path in folder.iterdir()], file, folder)
    return folder, snapshot.name, chosen


def _beside(file: str | None) -> str:
    """peft's configuration in the folder of a file."""
    return PurePosixPath(file).with_name(CONFIGURATION).as_posix() if file else CONFIGURATION


def _chosen(address: Address, names: Collection[str], file: str | None, folder: Path | None = None) -> str:
    """The file of an adapter among the names of a folder or repository."""
    place = f"{address.flag} {address.name}"
    if file is not None:
        if file in names or (folder is not None and (folder / file).is_file()):
            return file
        raise CheckpointError(f"{place} holds no {printable(file)}{_found(names)}")
    usual = next((name for name in _USUAL if name in names), None)
    own = [name for name in names if name.endswith(_SUFFIX) and "/" not in name]
    if usual is None and len(own) != 1:
        _refuse_pickled(address.name, [] if own else names)
        many = "holds several files of weights" if own else "holds no .safetensors file"
        raise CheckpointError(f"{place} {many}; name one{_found(names)}")
    return usual or own[0]


def _found(names: Iterable[str]) -> str:
    found = sorted(name for name in names if name.endswith(_SUFFIX))
    return f" (found {', '.join(map(printable, found[:5]))})" if found else ""


def _refuse_pickled(place: str, names: Iterable[str]) -> None:
    pickled = next((name for name in names if name.endswith(_PICKLED)), None)
    if pickled:
        raise CheckpointError(
            f"{place}: {printable(pickled)} is pickled, and pickled files can run code; convert it to .safetensors"
            " first"
        )

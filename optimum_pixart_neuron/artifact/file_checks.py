"""Whether the files of a folder are all there, whole, and those that were exported."""

import zipfile
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from ..files import full_digest, open_regular, safetensors_header, sample_digest
from .compiled import AGAIN, SHARD_NAME, WEIGHTS_FOLDER, shard_files
from .expected_files import is_known
from .manifest import MANIFEST_FILE
from .under_check import PROGRAM, WEIGHTS, Artifact, Check


def _files(artifact: Artifact) -> str | None:
    """What the manifest lists, and what loaders open, whatever it lists."""
    listed = artifact.manifest.files if artifact.manifest else ()
    programs = [f"{name}/{file}" for name, compiled in artifact.compiled.items() for file in compiled.files]
    wanted = [*listed, *programs, *_own_shards(artifact)]
    missing = [name for name in dict.fromkeys(wanted) if not (artifact.folder / name).is_file()]
    return f"{_name_first(missing)} missing; {AGAIN}" if missing else None


def _strangers(artifact: Artifact) -> str | None:
    """What is of another export, or of a pipeline of another kind: a loader would take it for its own."""
    if artifact.manifest:
        own: Collection[str] = artifact.manifest.files
    else:
        shards = _own_shards(artifact)
        known = [name for name in artifact.loadable if is_known(name)]
        own = [name for name in known if name in shards or not name.endswith(WEIGHTS)]
    foreign = [name for name in artifact.loadable if name not in own]
    if not foreign:
        return None
    return (
        f"{_name_first(foreign)} no part of this export, which has {artifact.needs.ranks} rank(s); remove what is of"
        " another export, or export again into a new folder"
    )


def _own_shards(artifact: Artifact) -> list[str]:
    """Shards that the loaders read: one a rank in every component that has any."""
    components = [name for name in artifact.compiled if (artifact.folder / name / WEIGHTS_FOLDER).is_dir()]
    ranks = artifact.needs.ranks
    return [path.as_posix() for name in components for path in shard_files(Path(name), ranks)]


def _sizes(artifact: Artifact) -> str | None:
    for name, record in artifact.records("sizes").items():
        path = artifact.folder / name
        size = path.stat().st_size
        if size < record.size and not _is_whole(path):
            return f"{name} is truncated: {size} of {record.size} bytes; {AGAIN}"
        if size != record.size:
            return f"{name} has {size} bytes, expected {record.size}: {_origin(artifact, name)}"
    return None


def _headers(artifact: Artifact) -> str | None:
    """The files themselves tell how long they should be; a right digest does not say that a loader can read them."""
    if artifact.verify == "none":
        return None
    cut = [name for name in artifact.binaries if not _is_whole(artifact.folder / name)]
    return f"{_name_first(cut)} truncated or damaged; {AGAIN}" if cut else None


def _samples(artifact: Artifact) -> str | None:
    for name, record in artifact.records("sizes").items():
        if sample_digest(artifact.folder / name) != record.sample:
            return f"{name} has another content than was exported: {_origin(artifact, name)}"
    return None


def _digests(artifact: Artifact) -> str | None:
    if artifact.verify == "full" and artifact.manifest is None:
        return f"it has no {MANIFEST_FILE} to verify it against; leave out verify='full', or export it again"
    records = artifact.records("full")
    total = sum(record.size for record in records.values())
    silent = None if records else True  # None: silent where stderr is no terminal
    with tqdm(desc="verifying", total=total, unit="B", unit_scale=True, leave=False, disable=silent) as progress:
        for name, record in records.items():
            if full_digest(artifact.folder / name, progress.update) != record.sha256:
                return f"{name} is damaged: its SHA-256 is not the manifest's; {AGAIN}"
    return None


def _origin(artifact: Artifact, name: str) -> str:
    """Where the content of a file that is not its own may come from, and what to do."""
    path = artifact.folder / name
    size, sample = path.stat().st_size, sample_digest(path)
    for other, record in artifact.records("sizes").items():
        if (record.size, record.sample) == (size, sample):
            rank = SHARD_NAME.fullmatch(PurePosixPath(other).name)
            held = f"the weights of rank {rank[1]}, {other}" if rank else other
            return f"it is a copy of {held}; {AGAIN}"
    if path.suffix in (PROGRAM, WEIGHTS):
        return f"it is of another export, or damaged; {AGAIN}"
    return f"it was changed, or is of another export; {AGAIN}, or load with verify='none' to keep the change"


def _is_whole(path: Path) -> bool:
    """Whether a file of weights or a program ends where its own header says; other files cannot tell."""
    if path.suffix == PROGRAM:
        return zipfile.is_zipfile(path)  # TorchScript archives are; their directory is at the end
    if path.suffix == WEIGHTS:
        try:
            with open_regular(path) as file:
                safetensors_header(file)
        except (OSError, ValueError):
            return False
    return True


def _name_first(names: list[str]) -> str:
    """The first of some names and the number of others, with the verb."""
    if len(names) == 1:
        return f"{names[0]} is"
    return f"{names[0]} and {len(names) - 1} more are"


FILE_CHECKS: tuple[Check, ...] = (_files, _strangers, _sizes, _samples, _digests, _headers)

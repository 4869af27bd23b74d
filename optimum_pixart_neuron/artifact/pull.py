"""Artifacts from the Hugging Face Hub: what the manifest lists and nothing else, checked when it comes."""

import os
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from glob import escape
from pathlib import Path
from typing import Any

from huggingface_hub import _CACHED_NO_EXIST, hf_hub_download, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, HFValidationError, LocalEntryNotFoundError
from huggingface_hub.file_download import REGEX_COMMIT_HASH
from huggingface_hub.utils import validate_repo_id

from ..checkpoint.index import ModelIndex
from ..checkpoint.layout import INDEX
from ..components.registry import COMPONENTS, DENOISER
from ..errors import ArtifactError, HubError, some_of
from ..files import FileRecord, records_of
from ..hub import patiently, why_unreachable
from .compiled import AGAIN, CONFIG_FILE, PROGRAM_FILE, Compiled
from .expected_files import is_known, known_files
from .manifest import MANIFEST_FILE, Manifest
from .owners import check_owner

_DOWNLOADS = 2
"""Of one file, before a digest that differs is held to be the repository's own."""
_MORE = "more files"


def is_repository(address: str | Path) -> bool:
    """Whether artifacts are to be pulled: False for a folder of this machine; neither is an ArtifactError.

    A name without an owner is a mistyped folder: nobody can push an export to a repository without one.
    """
    if os.path.isdir(address):  # False for what is too long to be a path, too
        return False
    try:
        validate_repo_id(str(address))
        owned = "/" in str(address)
    except HFValidationError:
        owned = False
    if not owned:
        raise ArtifactError(f"{address}: there is no such folder, and it is no repository id (user/name)")
    return True


def pull(
    repo_id: str,
    *,
    revision: str | None = None,
    token: bool | str | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
    trusted_owners: Collection[str] | None = None,
    programs_only: bool = False,
) -> Path:
    """Download the artifacts of a repository into huggingface_hub's cache, and nothing else that it holds.

    The manifest comes first and names the files. What is downloaded is held against its SHA-256. What the cache has
    already went through that when it came; it is held against size and sample, and downloaded again where it differs.
    A download that broke goes on where it stopped. A repository without a manifest, as the stock exporter makes it, is
    downloaded by its layout and cannot be checked.

    Args:
        repo_id: on the Hub.
        revision: branch, tag or commit; the default branch if left out.
        token: access token; by default the one that huggingface_hub finds.
        cache_dir: the download cache, by default huggingface_hub's.
        local_files_only: leave the network alone.
        force_download: drop what the cache has, and download it again.
        trusted_owners: see `check_owner`; asked before anything is downloaded.
        programs_only: leave out weights, and refuse a repository without a manifest.

    Returns:
        the folder of the commit in the cache.

    Raises:
        HubError: the repository, the revision or a file does not exist or may not be read; the Hub cannot be reached
            and the cache lacks files; the repository's files are not those that its manifest lists; or its owner is
            not trusted.
        ArtifactError: the manifest is damaged, or a newer version of this package wrote it.
    """
    check_owner(repo_id, trusted_owners)
    access: dict[str, Any] = {"token": token, "cache_dir": cache_dir, "local_files_only": local_files_only}
    named = f"{repo_id}@{revision}" if revision else repo_id
    find = partial(_Snapshot.with_file, repo_id, named, revision, access, force_download)
    if snapshot := find(MANIFEST_FILE):
        records = snapshot.manifest().files
        wanted = [name for name in records if not programs_only or name.endswith(f"/{PROGRAM_FILE}")]
        snapshot.bring({name: records[name] for name in wanted}, force_download)
    elif programs_only:
        raise HubError(f"{named} has no {MANIFEST_FILE}, so nobody can tell what its programs are of")
    elif snapshot := find(INDEX):
        snapshot.bring_stock(force_download)
    else:
        raise HubError(f"{named} holds no artifacts of optimum-neuron: there is neither {MANIFEST_FILE} nor {INDEX}")
    return snapshot.folder


def _find(repo_id: str, file: str, **where: Any) -> Path | None:
    """Download one file; None where the repository has none of that name."""
    try:
        return _fetch(repo_id, file, **where)
    except LocalEntryNotFoundError:
        if _known(repo_id, file, **where) is _CACHED_NO_EXIST:
            return None
        raise
    except EntryNotFoundError:
        return None


def _fetch(repo_id: str, file: str, **where: Any) -> Path:
    """Download one file; from the cache alone where the Hub cannot be reached."""
    force = where.get("force_download", False)
    here = isinstance(_known(repo_id, file, **where), str) and REGEX_COMMIT_HASH.fullmatch(where["revision"] or "")
    if where["local_files_only"] or (here and not force):
        return Path(hf_hub_download(repo_id, file, **where))
    unreachable = why_unreachable(repo_id, where["revision"], where["token"])
    if unreachable and force:
        raise unreachable
    try:
        return Path(hf_hub_download(repo_id, file, **{**where, "local_files_only": unreachable is not None}))
    except LocalEntryNotFoundError as error:
        if unreachable:
            raise error from unreachable
        raise


def _known(repo_id: str, file: str, **where: Any) -> Any:
    """The path of a file in the download cache; _CACHED_NO_EXIST if the repository has none, None if nobody knows."""
    return try_to_load_from_cache(repo_id, file, cache_dir=where["cache_dir"], revision=where["revision"])


@dataclass(frozen=True)
class _Snapshot:
    """One commit of a repository, in the cache as far as it was downloaded.

    Attributes:
        repo_id: on the Hub.
        named: what the user called it.
        folder: of the commit, which is its name.
        access: token, cache_dir and local_files_only.
    """

    repo_id: str
    named: str
    folder: Path
    access: dict[str, Any]

    @classmethod
    def with_file(
        cls, repo_id: str, named: str, revision: str | None, access: dict[str, Any], force: bool, file: str
    ) -> "_Snapshot | None":
        """The commit that a revision is, with this file of it; None where it has none of that name."""
        find = partial(_find, repo_id, file, revision=revision, force_download=force, **access)
        path = patiently(find, f"{named}, {file}")
        return cls(repo_id, named, path.parent, access) if path else None

    def manifest(self) -> Manifest:
        """The manifest that is here; one that is damaged is downloaded again, which the cache alone would never do."""
        try:
            return Manifest.require(self.folder)
        except ArtifactError:
            if self.access["local_files_only"]:
                raise
        self._drop(MANIFEST_FILE)
        find = partial(_find, self.repo_id, MANIFEST_FILE, revision=self.folder.name, **self.access)
        patiently(find, f"{self.named}, {MANIFEST_FILE}")
        return Manifest.require(self.folder)

    def bring(self, records: dict[str, FileRecord], force: bool) -> None:
        """Have all these files here and as recorded."""
        unknown = [name for name in records if not is_known(name)]
        if unknown:  # it is somebody else's manifest, and files that differ from it are removed
            raise HubError(
                f"{self.named}: {MANIFEST_FILE} lists {some_of(unknown, _MORE)}, which no export has; do not use it"
            )
        wanted = [name for name, record in records.items() if force or not record.resembles(self.folder / name)]
        if wanted and self.access["local_files_only"]:
            raise HubError(
                f"{self.named}: the download cache lacks {some_of(wanted, _MORE)} or has them damaged;"
                " leave out local_files_only to download them"
            )
        for name in wanted:
            self._drop(name)
        for _ in range(_DOWNLOADS):
            if wanted:
                wanted = self._download_verified({name: records[name] for name in wanted})
        if wanted:
            raise HubError(
                f"{self.named}: {some_of(wanted, _MORE)}: not what {MANIFEST_FILE} lists, also when downloaded again;"
                " somebody changed the repository, push the export again"
            )

    def _download_verified(self, records: dict[str, FileRecord]) -> list[str]:
        """Download files and drop the ones that differ from their records; returns their names."""
        named = f"{self.named}, {some_of(list(records), _MORE)}"
        try:
            patiently(partial(self._download, list(records)), named)
        except HubError:
            self._drop_different(records)  # so that the next call finds nothing unverified
            raise
        return self._drop_different(records)

    def _download(self, names: list[str]) -> None:
        where = {"revision": self.folder.name, **self.access}
        snapshot_download(self.repo_id, allow_patterns=[escape(name) for name in names], **where)
        # It keeps silent about files that do not exist, and about a Hub that it cannot reach.
        missing = [name for name in names if not (self.folder / name).is_file()]
        for name in missing:
            fetch = partial(_fetch, self.repo_id, name, **where)
            patiently(fetch, f"{self.named}, {some_of(missing, _MORE)}")

    def _drop_different(self, records: dict[str, FileRecord]) -> list[str]:
        here = [name for name in records if (self.folder / name).is_file()]
        found = records_of(self.folder, here, title="verifying")
        different = [name for name in here if found[name] != records[name]]
        for name in different:
            self._drop(name)
        return different

    def _drop(self, name: str) -> None:
        """Remove a file from the cache: the link of this commit, and the content that it leads to."""
        path = self.folder / name
        content = path.resolve()
        path.unlink(missing_ok=True)
        content.unlink(missing_ok=True)

    def bring_stock(self, force: bool) -> None:
        """Have the files here that the stock loader reads, by the layout of optimum-neuron 0.4.5."""
        where = {"revision": self.folder.name, "force_download": force, **self.access}
        config_file = f"{DENOISER.name}/{CONFIG_FILE}"
        path = patiently(partial(_find, self.repo_id, config_file, **where), f"{self.named}, {config_file}")
        compiled = Compiled.read(path.parent) if path else None
        if compiled is None:
            raise HubError(f"{self.named} is no compiled pipeline; export it first, or load it with export=True")
        ModelIndex.read(self.folder / INDEX, ArtifactError, advice=AGAIN)
        # The loader reads as many shards of each component as the denoiser has ranks.
        wanted = known_files(COMPONENTS, compiled.tensor_parallel_size)
        fetch = partial(snapshot_download, self.repo_id, allow_patterns=wanted, **where)
        patiently(fetch, self.named)

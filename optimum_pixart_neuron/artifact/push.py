"""Artifacts to the Hugging Face Hub, by huggingface_hub's own transfers.

A push is one commit, so that nobody pulls half an export. Before it the large files are sent in portions, and the Hub
keeps what it has: a push that broke goes on there when it is run again. `upload_large_folder` resumes too, but commits
its portions one by one.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from copy import copy
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, ModelCard, ModelCardData, constants
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.hf_api import ModelInfo
from huggingface_hub.utils import tqdm, validate_repo_id

from ..errors import ArtifactError, HubError, one_line, printable, some_of
from ..hub import HUB_ERRORS, patiently
from .card import is_generated, licence_of, model_card
from .expected_files import is_known
from .manifest import EXAMPLE_FILE, MANIFEST_FILE, NOT_LISTED, Manifest, strangers

CARD_FILE = "README.md"

_PACKAGE = "optimum-pixart-neuron"
_log = logging.getLogger(__name__)
_PORTION = 5 * 1024**3
"""Bytes that are sent and acknowledged together: what a push that breaks loses at most."""


def check_push(
    repository_id: str,
    *,
    emulated: bool,
    private: bool | None = None,
    token: bool | str | None = None,
    endpoint: str | None = None,
    allow_emulated: bool = False,
) -> None:
    """Find out before a long export whether its result may be pushed. Nothing is made on the Hub.

    Raises:
        HubError: there is no valid token, or it may not write to the namespace; the artifacts are the emulator's and
            that is not allowed; or they are to be private and the repository is public.
    """
    _check_emulated(emulated, repository_id, allow_emulated)
    patiently(partial(_check_access, _api(endpoint, token), repository_id, private), repository_id)


def _check_access(api: HfApi, repository_id: str, private: bool | None) -> None:
    validate_repo_id(repository_id)
    user = api.whoami()
    if user.get("auth", {}).get("accessToken", {}).get("role") == "read":
        raise HubError(f"{repository_id}: the token may only read; give one that may write")
    namespaces = [user["name"], *(organization["name"] for organization in user.get("orgs", ()))]
    namespace = repository_id.split("/")[0] if "/" in repository_id else user["name"]
    if namespace not in namespaces:
        allowed = ", ".join(namespaces)
        raise HubError(f"{repository_id}: {user['name']} may not write to {namespace}, only to {allowed}")
    try:
        _check_private(api.model_info(f"{namespace}/{repository_id.split('/')[-1]}"), private)
    except RepositoryNotFoundError:
        pass  # the push makes it


def push(
    save_directory: str | Path,
    repository_id: str,
    private: bool | None = None,
    revision: str | None = None,
    token: bool | str | None = None,
    endpoint: str | None = None,
    *,
    commit_message: str | None = None,
    allow_emulated: bool = False,
    changed: Mapping[str, bytes] | None = None,
) -> str:
    """Upload an export to the Hub, as one commit that holds only what changed; none where nothing did.

    Needs no loaded pipeline. The first arguments are in the order of optimum-neuron's `push_to_hub`.

    What the manifest lists is uploaded, with the manifest itself, README.md and .gitattributes; a warning names what
    else lies in the folder. The uploaded manifest does not say where folders of this machine lie. Files that an
    earlier push brought and this export lacks are removed, others are left alone. A README.md in the folder is
    uploaded as it is, one that was edited on the Hub is kept; else the model card is written there.

    Args:
        save_directory: folder of the export.
        repository_id: on the Hub; made if it does not exist, in the user's own namespace if it names none.
        private: visibility of a repository that is made; the namespace's default if left out.
        revision: branch; made from the default branch if it does not exist.
        token: access token; by default the one that huggingface_hub finds.
        endpoint: of the Hub, by default huggingface_hub's.
        commit_message: first line of the commit.
        allow_emulated: push also what the emulator made; the card says so.
        changed: files with another content than in the folder, by path; what is uploaded has it.

    Returns:
        the address of the commit.

    Raises:
        HubError: no token, or it may not write; the Hub cannot be reached, or the connection broke again and again;
            somebody else pushed meanwhile; a private push to a public repository; artifacts of the emulator.
        ArtifactError: the folder is no export, its files are not those that its manifest lists, or one of them is a
            link to somewhere else.
    """
    folder, changed = Path(save_directory), changed or {}
    manifest = _check_folder(folder, changed).with_changes(changed)
    _check_emulated(manifest.emulated, repository_id, allow_emulated)
    # Read when the Hub has let us in, and only once, however often it is tried.
    read = cache(partial(_read, folder, manifest, changed))
    message = commit_message or f"{manifest.kind.label} for {manifest.instance}, {manifest.ranks} core(s)"
    attempt = partial(_push, _api(endpoint, token), read, manifest.for_others(), message)
    return patiently(partial(attempt, repository_id, private, revision), repository_id)


def _push(
    api: HfApi,
    read: Callable[[], dict[str, CommitOperationAdd]],
    manifest: Manifest,
    message: str,
    repository_id: str,
    private: bool | None,
    revision: str | None,
) -> str:
    repo_id = api.create_repo(repository_id, private=private, exist_ok=True).repo_id
    head = _head(api, repo_id, revision)
    _check_private(head, private)
    present = {file.rfilename for file in head.siblings or ()}
    # Each try begins with what was read, and without what the Hub has said of it to another try.
    additions = {name: copy(addition) for name, addition in read().items()}
    if CARD_FILE not in additions and _card_is_ours(api, head, present):
        card = model_card(manifest, repo_id, _licence(api, manifest), has_example=EXAMPLE_FILE in additions)
        additions[CARD_FILE] = CommitOperationAdd(CARD_FILE, card.encode())
    stale = (_pushed_files(api, head, present) & present) - additions.keys()
    for portion in _portions(additions.values()):
        api.preupload_lfs_files(repo_id, portion, revision=revision, free_memory=False)
    operations: list[CommitOperationAdd | CommitOperationDelete]
    operations = [*additions.values(), *(CommitOperationDelete(name, is_folder=False) for name in sorted(stale))]
    try:
        commit = api.create_commit(
            repo_id, operations, commit_message=message, revision=revision, parent_commit=head.sha
        )
    except ValueError as error:
        # huggingface_hub before 1.3.3 commits, and then cannot read the address of another endpoint (its #3679).
        if api.endpoint == constants.ENDPOINT or "Unable to retrieve user and repo ID" not in str(error):
            raise
        return f"{api.endpoint}/{repo_id}/commit/{api.model_info(repo_id, revision=revision).sha}"
    return commit.commit_url


def _head(api: HfApi, repo_id: str, revision: str | None) -> ModelInfo:
    try:
        return api.model_info(repo_id, revision=revision)
    except RevisionNotFoundError:
        if revision is None:
            raise
        api.create_branch(repo_id, branch=revision)
        return api.model_info(repo_id, revision=revision)


def _read(folder: Path, manifest: Manifest, changed: Mapping[str, bytes]) -> dict[str, CommitOperationAdd]:
    """What to upload, by path; reads every file, and holds it against the manifest on the way."""
    names = _uploaded(folder, manifest)
    additions = {MANIFEST_FILE: CommitOperationAdd(MANIFEST_FILE, manifest.for_others().to_json())}
    for name in tqdm(names, desc=f"Reading {len(names)} files", unit="file", disable=None):
        try:
            additions[name] = CommitOperationAdd(name, changed.get(name, folder / name))
        except (OSError, ValueError) as error:
            raise ArtifactError(f"{folder / name} cannot be pushed: {one_line(error)}") from None
        record = manifest.files.get(name)
        if record and additions[name].upload_info.sha256.hex() != record.sha256:
            raise ArtifactError(f"{folder / name} is not what {MANIFEST_FILE} lists; export again")
    if CARD_FILE in additions:
        try:
            _ = ModelCard((folder / CARD_FILE).read_text(encoding="utf-8")).data
        except Exception as error:  # yaml has errors of its own
            reason = " ".join(str(error).split())
            raise ArtifactError(f"{folder / CARD_FILE} begins with metadata that cannot be read: {reason}") from None
    return additions


def _uploaded(folder: Path, manifest: Manifest) -> list[str]:
    """The files that a push uploads as they are, by path."""
    return [*manifest.files, *(name for name in NOT_LISTED if name != MANIFEST_FILE and (folder / name).is_file())]


def _portions(additions: Iterable[CommitOperationAdd]) -> Iterator[list[CommitOperationAdd]]:
    portion: list[CommitOperationAdd] = []
    size = 0
    for addition in additions:
        if portion and size + addition.upload_info.size > _PORTION:
            yield portion
            portion, size = [], 0
        portion.append(addition)
        size += addition.upload_info.size
    yield portion


def _card_is_ours(api: HfApi, head: ModelInfo, present: set[str]) -> bool:
    if CARD_FILE not in present:
        return True
    return is_generated(Path(api.hf_hub_download(head.id, CARD_FILE, revision=head.sha)).read_text(encoding="utf-8"))


def _pushed_files(api: HfApi, head: ModelInfo, present: set[str]) -> set[str]:
    """What the manifest on the Hub lists; nothing where there is none, or one that cannot be read here."""
    if MANIFEST_FILE not in present:
        return set()
    path = Path(api.hf_hub_download(head.id, MANIFEST_FILE, revision=head.sha))
    try:
        return set(Manifest.require(path.parent).files)
    except ArtifactError:
        return set()


def _licence(api: HfApi, manifest: Manifest) -> ModelCardData | None:
    """What the source's own card says; None for a folder, and where there is no answer."""
    if manifest.revision is None:
        return None
    try:
        card = api.model_info(manifest.model, revision=manifest.revision, timeout=10).card_data
    except HUB_ERRORS:
        return None
    return licence_of(card) if card else None


def _check_folder(folder: Path, changed: Collection[str]) -> Manifest:
    manifest = Manifest.require(folder)
    unknown = [name for name in manifest.files if not is_known(name)]
    if unknown:
        raise ArtifactError(
            f"{folder}: {MANIFEST_FILE} lists {printable(unknown[0])}, which no export has; export it again"
        )
    for name in _uploaded(folder, manifest):
        if folder.resolve() not in (folder / name).resolve().parents:
            raise ArtifactError(f"{folder / name} leads out of the folder; put the file itself there")
    for name, record in manifest.files.items():
        if name not in changed and not record.resembles(folder / name):
            wrong = f"not what {MANIFEST_FILE} lists" if (folder / name).is_file() else "missing"
            raise ArtifactError(f"{folder / name} is {wrong}; export again")
    foreign = strangers(folder, manifest)
    if foreign:
        _log.warning("%s: not pushed, because %s does not list it: %s", folder, MANIFEST_FILE, some_of(foreign))
    return manifest


def _check_emulated(emulated: bool, repository_id: str, allowed: bool) -> None:
    if emulated and not allowed:
        raise HubError(
            f"{repository_id}: the emulator's artifacts run on no Neuron device and are not pushed;"
            " --allow_emulated (allow_emulated=True) pushes them, and the model card says so"
        )


def _check_private(info: ModelInfo, private: bool | None) -> None:
    if private and info.private is False:
        raise HubError(f"{info.id} exists and is public; make it private on its page, or leave out --private")


def _api(endpoint: str | None, token: bool | str | None) -> HfApi:
    return HfApi(endpoint=endpoint, token=token, library_name=_PACKAGE, library_version=version(_PACKAGE))

"""Repositories of others: whose are loaded, what is said of them, and that nothing of a refused one is downloaded."""

import pytest

from optimum_pixart_neuron.artifact.manifest import MANIFEST_FILE, Manifest
from optimum_pixart_neuron.artifact.owners import ARCHIVE_RISK
from optimum_pixart_neuron.artifact.pull import pull
from optimum_pixart_neuron.artifact.push import push
from optimum_pixart_neuron.errors import ArtifactError, HubError, InvalidArgument
from optimum_pixart_neuron.files import FileRecord
from tests.refusals import refusal

from .exports import content
from .test_pull import REPO

EVIL = b"open('it_ran', 'w')\n"


@pytest.fixture
def repository(hub, export):
    return hub.create(REPO, content(export))


@pytest.fixture(scope="module")
def pipeline_class():
    from optimum_pixart_neuron.neuron.sdk import ensure_sdk

    ensure_sdk()
    from optimum_pixart_neuron import NeuronPixArtSigmaPipeline

    return NeuronPixArtSigmaPipeline


@pytest.mark.parametrize("trusted", [["me", "Friends"], (), {"users"}, ["USER"], [REPO]], ids=str)
def test_another_owner_is_refused_before_anything_is_asked_for(pipeline_class, hub, repository, trusted):
    named = ", ".join(trusted) or "nobody"
    assert refusal(HubError, pipeline_class.from_pretrained, REPO, trusted_owners=trusted) == (
        f"{REPO} belongs to user, and trusted_owners are {named}; nothing was downloaded"
    )
    assert hub.requests == []


def test_a_repository_without_an_owner_is_nobodys(hub):
    with pytest.raises(HubError, match="^pixart belongs to no named owner, and trusted_owners are user; "):
        pull("pixart", trusted_owners=["user"])
    assert hub.requests == []


@pytest.mark.parametrize("trusted", ["user", [b"user"], [None], 7], ids=str)
def test_what_is_no_list_of_names(pipeline_class, hub, repository, trusted):
    with pytest.raises(InvalidArgument, match="^trusted_owners: expected a list of names on the Hub, given "):
        pipeline_class.from_pretrained(REPO, trusted_owners=trusted)
    assert hub.requests == []


def test_trust_is_of_artifacts(pipeline_class):
    with pytest.raises(InvalidArgument, match="^trusted_owners: a checkpoint holds no programs; leave it out"):
        pipeline_class.from_pretrained(REPO, export=True, trusted_owners=["user"])


def warnings_of(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def test_a_trusted_owner_is_loaded_without_a_word(repository, export, caplog):
    assert content(pull(REPO, trusted_owners=["me", "user"])) == content(export)
    assert warnings_of(caplog) == []


def test_without_trust_one_warning_names_the_owner_and_what_an_archive_can_do(repository, export, caplog):
    assert content(pull(REPO)) == content(export)
    (warning,) = warnings_of(caplog)
    assert warning.startswith(f"{REPO} belongs to user: {ARCHIVE_RISK}; from_pretrained(..., trusted_owners=[...])")


def test_a_folder_has_no_owner_whatever_its_files_say(pipeline_class, hub, export, caplog):
    """It is refused for what it is, an export for another machine, and not for whose it is."""
    assert Manifest.read(export).model == "PixArt-alpha/PixArt-Sigma"
    with pytest.raises(ArtifactError, match="it is compiled for trn2"):
        pipeline_class.from_pretrained(export, trusted_owners=["nobody"])
    assert warnings_of(caplog) == [] and hub.requests == []


class TestCodeThatTheManifestLists:
    """With its right digest, as a stranger would list it."""

    @pytest.fixture(params=["evil.py", "tokenizer/evil.py", "transformer/evil.so", "scheduler/model_index.json"])
    def listed(self, export, request) -> str:
        (export / request.param).write_bytes(EVIL)
        manifest = Manifest.read(export)
        records = {**manifest.files, request.param: FileRecord.of_content(EVIL)}
        manifest.model_copy(update={"files": records}).write(export)
        return request.param

    def test_of_a_repository_only_the_manifest_is_downloaded(self, hub, export, listed):
        hub.create(REPO, content(export))
        told = refusal(HubError, pull, REPO, trusted_owners=["user"])
        assert told == f"{REPO}: {MANIFEST_FILE} lists {listed}, which no export has; do not use it"
        assert hub.downloads() == [MANIFEST_FILE]

    def test_a_folder_is_refused(self, pipeline_class, export, listed):
        told = refusal(ArtifactError, pipeline_class.from_pretrained, export)
        assert told == f"{export}: {MANIFEST_FILE} lists {listed}, which no export has; do not use it"

    def test_it_is_not_pushed(self, hub, export, listed):
        assert refusal(ArtifactError, push, export, REPO, allow_emulated=True) == (
            f"{export}: {MANIFEST_FILE} lists {listed}, which no export has; export it again"
        )
        assert hub.requests == []

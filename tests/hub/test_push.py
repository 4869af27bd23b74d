"""Pushes: what is sent, what becomes of it on the Hub, and every way in which one can fail."""

import hashlib
import json
import re
import shutil

import pytest
from huggingface_hub import CommitOperationAdd, HfApi, constants

from optimum_pixart_neuron.artifact.manifest import MANIFEST_FILE, Manifest
from optimum_pixart_neuron.artifact.manifest_records import SourceRecord
from optimum_pixart_neuron.artifact.push import check_push, push
from optimum_pixart_neuron.errors import ArtifactError, HubError
from tests.refusals import refusal

from .exports import SHARD_BYTES, components, content, make_export
from .fake_hub import Fault

REPO = "user/pixart-sigma-neuron"
SHARD = "transformer/weights/tp1_sharded_checkpoint.safetensors"


def commits(hub) -> list:
    """Of the repository, but for the first, which the Hub makes."""
    return list(hub.repositories[REPO].commits.values())[1:]


def uploads(hub) -> list:
    return [request for request in hub.requests if request.method == "PUT"]


def test_a_push_is_one_commit_of_the_whole_folder_and_a_card(hub, export):
    address = push(export, REPO)
    assert commits(hub)[0].title == "PixArt-Sigma for trn2.48xlarge, 4 core(s)"
    assert [address] == [f"{hub.url}/{REPO}/commit/{made.oid}" for made in commits(hub)]
    pushed = hub.files(REPO)
    assert b"pixart-sigma" in pushed.pop("README.md")
    assert pushed == content(export)
    assert "README.md" not in content(export)  # the folder stays as it was
    assert hub.repositories[REPO].private is False


def test_pushing_again_sends_only_what_changed(hub, export):
    first = push(export, REPO)
    sent = len(uploads(hub))
    again = push(export, REPO)
    assert again == first and len(commits(hub)) == 1 and len(uploads(hub)) == sent

    make_export(export, seed=1)  # the transformer's 4 shards
    push(export, REPO)
    assert len(commits(hub)) == 2
    assert [request.received for request in uploads(hub)[sent:]] == [SHARD_BYTES + 3] * 4
    changed = {name for name, file in commits(hub)[1].files.items() if file != commits(hub)[0].files.get(name)}
    shards = {f"transformer/weights/tp{rank}_sharded_checkpoint.safetensors" for rank in range(4)}
    assert changed == {*shards, MANIFEST_FILE}


def test_shards_of_an_export_with_more_ranks_go_and_foreign_files_stay(hub, export):
    push(export, REPO)
    HfApi().upload_file(path_or_fileobj=b"\0picture", path_in_repo="cat.png", repo_id=REPO)
    shutil.rmtree(export)
    make_export(export, ranks=2)
    push(export, REPO)
    assert set(hub.files(REPO)) == {*content(export), "README.md", "cat.png"}
    assert not any("tp2" in name for name in hub.files(REPO))


def test_without_a_readable_manifest_on_the_hub_nothing_is_removed(hub, export):
    hub.create(REPO, {"transformer/weights/tp7_sharded_checkpoint.safetensors": b"x", MANIFEST_FILE: b"{}"})
    push(export, REPO)
    assert "transformer/weights/tp7_sharded_checkpoint.safetensors" in hub.files(REPO)


def test_other_content_than_in_the_folder(hub, export):
    """As of a loaded pipeline with another scheduler; the manifest that is pushed knows it."""
    scheduler = "scheduler/scheduler_config.json"
    push(export, REPO, changed={scheduler: b'{"beta_end": 0.03}'})
    pushed = hub.files(REPO)
    record = json.loads(pushed[MANIFEST_FILE])["files"][scheduler]
    assert pushed[scheduler] == b'{"beta_end": 0.03}'
    assert (record["size"], record["sha256"]) == (18, hashlib.sha256(pushed[scheduler]).hexdigest())
    assert content(export)[scheduler] != pushed[scheduler]


def test_large_exports_go_in_portions(hub, export, monkeypatch):
    monkeypatch.setattr("optimum_pixart_neuron.artifact.push._PORTION", 3 * SHARD_BYTES)
    push(export, REPO)
    assert hub.files(REPO)[SHARD] == (export / SHARD).read_bytes()
    batches = [request for request in hub.requests if request.path.endswith("/objects/batch")]
    assert len(batches) >= 3 and len(commits(hub)) == 1


class TestWhatIsNotUploaded:
    """A push tells nobody more than the manifest lists."""

    def test_strangers(self, hub, export, caplog, tmp_path):
        (tmp_path / "outside").mkdir()
        (tmp_path / "outside" / "key").write_text("secret")
        for name in ("secret.env", "transformer/notes.txt", ".env"):
            (export / name).write_text("secret")
        (export / "linked").symlink_to(tmp_path / "outside" / "key")
        (export / "folder").symlink_to(tmp_path / "outside")
        push(export, REPO)
        assert set(hub.files(REPO)) == {*Manifest.read(export).files, MANIFEST_FILE, "README.md"}
        (line,) = [record.getMessage() for record in caplog.records]
        assert line == (
            f"{export}: not pushed, because {MANIFEST_FILE} does not list it: .env, folder, linked and 2 more"
        )

    @pytest.mark.parametrize("name", ["README.md", "tokenizer/tokenizer_config.json", SHARD])
    def test_links_out_of_the_folder(self, hub, export, tmp_path, name):
        (tmp_path / "outside").write_bytes((export / name).read_bytes() if (export / name).exists() else b"secret")
        (export / name).unlink(missing_ok=True)
        (export / name).symlink_to(tmp_path / "outside")
        told = refusal(ArtifactError, push, export, REPO)
        assert told == f"{export / name} leads out of the folder; put the file itself there"
        assert hub.requests == []

    def test_a_link_inside_the_folder_is_uploaded_as_the_file(self, hub, export):
        (export / "words.md").write_text("mine")
        (export / "README.md").symlink_to("words.md")
        push(export, REPO)
        assert hub.files(REPO)["README.md"] == b"mine"

    def test_the_way_to_a_local_checkpoint(self, hub, export):
        place = "/home/somebody/secret project/pixart"
        source = SourceRecord(model=place, revision=None, files={})
        local = {name: part.model_copy(update={"source": source}) for name, part in components(4).items()}
        options = {"transformer": place, "text_encoder": "../secret/t5", "subfolder": "sub", "batch_size": 1}
        copied = {"tokenizer": source, "scheduler": SourceRecord(model="some/model", revision="ab", files={})}
        make_export(export, model=place, revision=None, components=local, copied=copied, options=options)
        before = content(export)
        push(export, REPO)
        assert content(export) == before, "the export itself still says from where it came, for its validation"
        assert not [name for name, pushed in hub.files(REPO).items() if b"secret" in pushed]
        (export / MANIFEST_FILE).write_bytes(hub.files(REPO)[MANIFEST_FILE])
        pushed = Manifest.read(export)
        assert pushed.model == pushed.components["transformer"].source.model == "pixart"
        assert pushed.options == {"transformer": "pixart", "text_encoder": "t5", "subfolder": "sub", "batch_size": 1}
        assert pushed.copied["scheduler"].model == "some/model"


class TestCard:
    def test_the_users_own_is_uploaded_as_it_is(self, hub, export):
        (export / "README.md").write_text("---\nlicense: mit\n---\nmine\n")
        push(export, REPO)
        assert hub.files(REPO)["README.md"] == b"---\nlicense: mit\n---\nmine\n"

    def test_one_that_was_edited_on_the_hub_stays(self, hub, export):
        push(export, REPO)
        card = hub.files(REPO)["README.md"] + b"\nMy own words.\n"
        HfApi().upload_file(path_or_fileobj=card, path_in_repo="README.md", repo_id=REPO)
        make_export(export, instance="trn1.32xlarge")
        push(export, REPO)
        assert hub.files(REPO)["README.md"] == card

    def test_one_that_was_generated_is_written_anew(self, hub, export):
        push(export, REPO)
        make_export(export, instance="trn1.32xlarge")
        push(export, REPO)
        assert b"trn1.32xlarge" in hub.files(REPO)["README.md"]

    def test_the_licence_is_that_of_the_sources_card(self, hub, export):
        text = b"---\nlicense: openrail++\n---\n"
        source = hub.create("PixArt-alpha/PixArt-Sigma", {"README.md": text})
        make_export(export, revision=source.refs["main"])
        push(export, REPO)
        assert b"license: openrail++" in hub.files(REPO)["README.md"]

    def test_metadata_that_cannot_be_read_is_refused_before_any_upload(self, hub, export):
        (export / "README.md").write_text("---\nlicense: [\n---\n")
        assert "begins with metadata that cannot be read" in refusal(ArtifactError, push, export, REPO)
        assert uploads(hub) == []


def test_artifacts_of_the_emulator_are_pushed_only_if_asked(hub, export):
    make_export(export, emulated=True)
    assert refusal(HubError, push, export, REPO) == (
        f"{REPO}: the emulator's artifacts run on no Neuron device and are not pushed;"
        " --allow_emulated (allow_emulated=True) pushes them, and the model card says so"
    )
    assert hub.requests == []
    push(export, REPO, allow_emulated=True)
    assert b"These artifacts run on no Neuron\n> device." in hub.files(REPO)["README.md"]


class TestWhere:
    def test_no_private_push_to_a_public_repository(self, hub, export):
        hub.create(REPO)
        assert refusal(HubError, push, export, REPO, private=True).startswith(
            f"{REPO} exists and is public; make it private"
        )
        assert commits(hub) == []

    def test_a_branch_is_made(self, hub, export):
        push(export, REPO, revision="trn2/4 ranks")
        assert hub.files(REPO) == {}
        assert set(hub.files(REPO, "trn2/4 ranks")) == {*content(export), "README.md"}

    def test_a_name_alone_is_in_the_users_own_namespace(self, hub, export):
        push(export, REPO.split("/")[1])
        assert set(hub.repositories) == {REPO}

    def test_an_organization(self, hub, export):
        push(export, "team/pixart", commit_message="First one")
        assert [made.title for made in hub.repositories["team/pixart"].commits.values()][1:] == ["First one"]


@pytest.mark.parametrize(
    ("token", "repo", "reason"),
    [
        (None, REPO, "the token is not valid; log in|there is no token; log in"),
        ("hf_unknown", REPO, "the token is not valid"),
        ("hf_reader", REPO, "may not do this|may only read"),
        ("hf_writer", "stranger/pixart", "may not do this|user may not write to stranger, only to user, team"),
        ("hf_writer", "user/pix art", "is not an id of the Hugging Face Hub"),
        ("hf_writer", "a/b/c", "is not an id of the Hugging Face Hub"),
    ],
)
def test_who_may_not_push(hub, export, monkeypatch, token, repo, reason):
    """Said by the push, and as well by the check that precedes an export."""
    monkeypatch.delenv("HF_TOKEN")
    for told in (
        refusal(HubError, push, export, repo, token=token),
        refusal(HubError, check_push, repo, token=token, emulated=False),
    ):
        assert re.search(f"^{re.escape(repo)}: .*({reason})", told)
    assert hub.repositories == {}


def test_the_check_before_an_export_makes_nothing(hub):
    check_push(REPO, emulated=False)
    check_push("pixart", emulated=True, allow_emulated=True)
    assert hub.repositories == {}
    hub.create(REPO)
    check_push(REPO, emulated=False)
    with pytest.raises(HubError, match="exists and is public"):
        check_push(REPO, emulated=False, private=True)
    with pytest.raises(HubError, match="run on no Neuron device"):
        check_push(REPO, emulated=True)


def test_another_endpoint_than_huggingface_hubs_own(hub, export, monkeypatch):
    """There huggingface_hub 0.36 raises after the commit is made."""
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    for _ in range(2):
        address = push(export, REPO, endpoint=hub.url)
        assert [address] == [f"{hub.url}/{REPO}/commit/{made.oid}" for made in commits(hub)]


class TestFoldersThatAreNoWholeExport:
    @pytest.mark.parametrize(
        ("damage", "message"),
        [
            (lambda folder: (folder / MANIFEST_FILE).unlink(), f"export of this package: it has no {MANIFEST_FILE}"),
            (shutil.rmtree, f"is no export of this package: it has no {MANIFEST_FILE}"),
            (lambda folder: (folder / SHARD).unlink(), f"{SHARD} is missing; export again"),
            (lambda folder: (folder / SHARD).write_bytes(b"short"), f"{SHARD} is not what {MANIFEST_FILE} lists"),
        ],
        ids=["no manifest", "no folder", "missing", "truncated"],
    )
    def test_nothing_is_asked_of_the_hub(self, hub, export, damage, message):
        damage(export)
        assert message in refusal(ArtifactError, push, export, REPO)
        assert hub.requests == []

    def test_a_changed_byte_that_no_sample_sees(self, hub, export):
        path = export / SHARD
        changed = bytearray(path.read_bytes())
        changed[5000] ^= 1
        path.write_bytes(changed)
        assert Manifest.read(export).files[SHARD].resembles(path)
        assert f"{SHARD} is not what {MANIFEST_FILE} lists" in refusal(ArtifactError, push, export, REPO)
        assert uploads(hub) == []


class TestFaults:
    @pytest.mark.seconds
    @pytest.mark.parametrize(
        "fault",
        [
            Fault("status", "/lfs/*", "PUT", status=500, times=2),
            Fault("cut", "/lfs/*", "PUT", at=70_000, times=2),
            Fault("status", "/api/repos/create", status=429, headers={"Retry-After": "0"}, times=2),
            Fault("status", "*/objects/batch", status=503),
            Fault("status", "*/preupload/*", status=500),
            Fault("lost", "*/preupload/*"),
            Fault("status", "*/verify", status=502),
            Fault("status", "*/commit/*", status=500),
            Fault("lost", "*/commit/*"),
        ],
        ids=lambda fault: f"{fault.kind} {fault.path}",
    )
    def test_passing_ones_end_in_the_same_single_commit(self, hub, export, fault):
        hub.faults.append(fault)
        push(export, REPO)
        assert fault.times == 0
        assert len(commits(hub)) == 1
        assert {name: hub.files(REPO)[name] for name in content(export)} == content(export)

    def test_each_file_is_read_once_however_often_it_is_tried(self, hub, export, monkeypatch):
        reads = []

        class Read(CommitOperationAdd):
            def __post_init__(self):
                reads.append(self.path_in_repo)
                super().__post_init__()

        monkeypatch.setattr("optimum_pixart_neuron.artifact.push.CommitOperationAdd", Read)
        fault = Fault("status", "*/commit/*", status=500, times=3)
        hub.faults.append(fault)
        push(export, REPO)
        assert fault.times == 0
        names = [name for name in reads if name != "README.md"]  # the card is made for each try
        assert sorted(names) == sorted([*Manifest.read(export).files, MANIFEST_FILE])

    def test_nothing_is_read_for_a_hub_that_does_not_let_us_in(self, hub, export, monkeypatch):
        monkeypatch.setattr("optimum_pixart_neuron.artifact.push.CommitOperationAdd", lambda *_: pytest.fail("read"))
        with pytest.raises(HubError):
            push(export, REPO, token="hf_unknown")

    def test_one_that_lasts_is_an_error_and_the_next_push_goes_on(self, hub, export):
        hub.faults.append(Fault("status", "*/commit/*", status=500, times=1000))
        told = refusal(HubError, push, export, REPO)
        assert told == f"{REPO}: the Hub answers with status 500: the fault that was asked for"
        assert commits(hub) == []
        hub.faults.clear()
        hub.requests.clear()
        push(export, REPO)
        assert uploads(hub) == [] and len(commits(hub)) == 1

    def test_somebody_else_pushes_meanwhile(self, hub, export, monkeypatch):
        push(export, REPO)
        make_export(export, seed=1)
        send = HfApi.preupload_lfs_files

        def send_slowly(self, *args, **kwargs):
            hub.repositories[REPO].commit(hub.repositories[REPO].at("main").files, "another")
            return send(self, *args, **kwargs)

        monkeypatch.setattr(HfApi, "preupload_lfs_files", send_slowly)
        with pytest.raises(HubError, match="somebody else pushed meanwhile; try again"):
            push(export, REPO)

    def test_no_hub_at_all(self, hub, export):
        nowhere = {"endpoint": "http://127.0.0.1:9"}
        assert refusal(HubError, push, export, REPO, **nowhere) == f"{REPO}: the Hub cannot be reached"

"""Pulls: what is downloaded, what is checked, and every way in which one can fail."""

import os
import re
from types import SimpleNamespace

import pytest

from optimum_pixart_neuron.artifact.manifest import MANIFEST_FILE, Manifest
from optimum_pixart_neuron.artifact.pull import pull
from optimum_pixart_neuron.errors import ArtifactError, HubError, printable
from tests.refusals import refusal

from .exports import content, make_export, stock_files
from .fake_hub import Fault

REPO = "user/pixart-sigma-neuron"
SHARD = "transformer/weights/tp1_sharded_checkpoint.safetensors"
FOREIGN = {
    "README.md": b"card",
    "cat.png": b"\0picture",
    "checkpoint/model.safetensors": b"weights",
    "transformer/weights/tp4_sharded_checkpoint.safetensors": b"a fifth rank",
}


@pytest.fixture
def repository(hub, export):
    """The export on the Hub, with files of others beside it."""
    return hub.create(REPO, {**content(export), **FOREIGN})


def test_what_the_manifest_lists_and_nothing_else(hub, repository, export):
    folder = pull(REPO)
    assert content(folder) == content(export)
    assert hub.downloads() == sorted(content(export))
    assert folder.name == repository.refs["main"]


def test_a_second_pull_downloads_nothing(hub, repository):
    first = pull(REPO)
    hub.requests.clear()
    assert pull(REPO) == first
    asked = [(request.method, request.path.rsplit("/", 1)[1]) for request in hub.requests]
    assert asked == [("GET", REPO.split("/")[1]), ("HEAD", MANIFEST_FILE)]


@pytest.mark.seconds
def test_force_download_downloads_all_of_it_again(hub, repository, export):
    pull(REPO)
    hub.requests.clear()
    assert content(pull(REPO, force_download=True)) == content(export)
    assert hub.downloads() == sorted(content(export))


@pytest.mark.seconds
def test_revisions(hub, repository, export):
    old = repository.refs["main"]
    repository.refs["v1"] = old
    make_export(export, seed=1)
    repository.commit(hub.stored(content(export)), "second")
    new = content(pull(REPO))
    assert new == content(export)
    hub.requests.clear()
    at_old = content(pull(REPO, revision=old))
    shards = {f"transformer/weights/tp{rank}_sharded_checkpoint.safetensors" for rank in range(4)}
    assert {name for name in new if new[name] != at_old[name]} == {*shards, MANIFEST_FILE}
    assert hub.downloads() == sorted([*shards, MANIFEST_FILE])  # the rest is in the cache
    hub.requests.clear()
    assert content(pull(REPO, revision="v1")) == at_old
    assert hub.downloads() == []


@pytest.mark.seconds
def test_another_cache(repository, tmp_path, monkeypatch):
    assert pull(REPO, cache_dir=tmp_path / "elsewhere").is_relative_to(tmp_path / "elsewhere")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert pull(REPO, cache_dir="../relative").resolve().is_relative_to(tmp_path / "relative")


class TestWithoutNetwork:
    @pytest.mark.parametrize("options", [{}, {"local_files_only": True}, {"revision": "main"}], ids=str)
    def test_the_cache_is_enough(self, hub, repository, options):
        folder = pull(REPO)
        hub.stop()
        assert pull(REPO, **options) == folder
        assert pull(REPO, **{**options, "revision": folder.name}) == folder

    def test_an_empty_cache(self, hub):
        assert refusal(HubError, pull, REPO, local_files_only=True) == (
            f"{REPO}, {MANIFEST_FILE}: it is not in the download cache, and the Hub may not be asked"
        )
        assert hub.requests == []
        hub.stop()
        assert refusal(HubError, pull, REPO) == (
            f"{REPO}, {MANIFEST_FILE}: it is not in the download cache, and the Hub cannot be reached"
        )

    def test_missing_files_are_named(self, hub, repository):
        folder = pull(REPO)
        (folder / SHARD).unlink()
        (folder / "vae_decoder" / "model.neuron").unlink()
        assert f"the download cache lacks {SHARD}, vae_decoder/model.neuron or has them damaged" in refusal(
            HubError, pull, REPO, local_files_only=True
        )
        hub.stop()
        assert refusal(HubError, pull, REPO) == (
            f"{REPO}, {SHARD}, vae_decoder/model.neuron:"
            " it is not in the download cache, and the Hub cannot be reached"
        )

    def test_force_download_needs_one(self, hub, repository):
        pull(REPO)
        with pytest.raises(HubError, match="Cannot pass 'force_download=True' and 'local_files_only=True'"):
            pull(REPO, force_download=True, local_files_only=True)
        hub.stop()
        with pytest.raises(HubError, match=f"^{REPO}, {MANIFEST_FILE}: the Hub cannot be reached$"):
            pull(REPO, force_download=True)

    @pytest.mark.parametrize("options", [{}, {"revision": "main"}, {"force_download": True}], ids=str)
    def test_what_cannot_be_reached_is_not_tried_again(self, hub, options, monkeypatch):
        """huggingface_hub (0.36) would ask for a file six times in 23 s, and log the dump of each exception."""
        paused = []
        monkeypatch.setattr("huggingface_hub.utils._http.time", SimpleNamespace(sleep=paused.append))
        hub.stop()
        with pytest.raises(HubError, match="the Hub cannot be reached$"):
            pull(REPO, **options)
        assert paused == []


class TestRefusals:
    @pytest.mark.parametrize(
        ("repo", "options", "reason"),
        [
            ("user/nothing", {}, "there is no such repository, or it is private and the token may not see it"),
            ("user/nothing", {"token": False}, "there is no such repository, or it is private"),
            ("user/private", {"token": False}, "there is no such repository, or it is private"),
            ("stranger/gated", {}, "asks for its licence to be accepted on its page, by the owner of the token"),
            ("stranger/gated", {"token": False}, "asks for its licence to be accepted on its page"),
            (REPO, {"revision": "v9"}, "there is no such revision"),
            (REPO, {"token": "hf_unknown"}, "the token is not valid"),
            ("no model/at all", {}, "is not an id of the Hugging Face Hub"),
        ],
    )
    def test_one_line(self, hub, repository, repo, options, reason):
        hub.create("user/private", {MANIFEST_FILE: b"{}"}, private=True)
        hub.create("stranger/gated", {MANIFEST_FILE: b"{}"}, gated=True)
        named = f"{repo}@{options['revision']}" if "revision" in options else repo
        assert re.match(
            re.escape(f"{named}, {MANIFEST_FILE}: ") + ".*" + reason, refusal(HubError, pull, repo, **options)
        )

    def test_a_private_repository_opens_to_its_owner(self, hub, export):
        hub.create("user/private", content(export), private=True)
        assert content(pull("user/private")) == content(export)

    @pytest.mark.parametrize("path", ["../../../../precious", "{tmp_path}/precious", "."])
    def test_a_manifest_that_reaches_outside(self, hub, export, tmp_path, path):
        """Its files would be removed from this machine, because they are not what it lists."""
        path = path.format(tmp_path=tmp_path)
        (tmp_path / "precious").write_text("data")
        manifest = Manifest.read(export)
        manifest.model_copy(update={"files": {**manifest.files, path: manifest.files[SHARD]}}).write(export)
        hub.create(REPO, content(export))
        told = refusal(HubError, pull, REPO, cache_dir=tmp_path / "cache")
        assert told == f"{REPO}: {MANIFEST_FILE} lists {printable(path)}, which no export has; do not use it"
        assert (tmp_path / "precious").read_text() == "data"


class TestFaults:
    @pytest.mark.seconds
    @pytest.mark.parametrize("cut", ["cut", "stall"])
    def test_a_download_goes_on_where_it_stopped(self, hub, repository, export, cut):
        hub.faults.append(Fault(cut, f"*/{SHARD}", "GET", at=150_000, seconds=3))
        assert content(pull(REPO)) == content(export)
        asked = [request for request in hub.requests if request.method == "GET" and request.path.endswith(SHARD)]
        assert len(asked) == 2
        begin = int(re.fullmatch(r"bytes=(\d+)-", asked[1].range)[1])
        assert 0 < begin <= 150_000  # what was received and written

    @pytest.mark.seconds
    def test_a_later_pull_goes_on_too(self, hub, repository, export):
        hub.faults.append(Fault("cut", f"*/{SHARD}", "GET", at=150_000))
        hub.faults.append(Fault("lost", f"*/{SHARD}", "GET", times=1000))
        told = f"{REPO}, model_index.json, .* and 15 more files: the connection to the Hub broke"
        assert re.match(told, refusal(HubError, pull, REPO))
        hub.faults.clear()
        hub.requests.clear()
        assert content(pull(REPO)) == content(export)
        assert hub.downloads() == [SHARD]
        assert sum(request.sent for request in hub.requests if request.path.endswith(SHARD)) < 100_000

    @pytest.mark.seconds
    @pytest.mark.parametrize(
        "fault",
        [
            Fault("status", f"*/{SHARD}", "GET", status=429, headers={"Retry-After": "0"}, times=2),
            Fault("status", f"*/{SHARD}", "GET", status=500, times=2),
            Fault("status", f"*/{SHARD}", "HEAD", status=503, times=2),
            Fault("status", f"*/{MANIFEST_FILE}", "HEAD", status=500),
            Fault("status", "/api/models/*", status=502),
            Fault("lost", f"*/{MANIFEST_FILE}", "HEAD"),
            Fault("lost", f"*/{MANIFEST_FILE}", "GET"),
            Fault("lost", "/api/models/*"),
        ],
        ids=lambda fault: f"{fault.kind} {fault.status} {fault.method} {fault.path}",
    )
    def test_passing_ones(self, hub, repository, export, fault):
        hub.faults.append(fault)
        assert content(pull(REPO)) == content(export)
        assert fault.times == 0

    def test_one_that_lasts(self, hub, repository):
        hub.faults.append(Fault("status", f"*/{SHARD}", "GET", status=429, times=1000))
        assert "the Hub asks for fewer requests (status 429)" in refusal(HubError, pull, REPO)

    def test_waits_as_long_as_the_hub_asks(self, hub, repository, monkeypatch):
        waited = []
        monkeypatch.setattr("optimum_pixart_neuron.hub.time.sleep", waited.append)
        hub.faults.append(Fault("status", f"*/{SHARD}", "GET", status=429, headers={"Retry-After": "7"}))
        hub.faults.append(Fault("status", f"*/{SHARD}", "GET", status=429, headers={"Retry-After": "3600"}))
        pull(REPO)
        assert waited == [7.0, 60.0]


class TestDamage:
    def test_on_the_way_once(self, hub, repository, export):
        hub.faults.append(Fault("flip", f"*/{SHARD}", "GET", at=5000))
        assert content(pull(REPO)) == content(export)

    def test_on_the_way_each_time(self, hub, repository):
        hub.faults.append(Fault("flip", f"*/{SHARD}", "GET", at=5000, times=1000))
        assert refusal(HubError, pull, REPO) == (
            f"{REPO}: {SHARD}: not what {MANIFEST_FILE} lists, also when downloaded again;"
            " somebody changed the repository, push the export again"
        )
        asked = [request for request in hub.requests if request.method == "GET" and request.path.endswith(SHARD)]
        assert len(asked) == 2
        hub.faults.clear()
        pull(REPO)  # nothing of it stayed

    def test_before_a_pull_that_breaks_does_not_stay(self, hub, repository, export):
        last = "vae_decoder/model.neuron"
        hub.faults.append(Fault("flip", f"*/{SHARD}", "GET", at=5000))
        hub.faults.append(Fault("status", f"*/{last}", "GET", status=403, times=1000))
        with pytest.raises(HubError, match="the token may not do this"):
            pull(REPO)
        hub.faults.clear()
        assert content(pull(REPO)) == content(export)

    @pytest.mark.seconds
    def test_in_the_cache_is_mended(self, hub, repository, export):
        folder = pull(REPO)
        blob = (folder / SHARD).resolve()
        blob.chmod(0o644)
        for damaged in (b"short", blob.read_bytes()[:-1] + b"?"):
            blob.write_bytes(damaged)
            with pytest.raises(HubError, match=f"lacks {SHARD} or has them damaged"):
                pull(REPO, local_files_only=True)
            hub.requests.clear()
            assert content(pull(REPO)) == content(export)
            assert hub.downloads() == [SHARD]
        os.truncate(blob, 100)
        hub.stop()
        with pytest.raises(HubError, match=f"{SHARD}: .*the Hub cannot be reached"):
            pull(REPO)

    @pytest.mark.seconds
    def test_of_the_manifest_is_mended(self, hub, repository, export):
        hub.faults.append(Fault("flip", f"*/{MANIFEST_FILE}", "GET", at=5))
        folder = pull(REPO)
        assert content(folder) == content(export)
        (folder / MANIFEST_FILE).resolve().write_bytes(b"{")
        with pytest.raises(ArtifactError, match="is damaged"):
            pull(REPO, local_files_only=True)
        assert content(pull(REPO)) == content(export)

    def test_a_file_that_the_repository_has_lost(self, hub, repository):
        files = dict(repository.at("main").files)
        del files[SHARD]
        repository.commit(files, "lost one")
        with pytest.raises(HubError, match=f"{SHARD}.*: there is no such file in the repository"):
            pull(REPO)


NO_PIPELINE = "is no compiled pipeline; export it first, or load it with export=True"


class TestStockRepositories:
    def test_the_files_that_the_stock_loader_reads(self, hub):
        files = stock_files(2)
        hub.create(REPO, {**files, **FOREIGN, "vae_encoder/config.json": b"{}"})
        folder = pull(REPO)
        assert content(folder) == {**files, "vae_encoder/config.json": b"{}"}
        assert pull(REPO, local_files_only=True) == folder

    @pytest.mark.parametrize(
        ("files", "message"),
        [
            ({"model_index.json": b"{}"}, NO_PIPELINE),
            ({"model_index.json": b"{}", "transformer/config.json": b"{}"}, NO_PIPELINE),
            ({}, f"holds no artifacts of optimum-neuron: there is neither {MANIFEST_FILE} nor model_index.json"),
        ],
        ids=["no transformer", "not compiled", "nothing"],
    )
    def test_others(self, hub, files, message):
        hub.create(REPO, files)
        assert refusal(HubError, pull, REPO) == f"{REPO} {message}"

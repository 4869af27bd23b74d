"""What a model is, from its model_index.json; each way that reading it can fail, once, without the network."""

import argparse
import json

import huggingface_hub
import pytest
from huggingface_hub import errors as hub

from optimum_pixart_neuron.commands.detection import pipeline_class
from optimum_pixart_neuron.errors import CheckpointError


def _args(model, **changes) -> argparse.Namespace:
    values = {"subfolder": "", "revision": None, "cache_dir": None, "token": None, "local_files_only": False}
    return argparse.Namespace(model=str(model), **{**values, **changes})


def _hub_error(kind):
    import requests

    response = requests.Response()
    response.status_code = 404
    return kind("failed\nin two lines", response=response)


@pytest.fixture
def hub_raises(monkeypatch):
    """Let the download fail with the given error."""

    def install(error):
        def download(*_args, **_kwargs):
            raise error

        monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)

    return install


def test_a_local_pipeline_is_named(tmp_path):
    (tmp_path / "model_index.json").write_text('{"_class_name": "PixArtSigmaPipeline"}')
    assert pipeline_class(_args(tmp_path)) == "PixArtSigmaPipeline"
    assert pipeline_class(_args(tmp_path.parent, subfolder=tmp_path.name)) == "PixArtSigmaPipeline"


@pytest.mark.parametrize("name", ["config.json", "modules.json", "adapter_config.json"])
def test_a_local_model_of_another_library_is_none(tmp_path, name):
    (tmp_path / name).write_text("{}")
    assert pipeline_class(_args(tmp_path)) is None


def test_a_file_is_refused(tmp_path):
    (tmp_path / "weights.bin").touch()
    with pytest.raises(CheckpointError, match="is a file; give the folder of the checkpoint"):
        pipeline_class(_args(tmp_path / "weights.bin"))


def test_a_missing_subfolder_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="--subfolder gone does not exist in"):
        pipeline_class(_args(tmp_path, subfolder="gone"))


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"is no checkpoint: it has no model_index\.json"):
        pipeline_class(_args(tmp_path))


@pytest.mark.parametrize("content", ["{", "[]", "{}", json.dumps({"_class_name": ["a", "b"]}), "\xff"])
def test_an_index_that_names_nothing_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "model_index.json").write_text(content, encoding="latin-1")
    with pytest.raises(CheckpointError, match=r"model_index\.json") as refusal:
        pipeline_class(_args(tmp_path))
    assert "\n" not in str(refusal.value)


def test_a_path_that_is_no_hub_id_is_refused():
    with pytest.raises(CheckpointError, match="no such folder, and not an id of the Hugging Face Hub"):
        pipeline_class(_args("/no/such/folder"))


def test_the_hub_is_asked_with_what_the_user_gave(tmp_path, monkeypatch):
    index = tmp_path / "model_index.json"
    index.write_text('{"_class_name": "PixArtSigmaPipeline"}')
    asked = {}

    def download(repo, name, **kwargs):
        asked.update(kwargs, repo=repo, name=name)
        return str(index)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    given = {"revision": "r", "cache_dir": "c", "token": "t", "local_files_only": True}
    assert pipeline_class(_args("me/model", subfolder="s", **given)) == "PixArtSigmaPipeline"
    assert asked == {**given, "subfolder": "s", "repo": "me/model", "name": "model_index.json"}


def test_a_repository_without_index_is_none(hub_raises):
    hub_raises(_hub_error(hub.EntryNotFoundError))
    assert pipeline_class(_args("me/bert")) is None


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (_hub_error(hub.GatedRepoError), "asks for a licence to be accepted on its page; then --token"),
        (_hub_error(hub.RepositoryNotFoundError), "no such folder, and no such repository on the Hugging Face Hub"),
        (_hub_error(hub.RevisionNotFoundError), "--revision v9 does not exist in me/model"),
        (_hub_error(hub.HfHubHTTPError), "cannot be read: "),
        (PermissionError(13, "Permission denied", "cache"), "cannot be read: .*Permission denied"),
    ],
)
def test_each_failure_of_the_hub_is_one_line(error, message, hub_raises):
    hub_raises(error)
    with pytest.raises(CheckpointError, match=message) as refusal:
        pipeline_class(_args("me/model", revision="v9"))
    assert "\n" not in str(refusal.value)


def test_offline_an_uncached_model_is_refused_and_a_cached_one_of_another_library_is_none(tmp_path):
    args = _args("me/model", cache_dir=str(tmp_path), local_files_only=True)
    with pytest.raises(CheckpointError, match="not in the download cache, and the Hugging Face Hub cannot be reached"):
        pipeline_class(args)
    snapshot = tmp_path / "models--me--model" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (tmp_path / "models--me--model" / "refs").mkdir()
    (tmp_path / "models--me--model" / "refs" / "main").write_text("abc")
    assert pipeline_class(args) is None

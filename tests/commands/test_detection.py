"""What a model is, from its model_index.json or its transformer; each way that reading can fail, without network."""

import argparse
import json

import huggingface_hub
import pytest
from huggingface_hub import errors as hub

from optimum_pixart_neuron.commands.detection import pipeline_class
from optimum_pixart_neuron.errors import CheckpointError


def _args(model, **changes) -> argparse.Namespace:
    values = {"subfolder": "", "revision": None, "cache_dir": None, "token": None, "local_files_only": False}
    return argparse.Namespace(model=str(model), **{**values, "transformer": None, **changes})


# transformer/config.json of PixArt-alpha/PixArt-Sigma-XL-2-512-MS, the keys that tell what it is.
RELEASED = {"_class_name": "Transformer2DModel", "norm_type": "ada_norm_single", "sample_size": 64}
SAVED_LATER = {"_class_name": "PixArtTransformer2DModel"}
OTHERS = (
    {"_class_name": "Transformer2DModel", "norm_type": "ada_norm_zero"},
    {"_class_name": "FluxTransformer2DModel"},
)


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


@pytest.mark.parametrize("folder", ["transformer", "."])
@pytest.mark.parametrize("config", [RELEASED, SAVED_LATER])
def test_a_local_transformer_alone_is_pixart_sigma(tmp_path, folder, config):
    (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / folder / "config.json").write_text(json.dumps(config))
    assert pipeline_class(_args(tmp_path)) == "PixArtSigmaPipeline"
    assert pipeline_class(_args(tmp_path.parent, subfolder=tmp_path.name)) == "PixArtSigmaPipeline"


@pytest.mark.parametrize("folder", ["transformer", "."])
@pytest.mark.parametrize("config", OTHERS)
def test_a_local_transformer_of_another_model_is_none(tmp_path, folder, config):
    (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / folder / "config.json").write_text(json.dumps(config))
    assert pipeline_class(_args(tmp_path)) is None


def test_an_index_goes_before_a_transformer(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(SAVED_LATER))
    (tmp_path / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    assert pipeline_class(_args(tmp_path)) == "FluxPipeline"


def test_components_called_pixart_alpha_are_pixart_sigma_with_a_transformer(tmp_path):
    (tmp_path / "model_index.json").write_text('{"_class_name": "PixArtAlphaPipeline"}')
    assert pipeline_class(_args(tmp_path)) == "PixArtAlphaPipeline"
    assert pipeline_class(_args(tmp_path, transformer="me/tuned")) == "PixArtSigmaPipeline"


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
    asked = []

    def download(repo, name, **kwargs):
        asked.append((repo, name, kwargs))
        if index.name not in name:
            return str(transformer)
        if absent:
            raise _hub_error(hub.EntryNotFoundError)
        return str(index)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    transformer = tmp_path / "config.json"
    transformer.write_text(json.dumps(RELEASED))
    given = {"revision": "r", "cache_dir": "c", "token": "t", "local_files_only": True}
    absent = False
    assert pipeline_class(_args("me/model", subfolder="s", **given)) == "PixArtSigmaPipeline"
    assert asked == [("me/model", "s/model_index.json", given)]
    asked.clear()
    absent = True
    assert pipeline_class(_args("me/model", **given)) == "PixArtSigmaPipeline"
    assert asked == [("me/model", name, given) for name in ("model_index.json", "transformer/config.json")]


def test_a_repository_without_index_is_none(hub_raises):
    hub_raises(_hub_error(hub.EntryNotFoundError))
    assert pipeline_class(_args("me/bert")) is None


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (_hub_error(hub.GatedRepoError), "asks for its licence to be accepted on its page, .*--token"),
        (_hub_error(hub.RepositoryNotFoundError), "no such folder, and there is no such repository, .*--token"),
        (_hub_error(hub.RevisionNotFoundError), "--revision v9 does not exist in me/model"),
        (_hub_error(hub.HfHubHTTPError), "--model me/model: the Hub answers with status 404"),
        (PermissionError(13, "Permission denied", "cache"), "--model me/model: .*Permission denied"),
    ],
)
def test_each_failure_of_the_hub_is_one_line(error, message, hub_raises):
    hub_raises(error)
    with pytest.raises(CheckpointError, match=message) as refusal:
        pipeline_class(_args("me/model", revision="v9"))
    assert "\n" not in str(refusal.value)


def _cached(cache, name: str, content: dict) -> None:
    snapshot = cache / "models--me--model" / "snapshots" / "abc"
    (snapshot / name).parent.mkdir(parents=True)
    (snapshot / name).write_text(json.dumps(content))
    (cache / "models--me--model" / "refs").mkdir()
    (cache / "models--me--model" / "refs" / "main").write_text("abc")


def test_offline_an_uncached_model_is_refused_with_the_files_it_lacks(tmp_path):
    with pytest.raises(CheckpointError) as refusal:
        pipeline_class(_args("me/model", cache_dir=str(tmp_path), local_files_only=True))
    assert str(refusal.value) == (
        f"--local_files_only is given, and the download cache {tmp_path} lacks me/model: text_encoder/config.json, "
        "text_encoder/model.safetensors, transformer/config.json, transformer/diffusion_pytorch_model.safetensors, "
        "vae/config.json and 4 more"
    )


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("model_index.json", {"_class_name": "FluxPipeline"}, "FluxPipeline"),
        ("transformer/config.json", RELEASED, "PixArtSigmaPipeline"),
        ("config.json", SAVED_LATER, "PixArtSigmaPipeline"),
        ("config.json", {}, None),
    ],
)
def test_offline_a_cached_model_is_known(tmp_path, name, content, found):
    _cached(tmp_path, name, content)
    assert pipeline_class(_args("me/model", cache_dir=str(tmp_path), local_files_only=True)) == found


def test_a_hub_that_is_out_of_reach_is_asked_once(tmp_path, monkeypatch):
    asked = []

    def download(_repo, name, *, local_files_only, **_kwargs):
        asked.append((name, local_files_only))
        raise hub.LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(CheckpointError, match="^the Hugging Face Hub cannot be reached, and the download cache"):
        pipeline_class(_args("me/model", cache_dir=str(tmp_path)))
    assert asked == [("model_index.json", False), ("transformer/config.json", True), ("config.json", True)]

"""What a model is, from its model_index.json or its transformer; each way that asking can fail."""

import json
from functools import partial

import pytest

from optimum_pixart_neuron.checkpoint.open import pipeline_class
from optimum_pixart_neuron.checkpoint.options import CheckpointOptions
from optimum_pixart_neuron.errors import CheckpointError

from ..checkpoints import cache
from ..hub.conftest import hub  # noqa: F401
from ..refusals import refusal

# transformer/config.json of PixArt-alpha/PixArt-Sigma-XL-2-512-MS, the keys that tell what it is.
RELEASED = {"_class_name": "Transformer2DModel", "norm_type": "ada_norm_single", "sample_size": 64}
SAVED_LATER = {"_class_name": "PixArtTransformer2DModel"}


def kind(model, **options) -> str | None:
    return pipeline_class(CheckpointOptions(model=model, **options))


refused = partial(refusal, CheckpointError, kind)


def test_a_local_pipeline_is_named(tmp_path):
    (tmp_path / "model_index.json").write_text('{"_class_name": "PixArtSigmaPipeline"}')
    assert kind(tmp_path) == "PixArtSigmaPipeline"
    assert kind(tmp_path.parent, subfolder=tmp_path.name) == "PixArtSigmaPipeline"


@pytest.mark.parametrize("folder", ["transformer", "."])
@pytest.mark.parametrize(
    ("config", "found"),
    [
        (RELEASED, "PixArtSigmaPipeline"),
        (SAVED_LATER, "PixArtSigmaPipeline"),
        ({**RELEASED, "norm_type": "ada_norm_zero"}, None),
        ({"_class_name": "FluxTransformer2DModel"}, None),
    ],
    ids=str,
)
def test_a_local_transformer_alone_is_told_by_its_configuration(tmp_path, folder, config, found):
    (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / folder / "config.json").write_text(json.dumps(config))
    assert kind(tmp_path) == kind(tmp_path.parent, subfolder=tmp_path.name) == found


def test_an_index_goes_before_a_transformer(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(SAVED_LATER))
    (tmp_path / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    assert kind(tmp_path) == "FluxPipeline"


def test_components_called_pixart_alpha_are_pixart_sigma_with_a_transformer(tmp_path):
    (tmp_path / "model_index.json").write_text('{"_class_name": "PixArtAlphaPipeline"}')
    assert kind(tmp_path) == "PixArtAlphaPipeline"
    assert kind(tmp_path, transformer="me/tuned") == "PixArtSigmaPipeline"


@pytest.mark.parametrize("name", ["config.json", "modules.json", "adapter_config.json", "notes.txt"])
def test_a_local_model_of_another_library_is_none(tmp_path, name):
    """A T5 alone is such a model, too: optimum-neuron exports it, although it could be a text encoder here."""
    (tmp_path / name).write_text('{"model_type": "t5"}')
    assert kind(tmp_path) is None


def test_what_is_no_folder_is_refused(tmp_path):
    (tmp_path / "weights.bin").touch()
    file = tmp_path / "weights.bin"
    assert refused(file) == f"--model {file} is a file; give the folder of the checkpoint"
    assert refused(tmp_path, subfolder="gone") == f"--subfolder gone does not exist in {tmp_path}"
    for gone in ("/no/such/folder", "~nobody-of-this-name/folder"):
        line = f"--model {gone}: no such folder; give a checkpoint's, or an id of the Hugging Face Hub"
        assert refused(gone) == line


@pytest.mark.parametrize("content", ["{", "[]", "{}", json.dumps({"_class_name": ["a", "b"]}), "\xff"])
def test_an_index_that_names_nothing_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "model_index.json").write_text(content, encoding="latin-1")
    assert "model_index.json" in refused(tmp_path)


@pytest.mark.parametrize("text", ["me/model@v1/s/t", "me/model/s/t"])
def test_ids_may_name_a_revision_and_a_path(hub, text, tmp_path):  # noqa: F811
    files = {"s/t/model_index.json": b'{"_class_name": "PixArtSigmaPipeline"}'}
    repository = hub.create("me/model", files)
    repository.commit(repository.at("main").files, "a branch", branch="v1")
    assert kind(text, cache_dir=tmp_path) == kind(text.removesuffix("/t"), subfolder="t", cache_dir=tmp_path)
    assert kind(text, cache_dir=tmp_path) == "PixArtSigmaPipeline"
    options = CheckpointOptions(model=text)
    assert (options.model, options.subfolder) == ("me/model", "s/t")
    assert options.revision == ("v1" if "@" in text else None)


def test_a_revision_is_named_once():
    with pytest.raises(
        CheckpointError, match="^--revision v2: --model me/model@v1 names a revision, too; leave one out$"
    ):
        CheckpointOptions(model="me/model@v1", revision="v2")


def test_a_repository_of_another_library_is_none_and_little_is_downloaded(hub, tmp_path):  # noqa: F811
    hub.create("me/bert", {"config.json": b'{"model_type": "bert"}', "model.safetensors": b"x" * 1000})
    assert kind("me/bert", cache_dir=tmp_path) is None
    assert hub.downloads() == ["config.json"]


@pytest.mark.parametrize(
    ("model", "properties", "message"),
    [
        ("other/secret", {"private": True}, "--model other/secret: no such folder, and there is no such repository"),
        ("other/secret", {"gated": True}, "--model other/secret: asks for its licence to be accepted on its page"),
        ("me//model", {}, "--model me//model: no such folder, and not of the form id[@revision][/path]"),
        ("other/secret@v9", {}, "--revision v9 does not exist in other/secret"),
    ],
)
def test_each_failure_of_the_hub_is_one_line(hub, model, properties, message, tmp_path):  # noqa: F811
    hub.create("other/secret", {"model_index.json": b"{}"}, **properties)
    line = refused(model, cache_dir=tmp_path)
    assert line.startswith(message) and line.endswith(" (--token)") == bool(properties)


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("model_index.json", {"_class_name": "FluxPipeline"}, "FluxPipeline"),
        ("transformer/config.json", RELEASED, "PixArtSigmaPipeline"),
        ("config.json", SAVED_LATER, "PixArtSigmaPipeline"),
    ],
)
def test_offline_a_cached_model_is_known(tmp_path, name, content, found):
    model = tmp_path / "model"
    (model / name).parent.mkdir(parents=True)
    (model / name).write_text(json.dumps(content))
    cache(tmp_path / "cache", "me/model", model)
    assert kind("me/model", cache_dir=tmp_path / "cache", local_files_only=True) == found

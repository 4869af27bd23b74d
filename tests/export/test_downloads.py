"""Checkpoints of the Hub and of its download cache: what is asked for, and what serves without network.

Caches are built by hand in the layout of huggingface_hub 0.36; the Hub runs on 127.0.0.1.
"""

import shutil
from functools import partial
from pathlib import Path

import pytest
from huggingface_hub import constants

from optimum_pixart_neuron.checkpoint.layout import ALPHA, SIGMA
from optimum_pixart_neuron.checkpoint.open import fetch_weights, open_checkpoint
from optimum_pixart_neuron.checkpoint.options import CheckpointOptions
from optimum_pixart_neuron.errors import CheckpointError
from tests.refusals import refusal
from tests.tiny import build_tiny_checkpoint

from ..checkpoints import COMMIT, cache, fetched, opened, refused, rewrite
from ..hub.exports import content

ALONE = "PixArt-alpha/PixArt-Sigma-XL-2-512-MS"
REST = SIGMA.components_model


OFFLINE = {
    "--local_files_only": "--local_files_only is given",
    "HF_HUB_OFFLINE": "HF_HUB_OFFLINE is set",
    "no connection": "the Hugging Face Hub cannot be reached",
}
"""Each way of having no network, and what is said of it."""


@pytest.fixture(params=OFFLINE)
def offline(request, monkeypatch, tmp_path) -> dict:
    """The options of each, with the cache."""
    from huggingface_hub.utils import reset_sessions

    if request.param == "HF_HUB_OFFLINE":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    elif request.param == "no connection":
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # discard: nobody listens
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    reset_sessions()
    yield {"cache_dir": tmp_path, "local_files_only": request.param == "--local_files_only"}
    monkeypatch.undo()
    reset_sessions()


def test_a_warm_cache_works_without_network(parts, tmp_path, offline):
    snapshot = cache(tmp_path, ALONE, parts.alone)
    cache(tmp_path, REST, parts.rest)
    checkpoint = fetched(ALONE, **offline)
    assert checkpoint.notes == (f"text_encoder, vae, tokenizer, scheduler from {REST}",)
    source = checkpoint.sources["transformer"]
    assert (source.folder, source.revision, source.address.repository) == (snapshot / "transformer", COMMIT, ALONE)


def test_what_completes_a_transformer_of_pixart_alpha(parts, tmp_path):
    cache(tmp_path / "cache", ALPHA.components_model, parts.rest)
    alone = shutil.copytree(parts.alone, tmp_path / "alpha")
    rewrite(alone / "transformer" / "config.json", sample_size=128)  # which has conditions
    checkpoint = opened(alone, cache_dir=tmp_path / "cache", local_files_only=True)
    assert checkpoint.kind is ALPHA
    assert checkpoint.notes[0] == f"text_encoder, vae, tokenizer, scheduler from {ALPHA.components_model}"


def test_a_cold_cache_names_the_files(parts, tmp_path, offline, request):
    assert refused(ALONE, **offline) == (
        f"{OFFLINE[request.node.callspec.id]}, and the download cache {tmp_path} lacks {ALONE}:"
        " text_encoder/config.json, text_encoder/model.safetensors, transformer/config.json,"
        " transformer/diffusion_pytorch_model.safetensors, vae/config.json and 4 more"
    )
    cache(tmp_path, ALONE, parts.alone)
    assert f" lacks {REST}: text_encoder/" in refused(ALONE, **offline)


def test_a_plan_of_a_cold_cache_names_no_weights(parts, tmp_path, offline):
    plan = partial(open_checkpoint, weights=False)

    def lacking() -> list[str]:
        line = refusal(CheckpointError, plan, CheckpointOptions(model=ALONE, **offline))
        return line.split(" lacks ")[1].split(": ")[1].split(", ")

    assert lacking()[:3] == ["text_encoder/config.json", "transformer/config.json", "vae/config.json"]
    snapshot = cache(tmp_path, ALONE, parts.whole)
    (snapshot / "vae" / "config.json").unlink()
    for weights in snapshot.glob("*/*.safetensors"):
        weights.unlink()
    assert lacking() == ["vae/config.json"]
    shutil.rmtree(snapshot.parents[1])
    cache(tmp_path, ALONE, parts.alone)  # what completes it is not there
    assert ".safetensors" not in "".join(lacking())


@pytest.mark.seconds
def test_a_cache_with_some_files_names_the_others(tmp_path):
    pieces = build_tiny_checkpoint(tmp_path / "pieces", max_shard_size="150KB")
    asked = {"cache_dir": tmp_path / "cache", "local_files_only": True}
    snapshot = cache(asked["cache_dir"], "me/pixart", pieces)
    (snapshot / "vae" / "diffusion_pytorch_model.safetensors.index.json").unlink()
    dangling = sorted((snapshot / "transformer").glob("*.safetensors"))[1]
    dangling.resolve().unlink()
    absent = sorted((snapshot / "text_encoder").glob("*.safetensors"))[0]
    absent.unlink()
    opened("me/pixart", **asked)  # the configurations are there: a plan needs no more
    assert refused("me/pixart", **asked).split(" lacks ")[1] == (
        f"me/pixart: text_encoder/{absent.name}, transformer/{dangling.name}, vae/diffusion_pytorch_model.safetensors"
    )
    # A pipeline's own component is not replaced by another's because it is not in the cache.
    shutil.rmtree(snapshot / "vae")
    (snapshot / "tokenizer" / "spiece.model").unlink()
    lacking = refused("me/pixart", components_model=pieces, **asked).split(" lacks ")[1]
    assert lacking.endswith("vae/config.json, vae/diffusion_pytorch_model.safetensors, tokenizer/spiece.model")


# The Hub.


def upload(hub, repository: str, folder: Path, **properties):
    return hub.create(repository, content(folder), **properties)


def test_only_what_is_used_is_downloaded_and_a_second_run_needs_no_network(hub, parts, tmp_path):
    upload(hub, ALONE, parts.alone)
    upload(hub, REST, parts.rest)
    opened(ALONE, cache_dir=tmp_path / "cache")
    assert [name for name in hub.downloads() if name.endswith(".safetensors")] == []
    checkpoint = fetched(ALONE, cache_dir=tmp_path / "cache")
    unused = {".gitattributes"}
    assert set(hub.downloads()) == {*hub.files(ALONE), *hub.files(REST)} - unused
    assert checkpoint.sources["vae"].revision == hub.repositories[REST].refs["main"]
    hub.requests.clear()
    fetched(ALONE, cache_dir=tmp_path / "cache", local_files_only=True)
    assert hub.requests == []


def test_components_of_a_pipeline_that_are_replaced_are_not_downloaded(hub, parts, tmp_path):
    upload(hub, "me/pipeline", parts.whole)
    upload(hub, "me/tuned", parts.alone / "transformer")
    checkpoint = fetched("me/pipeline", transformer="me/tuned", cache_dir=tmp_path / "cache")
    assert not any(name.startswith("transformer/") for name in hub.downloads())
    assert checkpoint.sources["transformer"].address.path == ""
    assert checkpoint.notes == ("transformer from me/tuned",)


def test_a_revision_and_a_path_of_a_replacement(hub, parts, tmp_path):
    upload(hub, "me/pipeline", parts.whole)
    tuned = upload(hub, "me/tuned", parts.alone)
    nested = {name.replace("transformer/", "steps/9/"): file for name, file in tuned.at("main").files.items()}
    tuned.commit(nested, "steps", branch="v1")
    checkpoint = opened("me/pipeline", transformer="me/tuned@v1/steps/9", cache_dir=tmp_path / "cache")
    source = checkpoint.sources["transformer"]
    assert (source.revision, source.address.path) == (tuned.refs["v1"], "steps/9")
    assert source.model == "me/tuned@v1/steps/9"
    assert refused("me/pipeline", transformer="me/tuned@v2", cache_dir=tmp_path / "cache") == (
        "--transformer: revision v2 does not exist in me/tuned"
    )
    assert refused("me/pipeline", revision="v3", cache_dir=tmp_path / "cache") == (
        "--revision v3 does not exist in me/pipeline"
    )


def test_revision_cache_and_token_reach_every_download(hub, parts, tmp_path, monkeypatch):
    """Of four private repositories with nothing on their main branch; nobody is logged in."""
    monkeypatch.delenv("HF_TOKEN")
    folders = {"pipeline": parts.rest, "tuned": parts.alone, "t5": parts.rest / "text_encoder", "rest": parts.rest}
    for name, folder in folders.items():
        repository = upload(hub, f"user/{name}", folder, private=True)
        files = repository.at("main").files
        taken = {path: file for path, file in files.items() if name == "rest" or not path.startswith("vae/")}
        repository.commit(taken, "the one to take", branch="v1")
        repository.commit({}, "all gone")
    named = {"transformer": "user/tuned@v1", "text_encoder": "user/t5@v1", "components_model": "user/rest@v1"}
    asked = {"revision": "v1", **named, "cache_dir": tmp_path / "cache", "token": "hf_writer"}
    sources = fetched("user/pipeline", **asked).sources
    assert {name: source.address.repository.removeprefix("user/") for name, source in sources.items()} == {
        **{"transformer": "tuned", "text_encoder": "t5", "vae": "rest"},
        **{"tokenizer": "pipeline", "scheduler": "pipeline"},
    }
    assert not Path(constants.HF_HUB_CACHE).exists()


def test_weights_are_of_the_commit_of_the_configurations(hub, parts, tmp_path):
    repository = upload(hub, "me/pipeline", parts.whole)
    asked = CheckpointOptions(model="me/pipeline", cache_dir=tmp_path / "cache")
    checkpoint = open_checkpoint(asked)
    first = repository.refs["main"]
    repository.commit({".gitattributes": repository.at("main").files[".gitattributes"]}, "all gone")
    fetch_weights(asked, checkpoint)
    assert {source.revision for source in checkpoint.sources.values()} == {first}


def test_weights_that_only_the_hub_has_are_judged_before_a_download(hub, parts, whole, tmp_path):
    (whole / "text_encoder" / "model.safetensors").rename(whole / "text_encoder" / "pytorch_model.bin")
    upload(hub, "me/pickled", whole)
    line = refused("me/pickled", cache_dir=tmp_path / "cache")
    assert line.startswith("me/pickled/text_encoder holds only .bin weights; pickled files can run code")
    assert not any(name.endswith((".bin", ".safetensors")) for name in hub.downloads())

"""Checkpoints as people have them: a transformer alone, several sources, variants, shards, a cache without network.

The tiny checkpoint stands for all of them, cut up and renamed. Caches are built by hand in the layout of
huggingface_hub 0.36; the Hub of the other tests runs on 127.0.0.1.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from optimum_pixart_neuron.checkpoint import fetch
from optimum_pixart_neuron.checkpoint import open as opening
from optimum_pixart_neuron.checkpoint.address import Address
from optimum_pixart_neuron.checkpoint.layout import ALPHA, SIGMA
from optimum_pixart_neuron.checkpoint.open import fetch_weights, open_checkpoint
from optimum_pixart_neuron.checkpoint.weights import ComponentWeights, WeightNames
from optimum_pixart_neuron.components.registry import PARTS
from optimum_pixart_neuron.errors import CheckpointError
from optimum_pixart_neuron.export.options import ExportOptions
from tests.tiny import build_tiny_checkpoint

from ..checkpoints import COMMIT, Parts, cache, rewrite
from ..e2e.conftest import describe
from ..hub.conftest import hub  # noqa: F401
from ..hub.exports import content

ALONE = "PixArt-alpha/PixArt-Sigma-XL-2-512-MS"
COMPONENTS = tuple(PARTS)
COMPONENTS_MODEL = SIGMA.components_model
WEIGHT_STEMS = {name: part.weights for name, part in PARTS.items() if part.weights is not None}
REST = ("text_encoder", "vae", "tokenizer", "scheduler")


@pytest.fixture(scope="module")
def parts(tiny_checkpoint, tmp_path_factory) -> Parts:
    return Parts.of(tiny_checkpoint, tmp_path_factory.mktemp("parts"))


@pytest.fixture
def whole(tiny_checkpoint, tmp_path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "whole"))


def opened(model, **options):
    return open_checkpoint(request(model, **options))


def texts(options: dict) -> dict:
    return {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}


def request(model, **options) -> ExportOptions:
    return ExportOptions(model=str(model), output=Path("out"), **texts(options))


def refusal(model, **options) -> str:
    """The one line with which opening the checkpoint or finding its weights is refused."""
    with pytest.raises(CheckpointError) as refused:
        checkpoint = opened(model, **options)
        checkpoint.check_copied()
        fetch_weights(request(model, **options), checkpoint)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def origins(checkpoint) -> dict[str, str]:
    return {name: checkpoint.sources[name].model for name in COMPONENTS}


# Which component comes from where.


@pytest.fixture
def asked(parts, monkeypatch) -> list[tuple]:
    """The repositories that are asked for, and what of each; all that they hold is everything but a transformer."""
    found = []

    def locate(address, components, options):
        if address.repository is not None:
            found.append((address.repository, address.revision, tuple(components)))
            address = Address(flag=address.flag, name=address.name, folder=parts.rest)
        return fetch.locate(address, components, options)

    monkeypatch.setattr(opening, "locate", locate)
    return found


def test_the_default_completes_a_transformer_alone(parts, asked, tmp_path):
    assert opened(parts.alone).notes == (f"text_encoder, vae, tokenizer, scheduler from {COMPONENTS_MODEL}",)
    shutil.copytree(parts.alone, tmp_path / "alpha")
    rewrite(tmp_path / "alpha" / "transformer" / "config.json", sample_size=128)  # which has conditions
    assert opened(tmp_path / "alpha").kind is ALPHA
    assert asked == [(COMPONENTS_MODEL, None, REST), (ALPHA.components_model, None, REST)]


def test_a_whole_checkpoint_is_taken_as_it_is(parts):
    checkpoint = opened(parts.whole)
    assert set(origins(checkpoint).values()) == {str(parts.whole)}
    assert checkpoint.notes == ()
    assert checkpoint.model_index == json.loads((parts.whole / "model_index.json").read_text())
    assert {name: source.folder for name, source in checkpoint.sources.items()} == {
        name: parts.whole / name for name in COMPONENTS
    }


@pytest.mark.parametrize(
    ("below", "options"),
    [("", {}), ("transformer", {}), ("", {"subfolder": "transformer"})],
    ids=["folder", "bare", "subfolder"],
)
def test_a_transformer_alone_is_completed(parts, below, options):
    model = parts.alone / below
    checkpoint = opened(model, components_model=parts.rest, **options)
    assert origins(checkpoint) == {"transformer": str(model), **dict.fromkeys(REST, str(parts.rest))}
    assert checkpoint.sources["transformer"].folder == parts.alone / "transformer"
    assert checkpoint.notes == (f"text_encoder, vae, tokenizer, scheduler from {parts.rest}",)
    assert checkpoint.model_index == {
        "_class_name": "PixArtSigmaPipeline",
        "_diffusers_version": "0.22.0.dev0",
        "scheduler": ["diffusers", "DPMSolverMultistepScheduler"],
        "text_encoder": ["transformers", "T5EncoderModel"],
        "tokenizer": ["transformers", "T5Tokenizer"],
        "transformer": ["diffusers", "PixArtTransformer2DModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }


def test_what_a_checkpoint_without_index_has_goes_before_the_components(parts, tmp_path):
    shutil.copytree(parts.alone / "transformer", tmp_path / "transformer")
    shutil.copytree(parts.rest / "vae", tmp_path / "vae")
    (tmp_path / "scheduler").mkdir()
    (tmp_path / "scheduler" / "scheduler_config.json").write_text('{"_class_name": "UniPCMultistepScheduler"}')
    checkpoint = opened(tmp_path, components_model=parts.rest)
    assert {name for name, model in origins(checkpoint).items() if model == str(tmp_path)} == {
        *("transformer", "vae", "scheduler")
    }
    assert checkpoint.notes == (f"text_encoder, tokenizer from {parts.rest}",)
    assert checkpoint.model_index["scheduler"] == ["diffusers", "UniPCMultistepScheduler"]


def test_all_components_without_an_index_are_a_checkpoint(whole):
    index = json.loads((whole / "model_index.json").read_text())
    (whole / "model_index.json").unlink()
    checkpoint = opened(whole)
    assert (checkpoint.notes, checkpoint.model_index) == ((), index)


@pytest.mark.parametrize("below", ["", "transformer"])
def test_a_transformer_of_the_users(parts, below):
    mine = parts.alone / below
    for base in (parts.whole, parts.rest):  # the second as diffusers' documentation completes it
        checkpoint = opened(base, transformer=mine)
        assert origins(checkpoint) == {**dict.fromkeys(REST, str(base)), "transformer": str(mine)}
        assert checkpoint.notes[0] == f"transformer from {mine}"
        assert checkpoint.model_index["_class_name"] == "PixArtSigmaPipeline"


@pytest.mark.parametrize("below", ["", "text_encoder"])
def test_a_text_encoder_of_the_users(parts, below):
    mine = parts.rest / below
    checkpoint = opened(parts.whole, text_encoder=mine)
    assert checkpoint.sources["text_encoder"].folder == parts.rest / "text_encoder"
    assert checkpoint.notes == (f"text_encoder from {mine}",)
    both = opened(parts.alone, text_encoder=parts.whole, components_model=parts.rest)
    assert both.notes == (f"text_encoder from {parts.whole}", f"vae, tokenizer, scheduler from {parts.rest}")


def test_a_checkpoint_that_says_it_is_whole_is_completed_only_when_asked(parts, whole):
    shutil.rmtree(whole / "vae")
    assert refusal(whole) == (
        f"{whole} has no vae; an export needs it, from another checkpoint with --components_model"
    )
    assert opened(whole, components_model=parts.rest).notes == (f"vae from {parts.rest}",)


def test_a_vae_of_another_kind_is_said(parts, whole):
    rewrite(whole / "vae" / "config.json", scaling_factor=0.18215)
    (note,) = [note for note in opened(parts.alone, components_model=whole).notes if "scaling_factor" in note]
    assert f"the vae of {whole} has scaling_factor 0.18215, PixArt-Sigma was trained with 0.13025" in note
    assert opened(whole).notes == ()


def test_what_diffusers_fills_in_and_pipelines_read_is_stated(whole):
    for part, key, default in (("transformer", "out_channels", 8), ("vae", "scaling_factor", 0.18215)):
        rewrite(whole / part / "config.json", **{key: None})
        assert opened(whole).config(part)[key] == default


@pytest.mark.parametrize(
    ("text", "repository", "revision", "path"),
    [
        ("me/tuned", "me/tuned", None, ""),
        ("me/tuned@v1.0", "me/tuned", "v1.0", ""),
        ("me/tuned@refs/pr/3", "me/tuned", "refs/pr/3", ""),
        ("me/tuned@refs/pr/3/step-9/transformer", "me/tuned", "refs/pr/3", "step-9/transformer"),
        ("me/tuned@feature%2Fx/step-9", "me/tuned", "feature/x", "step-9"),
        ("me/tuned/step-9/transformer/", "me/tuned", None, "step-9/transformer"),
        ("t5-small@main", "t5-small", "main", ""),
    ],
)
def test_ids_may_name_a_revision_and_a_path(text, repository, revision, path):
    address = Address.parse("--transformer", text)
    assert (address.repository, address.revision, address.path) == (repository, revision, path)
    assert (address.folder, address.name) == (None, text)


# What does not fit.


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        (
            "text_encoder/config.json",
            {"d_model": 96},
            "the text_encoder of {whole} has d_model 96, the transformer of {alone} has caption_channels 64: they do"
            " not fit; choose another --text_encoder or --transformer",
        ),
        (
            "vae/config.json",
            {"latent_channels": 16},
            "the vae of {whole} has latent_channels 16, the transformer of {alone} has in_channels 4: they do not fit;"
            " choose another --transformer",
        ),
        (
            "text_encoder/config.json",
            {"vocab_size": 300},
            "the text_encoder of {whole} has vocab_size 300, the tokenizer of {whole} gives token {last}: they do not"
            " fit; choose another --text_encoder",
        ),
        (
            "text_encoder/config.json",
            {"model_type": "clip_text_model"},
            "{whole}/text_encoder/config.json is of a clip_text_model, which is no text_encoder of PixArt",
        ),
    ],
)
def test_components_that_do_not_fit_are_refused_with_both_sizes(parts, whole, file, changes, message):
    from transformers import AutoTokenizer

    last = max(AutoTokenizer.from_pretrained(whole / "tokenizer").get_vocab().values())
    rewrite(whole / file, **changes)
    found = refusal(whole, transformer=parts.alone)
    assert found == message.format(whole=whole, alone=parts.alone, last=last)


@pytest.mark.parametrize("changes", [{"use_additional_conditions": True, "sample_size": 128}, {"sample_size": 128}])
def test_a_transformer_of_pixart_alpha_is_refused(parts, tmp_path, changes):
    shutil.copytree(parts.alone, tmp_path / "alpha")
    rewrite(tmp_path / "alpha" / "transformer" / "config.json", **changes)
    line = refusal(parts.whole, transformer=tmp_path / "alpha")
    assert "asks for use_additional_conditions, image size and aspect ratio, as PixArt-Alpha has them" in line


def test_what_is_whole_is_what_it_calls_itself_and_what_is_put_together_what_its_parts_are_for(parts, tmp_path):
    assert opened(parts.whole).kind is SIGMA
    alpha = Path(shutil.copytree(parts.whole, tmp_path / "alpha"))
    rewrite(alpha / "model_index.json", _class_name="PixArtAlphaPipeline")
    assert opened(alpha).kind is ALPHA
    assert opened(alpha).model_index["_class_name"] == "PixArtAlphaPipeline"
    assert opened(alpha, transformer=parts.alone).kind is SIGMA  # by the VAE's scaling
    assert opened(parts.alone, components_model=parts.rest).kind is SIGMA
    rewrite(alpha / "vae" / "config.json", scaling_factor=0.18215)
    assert opened(alpha, transformer=parts.alone).kind is ALPHA
    config = alpha / "transformer" / "config.json"
    rewrite(config, sample_size=128, use_additional_conditions=None)  # which has conditions, without a word
    assert opened(alpha).kind is ALPHA
    assert opened(alpha / "transformer", components_model=parts.rest).kind is ALPHA
    rewrite(config, sample_size=64, use_additional_conditions=True)
    assert "use_additional_conditions at sample_size 64; diffusers passes them at 128" in refusal(alpha)


def test_what_is_no_checkpoint_is_refused_under_its_flag(parts, tmp_path):
    assert refusal(parts.whole, transformer=parts.whole / "vae") == (
        f"--transformer {parts.whole / 'vae'} holds no transformer/, and is no transformer of PixArt by its"
        " config.json"
    )
    assert "--text_encoder" in refusal(parts.whole, text_encoder=parts.alone)
    assert refusal(parts.whole, transformer=tmp_path / "gone").startswith(f"--transformer {tmp_path / 'gone'}: no")
    line = refusal(parts.alone, components_model=parts.alone)
    assert line.startswith(f"neither {parts.alone} nor --components_model {parts.alone} has a text_encoder; ")
    assert refusal(parts.rest).startswith(f"{parts.rest} has no transformer; an export needs it, from another")
    assert "--transformer me//x: no such folder, and not of the form id" in refusal(parts.whole, transformer="me//x")
    (tmp_path / "tokenizer").mkdir()
    assert refusal(tmp_path, components_model=parts.whole).endswith("of PixArtSigmaPipeline or PixArtAlphaPipeline")


def test_components_that_pixart_sigma_lacks_are_left_out_and_named(whole):
    """diffusers loads them nowhere; nothing of their folders is read."""
    more = {"feature_extractor": ["evil", "Evil"], "tokenizer_2": ["transformers", "T5Tokenizer"]}
    rewrite(whole / "model_index.json", **more)
    for name in more:
        (whole / name).mkdir()
        (whole / name / "evil.py").write_text("raise SystemExit('it ran')")
    checkpoint = opened(whole)
    (note,) = checkpoint.notes
    assert all(name in note for name in more)
    assert set(checkpoint.model_index) == {"_class_name", "_diffusers_version", *COMPONENTS}


def test_the_fast_tokenizer_counts_as_the_slow_one(whole):
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained(whole / "tokenizer", use_fast=True).save_pretrained(whole / "tokenizer")
    rewrite(whole / "text_encoder" / "config.json", vocab_size=300)
    slow = refusal(whole)
    (whole / "tokenizer" / "spiece.model").unlink()
    assert refusal(whole) == slow


def test_what_is_recorded_is_what_was_read(whole, tmp_path):
    """Whatever becomes of the originals while the components are compiled."""
    from optimum_pixart_neuron.export.exporter import _copy
    from optimum_pixart_neuron.files import full_digest

    checkpoint = opened(whole)
    original = whole / "scheduler" / "scheduler_config.json"
    before = full_digest(original)
    rewrite(original, beta_end=0.5)
    copied = _copy(checkpoint, tmp_path / "out")
    assert copied["scheduler"].files["scheduler_config.json"].sha256 == before
    assert full_digest(tmp_path / "out" / "scheduler" / "scheduler_config.json") == before


# Weight files.


@pytest.mark.parametrize("variant", [None, "fp16"])
@pytest.mark.parametrize("size", ["150KB", "10GB"])
def test_files_as_save_pretrained_writes_them(parts, tmp_path, variant, size):
    folder = build_tiny_checkpoint(tmp_path / "saved", variant=variant, max_shard_size=size)
    checkpoint = opened(folder, variant=variant)
    fetch_weights(request(folder, variant=variant), checkpoint)
    for component, stem in WEIGHT_STEMS.items():
        weights = checkpoint.weights(component)
        original = load_file(parts.whole / component / f"{stem}.safetensors")
        assert set(weights.files) == set(original)
        assert all(torch.equal(weights.read(name), original[name]) for name in original)
        assert len(set(weights.files.values())) == 1 or size == "150KB"
        named = WeightNames.among(checkpoint.sources[component].files, stem, variant)
        assert {path.name for path in weights.files.values()} == set(named.files)


def test_a_sharded_variant_as_diffusers_wrote_it_before(parts, tmp_path):
    folder = build_tiny_checkpoint(tmp_path / "saved", variant="fp16", max_shard_size="150KB") / "transformer"
    stem = WEIGHT_STEMS["transformer"]
    index = folder / f"{stem}.safetensors.index.fp16.json"
    text = index.read_text()
    for shard in folder.glob("*.safetensors"):
        former = shard.name.replace(".fp16", "").replace(".safetensors", ".fp16.safetensors")
        text = text.replace(shard.name, former)
        shard.rename(folder / former)
    index.unlink()
    (folder / f"{stem}.safetensors.fp16.index.json").write_text(text)
    names = [path.name for path in folder.iterdir()]
    weights = ComponentWeights.find(folder, stem, "fp16")
    assert {path.name for path in weights.files.values()} == set(WeightNames.among(names, stem, "fp16").files)
    assert set(weights.files) == set(load_file(parts.whole / "transformer" / f"{stem}.safetensors"))


def test_a_variant_that_only_some_components_have(parts, whole):
    folder = whole / "transformer"
    (folder / "diffusion_pytorch_model.safetensors").rename(folder / "diffusion_pytorch_model.fp16.safetensors")
    checkpoint = opened(whole, variant="fp16")
    fetch_weights(request(whole, variant="fp16"), checkpoint)
    assert checkpoint.notes == ("text_encoder, vae: no fp16 weights, the plain ones are taken",)
    assert {name: checkpoint.sources[name].variant for name in WEIGHT_STEMS} == {
        "text_encoder": None,
        "transformer": "fp16",
        "vae": None,
    }
    assert "diffusion_pytorch_model.safetensors is missing (found diffusion_pytorch_model.fp16.safetensors" in refusal(
        whole
    )
    assert "model.bf16.safetensors is missing (found model.safetensors; change --variant)" in refusal(
        whole, variant="bf16"
    )


def test_former_names_of_the_vaes_attention(whole):
    """As diffusers reads them, which renames them while it loads."""
    (path,) = (whole / "vae").glob("*.safetensors")
    today = load_file(path)
    former = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    renamed = {}
    for name, tensor in today.items():
        for new, old in former.items():
            name = name.replace(new, old)
        renamed[name] = tensor
    assert len(set(renamed) - set(today)) == 16  # weights and biases of the encoder's and the decoder's
    save_file(renamed, path)
    weights = opened(whole).weights("vae")
    assert set(weights.files) == set(today)
    assert all(torch.equal(weights.read(name), today[name]) for name in today)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model.bin.index.json"])
def test_pickled_weights_are_refused_with_the_reason(whole, name):
    (whole / "text_encoder" / name).touch()
    assert "model.fp16.safetensors is missing (found model.safetensors" in refusal(whole, variant="fp16")
    fetch_weights(request(whole), opened(whole))
    (whole / "text_encoder" / "model.safetensors").unlink()
    assert refusal(whole) == (
        f"{whole / 'text_encoder'} holds only .bin weights; pickled files can run code, convert them to"
        " model.safetensors first"
    )


def test_quantised_weights_are_refused(whole):
    file = whole / "transformer" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    weights["proj_out.weight"] = weights["proj_out.weight"].to(torch.int8)
    save_file(weights, file)
    found = opened(whole).weights("transformer")
    with pytest.raises(CheckpointError, match="weight proj_out.weight is stored as I8; .* before it was quantised"):
        found.shape("proj_out.weight")


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """The weight files of two ranks without the compilation: `shards(model, **options)` -> {component/file: bytes}."""
    from optimum_pixart_neuron.neuron.sdk import ensure_sdk

    ensure_sdk()

    def write(model, **options) -> dict[str, bytes]:
        from optimum_pixart_neuron.parallel.shard_writer import write_shards

        folder = tmp_path_factory.mktemp("shards")
        _, components = describe(model, tensor_parallel_size=2, **texts(options))
        for name, component in components.items():
            files = [folder / name / f"{rank}.safetensors" for rank in range(component.ranks)]
            write_shards(component.weights(), component.read_weight, files, title="")
        return content(folder)

    return write


@pytest.mark.seconds
def test_shards_are_the_same_wherever_the_components_come_from(parts, shards, tmp_path):
    expected = shards(parts.whole)
    assert {name.split("/")[0] for name in expected} == {"text_encoder", "transformer", "vae_decoder"}
    assert shards(parts.alone, components_model=parts.rest) == expected
    assert shards(parts.rest, transformer=parts.alone / "transformer") == expected
    pieces = build_tiny_checkpoint(tmp_path / "pieces", max_shard_size="150KB")
    assert shards(pieces) == expected
    other = build_tiny_checkpoint(tmp_path / "other", seed=7)
    assert shards(other, text_encoder=parts.whole, transformer=parts.whole, components_model=parts.whole) != expected


@pytest.mark.seconds
@pytest.mark.parametrize(
    ("stored", "wanted"), [(torch.float16, "bfloat16"), (torch.bfloat16, "float32"), (torch.float32, "bfloat16")]
)
def test_weights_of_any_float_type_are_cast_to_the_exports(shards, tmp_path, stored, wanted):
    folder = build_tiny_checkpoint(tmp_path / "stored", dtype=stored)
    source = load_file(folder / "transformer" / "diffusion_pytorch_model.safetensors")
    assert source["proj_out.weight"].dtype == stored
    expected = {name: tensor.to(getattr(torch, wanted)) for name, tensor in source.items()}
    written = tmp_path / "rank0.safetensors"
    written.write_bytes(shards(folder, torch_dtype=wanted)["transformer/0.safetensors"])
    found = load_file(written)
    assert set(expected) <= set(found)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


# The download cache without network.


@pytest.fixture(params=["--local_files_only", "HF_HUB_OFFLINE", "no connection"])
def offline(request, monkeypatch) -> dict:
    """Each way of having no network, as options."""
    from huggingface_hub.utils import reset_sessions

    if request.param == "--local_files_only":
        yield {"local_files_only": True}
        return
    if request.param == "HF_HUB_OFFLINE":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    else:
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # discard: nobody listens
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    reset_sessions()
    yield {}
    monkeypatch.undo()
    reset_sessions()


def test_a_warm_cache_works_without_network(parts, tmp_path, offline):
    snapshot = cache(tmp_path, ALONE, parts.alone)
    cache(tmp_path, COMPONENTS_MODEL, parts.rest)
    checkpoint = opened(ALONE, cache_dir=tmp_path, **offline)
    fetch_weights(request(ALONE, cache_dir=tmp_path, **offline), checkpoint)
    assert checkpoint.notes == (f"text_encoder, vae, tokenizer, scheduler from {COMPONENTS_MODEL}",)
    source = checkpoint.sources["transformer"]
    assert (source.folder, source.revision, source.address.repository) == (snapshot / "transformer", COMMIT, ALONE)


def test_a_cold_cache_names_the_files(parts, tmp_path, offline):
    reason = {
        "--local_files_only": "--local_files_only is given",
        "HF_HUB_OFFLINE": "HF_HUB_OFFLINE is set",
        "": "the Hugging Face Hub cannot be reached",
    }["--local_files_only" if offline else "HF_HUB_OFFLINE" if constants.HF_HUB_OFFLINE else ""]
    assert refusal(ALONE, cache_dir=tmp_path, **offline) == (
        f"{reason}, and the download cache {tmp_path} lacks {ALONE}: text_encoder/config.json,"
        " text_encoder/model.safetensors, transformer/config.json,"
        " transformer/diffusion_pytorch_model.safetensors, vae/config.json and 4 more"
    )
    cache(tmp_path, ALONE, parts.alone)
    assert f" lacks {COMPONENTS_MODEL}: text_encoder/" in refusal(ALONE, cache_dir=tmp_path, **offline)


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
    checkpoint = opened("me/pixart", **asked)  # the configurations are there: a plan needs no more
    with pytest.raises(CheckpointError) as refused:
        fetch_weights(request("me/pixart", **asked), checkpoint)
    lacking = str(refused.value).split(" lacks ")[1]
    assert lacking == (
        f"me/pixart: text_encoder/{absent.name}, transformer/{dangling.name}, vae/diffusion_pytorch_model.safetensors"
    )
    # A pipeline's own component is not replaced by another's because it is not in the cache.
    shutil.rmtree(snapshot / "vae")
    (snapshot / "tokenizer" / "spiece.model").unlink()
    lacking = refusal("me/pixart", components_model=pieces, **asked).split(" lacks ")[1]
    assert lacking.endswith("vae/config.json, vae/diffusion_pytorch_model.safetensors, tokenizer/spiece.model")


# The Hub.


def upload(hub, repository: str, folder: Path, **properties):  # noqa: F811
    return hub.create(repository, content(folder), **properties)


def test_only_what_is_used_is_downloaded_and_a_second_run_needs_no_network(hub, parts, tmp_path):  # noqa: F811
    upload(hub, ALONE, parts.alone)
    upload(hub, COMPONENTS_MODEL, parts.rest)
    asked = request(ALONE, cache_dir=tmp_path / "cache")
    checkpoint = open_checkpoint(asked)
    assert [name for name in hub.downloads() if name.endswith(".safetensors")] == []
    fetch_weights(asked, checkpoint)
    unused = {".gitattributes"}
    assert set(hub.downloads()) == {*hub.files(ALONE), *hub.files(COMPONENTS_MODEL)} - unused
    assert checkpoint.sources["vae"].revision == hub.repositories[COMPONENTS_MODEL].refs["main"]
    hub.requests.clear()
    again = request(ALONE, cache_dir=tmp_path / "cache", local_files_only=True)
    fetch_weights(again, open_checkpoint(again))
    assert hub.requests == []


def test_components_of_a_pipeline_that_are_replaced_are_not_downloaded(hub, parts, tmp_path):  # noqa: F811
    upload(hub, "me/pipeline", parts.whole)
    upload(hub, "me/tuned", parts.alone / "transformer")
    asked = request("me/pipeline", transformer="me/tuned", cache_dir=tmp_path / "cache")
    checkpoint = open_checkpoint(asked)
    fetch_weights(asked, checkpoint)
    assert not any(name.startswith("transformer/") for name in hub.downloads())
    assert checkpoint.sources["transformer"].address.path == ""
    assert checkpoint.notes == ("transformer from me/tuned",)


def test_a_revision_and_a_path_of_a_replacement(hub, parts, tmp_path):  # noqa: F811
    upload(hub, "me/pipeline", parts.whole)
    tuned = upload(hub, "me/tuned", parts.alone)
    nested = {name.replace("transformer/", "steps/9/"): file for name, file in tuned.at("main").files.items()}
    tuned.commit(nested, "steps", branch="v1")
    checkpoint = opened("me/pipeline", transformer="me/tuned@v1/steps/9", cache_dir=tmp_path / "cache")
    source = checkpoint.sources["transformer"]
    assert (source.revision, source.address.path) == (tuned.refs["v1"], "steps/9")
    assert source.model == "me/tuned@v1/steps/9"
    assert refusal("me/pipeline", transformer="me/tuned@v2", cache_dir=tmp_path / "cache") == (
        "--transformer: revision v2 does not exist in me/tuned"
    )
    assert refusal("me/pipeline", revision="v3", cache_dir=tmp_path / "cache") == (
        "--revision v3 does not exist in me/pipeline"
    )


def test_revision_cache_and_token_reach_every_download(hub, parts, tmp_path, monkeypatch):  # noqa: F811
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
    asked = request("user/pipeline", revision="v1", **named, cache_dir=tmp_path / "cache", token="hf_writer")
    checkpoint = open_checkpoint(asked)
    fetch_weights(asked, checkpoint)
    assert {name: source.address.repository for name, source in checkpoint.sources.items()} == {
        **dict.fromkeys(COMPONENTS, "user/pipeline"),
        **{"transformer": "user/tuned", "text_encoder": "user/t5", "vae": "user/rest"},
    }
    assert not Path(constants.HF_HUB_CACHE).exists()


def test_weights_are_of_the_commit_of_the_configurations(hub, parts, tmp_path):  # noqa: F811
    repository = upload(hub, "me/pipeline", parts.whole)
    asked = request("me/pipeline", cache_dir=tmp_path / "cache")
    checkpoint = open_checkpoint(asked)
    first = repository.refs["main"]
    repository.commit({".gitattributes": repository.at("main").files[".gitattributes"]}, "all gone")
    fetch_weights(asked, checkpoint)
    assert {source.revision for source in checkpoint.sources.values()} == {first}


def test_weights_that_only_the_hub_has_are_judged_before_a_download(hub, parts, whole, tmp_path):  # noqa: F811
    (whole / "text_encoder" / "model.safetensors").rename(whole / "text_encoder" / "pytorch_model.bin")
    upload(hub, "me/pickled", whole)
    line = refusal("me/pickled", cache_dir=tmp_path / "cache")
    assert line.startswith("me/pickled/text_encoder holds only .bin weights; pickled files can run code")
    assert not any(name.endswith((".bin", ".safetensors")) for name in hub.downloads())

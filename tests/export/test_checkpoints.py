"""Checkpoints as people have them: a transformer alone, several sources, and what does not fit together.

The tiny checkpoint stands for all of them, cut up and renamed.
"""

import json
import shutil
from pathlib import Path

import pytest

from optimum_pixart_neuron.checkpoint.address import Address
from optimum_pixart_neuron.checkpoint.layout import ALPHA, SIGMA
from optimum_pixart_neuron.export.fingerprints import Fingerprints

from ..checkpoints import cache, opened, refused, rewrite
from ..lora.adapters import matrices, weights_of, write_diffusers

REST = ("text_encoder", "vae", "tokenizer", "scheduler")


def origins(checkpoint) -> dict[str, str]:
    return {name: source.model for name, source in checkpoint.sources.items()}


def index_of(folder: Path) -> dict:
    return json.loads((folder / "model_index.json").read_text())


# Which component comes from where.


def test_a_whole_checkpoint_is_taken_as_it_is(parts):
    checkpoint = opened(parts.whole)
    assert (checkpoint.notes, checkpoint.model_index) == ((), index_of(parts.whole))
    assert origins(checkpoint) == dict.fromkeys(("transformer", *REST), str(parts.whole))
    assert all(source.folder == parts.whole / name for name, source in checkpoint.sources.items())


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
    assert checkpoint.model_index == {**index_of(parts.whole), "_diffusers_version": "0.22.0.dev0"}


def test_what_a_checkpoint_without_index_has_goes_before_the_components(parts, tmp_path):
    shutil.copytree(parts.alone / "transformer", tmp_path / "transformer")
    shutil.copytree(parts.rest / "vae", tmp_path / "vae")
    (tmp_path / "scheduler").mkdir()
    (tmp_path / "scheduler" / "scheduler_config.json").write_text('{"_class_name": "UniPCMultistepScheduler"}')
    checkpoint = opened(tmp_path, components_model=parts.rest)
    own = ("transformer", "vae", "scheduler")
    assert {name for name, model in origins(checkpoint).items() if model == str(tmp_path)} == set(own)
    assert checkpoint.notes == (f"text_encoder, tokenizer from {parts.rest}",)
    assert checkpoint.model_index["scheduler"] == ["diffusers", "UniPCMultistepScheduler"]


def test_all_components_without_an_index_are_a_checkpoint(whole):
    index = index_of(whole)
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
    assert refused(whole) == (
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
    found = refused(whole, transformer=parts.alone)
    assert found == message.format(whole=whole, alone=parts.alone, last=last)


@pytest.mark.parametrize("changes", [{"use_additional_conditions": True, "sample_size": 128}, {"sample_size": 128}])
def test_a_transformer_of_pixart_alpha_is_refused(parts, tmp_path, changes):
    shutil.copytree(parts.alone, tmp_path / "alpha")
    rewrite(tmp_path / "alpha" / "transformer" / "config.json", **changes)
    line = refused(parts.whole, transformer=tmp_path / "alpha")
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
    assert "use_additional_conditions at sample_size 64; diffusers passes them at 128" in refused(alpha)


def test_what_is_no_checkpoint_is_refused_under_its_flag(parts, tmp_path):
    assert refused(parts.whole, transformer=parts.whole / "vae") == (
        f"--transformer {parts.whole / 'vae'} holds no transformer/, and is no transformer of PixArt by its"
        " config.json"
    )
    assert "--text_encoder" in refused(parts.whole, text_encoder=parts.alone)
    assert refused(parts.whole, transformer=tmp_path / "gone").startswith(f"--transformer {tmp_path / 'gone'}: no")
    line = refused(parts.alone, components_model=parts.alone)
    assert line.startswith(f"neither {parts.alone} nor --components_model {parts.alone} has a text_encoder; ")
    assert refused(parts.rest).startswith(f"{parts.rest} has no transformer; an export needs it, from another")
    assert "--transformer me//x: no such folder, and not of the form id" in refused(parts.whole, transformer="me//x")
    (tmp_path / "tokenizer").mkdir()
    assert refused(tmp_path, components_model=parts.whole).endswith("of PixArtSigmaPipeline or PixArtAlphaPipeline")


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
    assert not set(checkpoint.model_index) & set(more)


def test_the_fast_tokenizer_counts_as_the_slow_one(whole):
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained(whole / "tokenizer", use_fast=True).save_pretrained(whole / "tokenizer")
    rewrite(whole / "text_encoder" / "config.json", vocab_size=300)
    slow = refused(whole)
    (whole / "tokenizer" / "spiece.model").unlink()
    assert refused(whole) == slow


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


@pytest.mark.parametrize("where", ["folder", "cache"])
def test_what_is_read_later_is_found_wherever_the_process_is_then(whole, tmp_path, monkeypatch, where):
    """A compiler changes the current folder while a thread reads the files that it compiles."""
    monkeypatch.chdir(whole.parent)
    if where == "folder":
        write_diffusers(tmp_path / "style", matrices(weights_of(whole)))
        checkpoint = opened(whole.name, lora_model_ids=["style"])
    else:
        cache(tmp_path / "hub", "some/model", whole)
        checkpoint = opened("some/model", cache_dir="hub", local_files_only=True)
    monkeypatch.chdir("/")
    for component in ("transformer", "vae"):
        files = checkpoint.weights(component).files.values()
        record = Fingerprints(tmp_path / "memory").record(checkpoint.sources[component], files, checkpoint.adapters)
        assert len(record.files) == 1 and len(record.adapters) == (where == "folder")

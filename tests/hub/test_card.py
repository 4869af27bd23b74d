"""The model card: everything a reader asks, from the manifest alone."""

import re

import pytest
from huggingface_hub import ModelCard, ModelCardData

from optimum_pixart_neuron.artifact.card import EXAMPLE_PROMPT, is_generated, licence_of, model_card
from optimum_pixart_neuron.checkpoint.few_steps import CallDefaults

from .exports import components, make_export

REPO = "me/pixart-sigma-neuron"
UNKNOWN_LICENCE = "The licence of the source is not known here; compiling it does not change it."


@pytest.fixture
def manifest(tmp_path):
    return make_export(tmp_path / "export")


def rows(card: str) -> list[list[str]]:
    """Every row of every table, cell by cell."""
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in card.splitlines() if line[:1] == "|"]


def test_metadata_that_the_hub_reads(manifest):
    metadata = ModelCard(model_card(manifest, REPO, ModelCardData(license="openrail++"))).data.to_dict()
    assert metadata == {
        "base_model": "PixArt-alpha/PixArt-Sigma",
        "license": "openrail++",
        "pipeline_tag": "text-to-image",
        "tags": ["neuron", "pixart-sigma", "text-to-image"],
    }


def test_what_it_was_compiled_for(manifest):
    table = rows(model_card(manifest, REPO, None))
    for row in (
        ["Instance", "trn2.48xlarge"],
        ["Compiler target", "trn2, 2 physical core(s) behind a logical one"],
        ["Logical cores", "4"],
        ["Parallel mode", "context"],
        ["Image", "256 x 512 px"],
        ["Tokens a prompt", "300"],
        ["`tensor_parallel_size`", "4"],
        ["`text_encoder`", "4", "`input_ids` 1x300 int64", "`last_hidden_state` 1x300x64 float32"],
        ["`transformer`", "0.0123", "0.999987", "48.0 dB", "0.05, bfloat16", "passed"],
        ["neuronx-cc", "2.21.33363.0"],
        ["`vae_decoder`", f"[PixArt-alpha/PixArt-Sigma]({_link()}) at `abababababab`"],
    ):
        assert row in table, row


def test_the_kernel_that_is_used_and_no_cast_that_is_not(tmp_path):
    parts = components(4)
    parts["transformer"] = parts["transformer"].model_copy(update={"attention": "attention_isa_kernel"})
    asked = {"attention": "auto", "auto_cast": None, "auto_cast_type": "bf16"}
    table = rows(model_card(make_export(tmp_path / "new", components=parts, options=asked), REPO, None))
    assert ["Attention of `transformer`", "attention_isa_kernel"] in table
    assert not [row for row in table if row[0] in ("`attention`", "`auto_cast_type`")]
    cast = rows(model_card(make_export(tmp_path / "cast", options={**asked, "auto_cast": "matmul"}), REPO, None))
    assert ["`auto_cast_type`", "bf16"] in cast
    assert ["`attention`", "auto"] in cast, "an export of before says only what was asked for"


def test_the_picture_that_the_export_drew(manifest):
    assert "![" not in model_card(manifest, REPO, None)
    card = model_card(manifest, REPO, None, has_example=True)
    assert f"![{EXAMPLE_PROMPT}](example.png)" in card and f'pipe("{EXAMPLE_PROMPT}")' in card


def _link() -> str:
    return f"https://huggingface.co/PixArt-alpha/PixArt-Sigma/tree/{'ab' * 20}"


def test_how_to_load_it(manifest):
    code = re.search(r"```python\n(.*?)```", model_card(manifest, REPO, None), re.DOTALL)[1]
    compile(code, "card", "exec")
    assert f'NeuronPixArtSigmaPipeline.from_pretrained("{REPO}")' in code
    call = CallDefaults(steps=1, timesteps=(400,), guidance_scale=1.0)
    alpha = manifest.model_copy(update={"pipeline": "PixArtAlphaPipeline", "call": call})
    card = model_card(alpha, REPO, None)
    assert f'NeuronPixArtAlphaPipeline.from_pretrained("{REPO}")' in card
    assert f'pipe("{EXAMPLE_PROMPT}", num_inference_steps=1, timesteps=[400], guidance_scale=1.0)' in card


@pytest.mark.parametrize(
    ("licence", "line"),
    [
        ({}, UNKNOWN_LICENCE),
        ({"license": "openrail++"}, "Licence: `openrail++`, that of PixArt-alpha/PixArt-Sigma."),
        (
            {"license": "other", "license_name": "mine", "license_link": "https://x.y/L"},
            "Licence: [mine](https://x.y/L), that of PixArt-alpha/PixArt-Sigma.",
        ),
        (
            {"license": "other", "license_name": "mine](https://evil)\n# Run", "license_link": "javascript:x"},
            "Licence: `other`, that of PixArt-alpha/PixArt-Sigma.",
        ),
        ({"license": "m" * 101}, UNKNOWN_LICENCE),
        ({"license": ["mit", "apache-2.0"]}, UNKNOWN_LICENCE),
    ],
    ids=["unknown", "known", "other", "no names", "long", "several"],
)
def test_licence_as_the_card_of_the_source_names_it(manifest, licence, line):
    kept = licence_of(ModelCardData(**licence))
    card = model_card(manifest, REPO, kept)
    assert line in card.splitlines()
    assert ModelCard(card).data.license == (kept.license if kept else None)


def test_a_folder_on_somebodys_disk_is_no_base_model_and_keeps_its_path(tmp_path):
    options = {"transformer": "/home/me/other", "height": 512}
    manifest = make_export(tmp_path / "export", model="/home/me/models/my-pixart", revision=None, options=options)
    card = model_card(manifest, REPO, None)
    assert "the local checkpoint `my-pixart`" in card and "/home/me" not in card
    assert ModelCard(card).data.base_model is None


def test_artifacts_of_the_emulator_say_so(tmp_path):
    manifest = make_export(tmp_path / "export", emulated=True)
    assert "> [!WARNING]\n> Made on the CPU emulator" in model_card(manifest, REPO, None)
    assert "WARNING" not in model_card(manifest.model_copy(update={"emulated": False}), REPO, None)


def test_without_validation(manifest):
    card = model_card(manifest.model_copy(update={"validation": ()}), REPO, None)
    assert "The compiled components were not compared with the original ones." in card
    failed = manifest.validation[0].model_copy(update={"passed": False})
    assert "**failed**" in model_card(manifest.model_copy(update={"validation": (failed,)}), REPO, None)


def test_an_edited_card_is_told_from_a_generated_one(manifest):
    card = model_card(manifest, REPO, None)
    assert card == model_card(manifest, REPO, None)
    assert is_generated(card)
    for edited in (
        card + "more",
        "more" + card,
        card.replace("trn2", "trn1", 1),
        card.split("<!--")[0],
        "# Mine\n",
        "",
    ):
        assert not is_generated(edited)

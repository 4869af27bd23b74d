"""The model card: everything a reader asks, from the manifest alone."""

import re

import pytest
from huggingface_hub import ModelCard, ModelCardData

from optimum_pixart_neuron.artifact.card import EXAMPLE_PROMPT, is_generated, licence_of, model_card
from optimum_pixart_neuron.checkpoint.few_steps import CallDefaults

from .exports import components, manifest_of

REPO = "me/pixart-sigma-neuron"
UNKNOWN_LICENCE = "The licence of the source is not known here; compiling it does not change it."
SOURCE = "[PixArt-alpha/PixArt-Sigma](https://huggingface.co/PixArt-alpha/PixArt-Sigma/tree/"


def card(licence: ModelCardData | None = None, **changes) -> str:
    return model_card(manifest_of(**changes), REPO, licence)


def rows(card: str) -> list[list[str]]:
    """Every row of every table, cell by cell."""
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in card.splitlines() if line[:1] == "|"]


def test_metadata_that_the_hub_reads():
    assert ModelCard(card(ModelCardData(license="openrail++"))).data.to_dict() == {
        "base_model": "PixArt-alpha/PixArt-Sigma",
        "license": "openrail++",
        "pipeline_tag": "text-to-image",
        "tags": ["neuron", "pixart-sigma", "text-to-image"],
    }


def test_what_it_was_compiled_for():
    table = rows(card())
    for row in (
        ["Instance", "trn2.48xlarge"],
        ["Compiler target", "trn2, 2 physical core(s) behind a logical one"],
        ["Logical cores", "4"],
        ["Parallel mode", "context"],
        ["Image", "512x256 px (height x width)"],
        ["Tokens a prompt", "300"],
        ["`tensor_parallel_size`", "4"],
        ["`text_encoder`", "4", "`input_ids` 1x300 int64", "`last_hidden_state` 1x300x64 float32"],
        ["`transformer`", "0.0123", "0.999987", "48.0 dB", "0.05, bfloat16", "passed"],
        ["neuronx-cc", "2.21.33363.0"],
        ["`vae_decoder`", f"{SOURCE}{'ab' * 20}) at `abababababab`"],
    ):
        assert row in table, row


def test_the_kernel_that_is_used_and_no_cast_that_is_not():
    parts = components(4)
    parts["transformer"] = parts["transformer"].model_copy(update={"attention": "attention_isa_kernel"})
    asked = {"attention": "auto", "auto_cast": None, "auto_cast_type": "bf16"}
    table = rows(card(components=parts, options=asked))
    assert ["Attention of `transformer`", "attention_isa_kernel"] in table
    assert not [row for row in table if row[0] in ("`attention`", "`auto_cast_type`")]
    cast = rows(card(options={**asked, "auto_cast": "matmul"}))
    assert ["`auto_cast_type`", "bf16"] in cast
    assert ["`attention`", "auto"] in cast, "an export of before says only what was asked for"


def test_the_picture_that_the_export_drew():
    assert "![" not in card()
    drawn = model_card(manifest_of(), REPO, None, has_example=True)
    assert f"![{EXAMPLE_PROMPT}](example.png)" in drawn and f'pipe("{EXAMPLE_PROMPT}")' in drawn


def test_how_to_load_it():
    code = re.search(r"```python\n(.*?)```", card(), re.DOTALL)[1]
    compile(code, "card", "exec")
    assert f'NeuronPixArtSigmaPipeline.from_pretrained("{REPO}")' in code
    call = CallDefaults(steps=1, timesteps=(400,), guidance_scale=1.0)
    alpha = card(pipeline="PixArtAlphaPipeline", call=call)
    assert f'NeuronPixArtAlphaPipeline.from_pretrained("{REPO}")' in alpha
    assert f'pipe("{EXAMPLE_PROMPT}", num_inference_steps=1, timesteps=[400], guidance_scale=1.0)' in alpha


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
def test_licence_as_the_card_of_the_source_names_it(licence, line):
    kept = licence_of(ModelCardData(**licence))
    assert line in card(kept).splitlines()
    assert ModelCard(card(kept)).data.license == (kept.license if kept else None)


def test_a_folder_on_somebodys_disk_is_no_base_model_and_keeps_its_path():
    options = {"transformer": "/home/me/other", "height": 512}
    local = card(model="/home/me/models/my-pixart", revision=None, options=options)
    assert "the local checkpoint `my-pixart`" in local and "/home/me" not in local
    assert ModelCard(local).data.base_model is None


def test_artifacts_of_the_emulator_say_so():
    assert "> [!WARNING]\n> Made on the CPU emulator" in card(emulated=True)
    assert "WARNING" not in card()


def test_without_validation():
    assert "The compiled components were not compared with the original ones." in card(validation=())
    failed = manifest_of().validation[0].model_copy(update={"passed": False})
    assert "**failed**" in card(validation=(failed,))


def test_an_edited_card_is_told_from_a_generated_one():
    made = card()
    assert made == card()
    assert is_generated(made)
    for edited in (
        made + "more",
        "more" + made,
        made.replace("trn2", "trn1", 1),
        made.split("<!--")[0],
        "# Mine\n",
        "",
    ):
        assert not is_generated(edited)

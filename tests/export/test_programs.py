"""Which programs an export of several has: sizes, guidance, what is left out and what is refused."""

from functools import partial

import pytest

from optimum_pixart_neuron.components.registry import IMAGE_DECODER
from optimum_pixart_neuron.components.vae.spec import VAE_DECODER
from optimum_pixart_neuron.errors import InvalidExportOption
from optimum_pixart_neuron.export.options import ExportOptions
from optimum_pixart_neuron.planner import Request, predict

from ..refusals import refusal
from .test_settings import settle


def sizes_of(deployment) -> list[tuple[int, int]]:
    return list(dict.fromkeys(each.size for each in deployment.each))


refused = partial(refusal, InvalidExportOption, settle)


def test_the_first_size_is_the_default():
    deployment = settle(sizes=("768x1344", "1024x1024"))
    assert deployment.size == (768, 1344)
    assert sizes_of(deployment) == [(768, 1344), (1024, 1024)]
    sizes = "768 x 1344, 1024 x 1024 px (height x width)"
    assert ("image", f"{sizes}, decoded in bands of rows over 8 cores") in deployment.table()
    assert {each.ranks for each in deployment.each} == {8}


def test_python_takes_pairs_of_numbers():
    given = ExportOptions(model="m", output="o", sizes=[(768, 1344), "1024x1024"])
    assert given.sizes == ("768x1344", "1024x1024")
    assert ExportOptions(model="m", output="o", sizes="bins").sizes == ("bins",)


def test_all_ranks_share_the_work_of_every_size():
    """1024 x 1040 px are 4160 tokens and 1008 x 1040 px 4095: no two sequence ranks divide the latter."""
    assert settle(sizes=("1024x1024", "1024x1040")).ranks == 8
    assert settle(sizes=("1024x1024", "1008x1040")).ranks == 2
    # Without the pair the two ranks would have to share those tokens.
    assert "cannot share their weights" in refused(sizes=("1024x1024", "1008x1040"), guidance="both")


def test_bins_are_those_of_the_checkpoint():
    deployment = settle(sizes=("bins",))
    assert deployment.size == (1024, 1024)
    assert len(sizes_of(deployment)) == 33 and not deployment.notes
    assert all(tall * wide <= 1024 * 1088 for tall, wide in sizes_of(deployment))


def test_bins_that_ranks_cannot_share_are_left_out_by_name():
    """Such as 576 x 1728 px, 3888 tokens; without guidance all ranks share the tokens of one row."""
    asked = {"tensor_parallel_size": 32, "guidance": "off"}
    deployment = settle("trn1.32xlarge", sizes=("bins",), **asked)
    left_out = [note for note in deployment.notes if "is left out" in note]
    assert len(left_out) == 33 - len(sizes_of(deployment)) > 0
    assert left_out[0].startswith("--sizes bins: ") and "32 sequence ranks do not divide the" in left_out[0]
    named = left_out[0].split()[2]
    assert f"--sizes {named}: " in refused(sizes=("1024x1024", named), **asked)


def test_guidance_both_is_two_programs_of_a_size():
    deployment = settle(sizes=("1024x1024", "768x1344"), guidance="both")
    assert [(each.size, each.mode.takes_pair) for each in deployment.each] == [
        ((1024, 1024), True),
        ((1024, 1024), False),
        ((768, 1344), True),
        ((768, 1344), False),
    ]
    assert ("guidance", "with it and without") in deployment.table()
    assert [each.mode.takes_pair for each in settle(guidance="off").each] == [False]


@pytest.mark.parametrize("options", [{"tensor_parallel_size": 1}, {"parallel_mode": "data"}], ids=str)
def test_guidance_both_changes_nothing_on_one_core(options):
    deployment = settle(guidance="both", **options)
    assert not deployment.others
    assert any(note.startswith("--guidance both changes nothing here: ") for note in deployment.notes)


@pytest.mark.parametrize("options", [{"tensor_parallel_size": 1}, {"parallel_mode": "data"}], ids=str)
def test_one_core_has_one_size(options):
    said = refused(sizes=("1024x1024", "768x1344"), **options)
    assert said.startswith("--sizes: 2 programs of one core cannot share their weights")
    assert settle(sizes=("768x1344",), **options).size == (768, 1344)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sizes": ("1024",)}, "--sizes ('1024',): write a size as HEIGHTxWIDTH, such as 768x1344, or bins"),
        ({"sizes": ("1024x1024", "1024x1024")}, "1024x1024 is there twice"),
        ({"sizes": ("bins", "1024x1024")}, "bins stands for every size of the checkpoint"),
        ({"sizes": ("1024x1024",), "height": 1024}, "--sizes: it stands for --height and --width"),
        ({"sizes": ("1024x1024", "1000x1024")}, "--sizes 1000x1024: --height 1000 is not a positive multiple of 16"),
        ({"sizes": ("1024x1024", "128x1024")}, "--sizes 128x1024: --height 128: the checkpoint was trained for"),
        (
            {"no_guidance": True, "guidance": "both"},
            "--no_guidance: it stands for --guidance off; leave out --guidance",
        ),
        ({"guidance": "half"}, "--guidance half: choose on, off or both"),
    ],
)
def test_what_is_refused(options, said):
    assert said in refused(**options)


def test_sizes_that_are_decoded_in_one_tile_have_one_program():
    deployment = settle(sizes=("1024x1024", "768x1344"), vae_tile_size=512)
    assert {VAE_DECODER.size(each) for each in deployment.each} == {(512, 512)}


@pytest.mark.seconds
def test_a_plan_has_a_figure_for_each_program_and_memory_for_all():
    """Weights once; the activations of the program that has the most."""
    asked = {"parallel_mode": "context", "tensor_parallel_size": 4}
    one = predict(Request(**asked), "trn2")
    several = predict(Request(**asked, sizes=("1024x1024", "768x1344"), guidance="both"), "trn2")
    assert [each.deployment.size for each in several.each] == [(1024, 1024)] * 2 + [(768, 1344)] * 2
    assert several.needed_bytes == one.needed_bytes
    steps = [each.component("transformer").lower_bound_s for each in several.each]
    assert 0.45 < steps[1] / steps[0] < 0.55, "half the work on all cores"
    alone = predict(Request(**asked, sizes=("1024x1024", "768x1344"), vae_parallel="one"), "trn2")
    decoder = alone.component(IMAGE_DECODER.name).cost.weights
    assert alone.needed_bytes - predict(Request(**asked, vae_parallel="one"), "trn2").needed_bytes == decoder

"""Defaults and refusals of the export, from the checkpoint's configurations and the instance table."""

import pytest

from optimum_pixart_neuron.checkpoint.checkpoint import PixArtCheckpoint
from optimum_pixart_neuron.components.registry import COMPONENTS, IMAGE_DECODER, PARTS
from optimum_pixart_neuron.components.transformer.spec import TRANSFORMER
from optimum_pixart_neuron.deployment.deployment import chosen_instance, decide
from optimum_pixart_neuron.deployment.sides import RESOLUTION_BINS, resolution_bins
from optimum_pixart_neuron.errors import InvalidExportOption
from optimum_pixart_neuron.export.options import ExportOptions
from optimum_pixart_neuron.neuron.sdk import NeuronSdk

from ..refusals import refusal

XL_2 = {name: dict(part.released) for name, part in PARTS.items() if part.released}


class Configurations(PixArtCheckpoint):
    """A checkpoint of which only the configurations exist."""

    def config(self, component: str) -> dict:
        return XL_2[component]


def settle(instance: str | None = None, **options):
    checkpoint = Configurations(source="xl-2", sources={}, model_index={})
    sdk = NeuronSdk(emulated=True, instance="trn1.32xlarge")
    asked = ExportOptions(model="xl-2", output="out", instance_type=instance, **options)
    return decide(asked, checkpoint, chosen_instance(asked, sdk))


@pytest.mark.parametrize(
    ("instance", "ranks", "target", "lnc"),
    [
        ("inf2.xlarge", 2, "inf2", 1),
        ("inf2.8xlarge", 2, "inf2", 1),
        ("inf2.24xlarge", 8, "inf2", 1),
        ("inf2", 8, "inf2", 1),
        ("trn1.2xlarge", 2, "trn1", 1),
        ("trn1.32xlarge", 8, "trn1", 1),
        ("trn1n", 8, "trn1n", 1),
        ("trn2.3xlarge", 4, "trn2", 2),
        ("trn2.48xlarge", 4, "trn2", 2),
    ],
)
def test_defaults_of_each_instance(instance, ranks, target, lnc):
    settings = settle(instance)
    assert (settings.ranks, settings.compiler.target, settings.compiler.lnc) == (ranks, target, lnc)
    assert (settings.parallel_mode, settings.mode.takes_pair) == ("context", True)
    assert (settings.height, settings.width, settings.sequence_length) == (1024, 1024, 300)
    assert (settings.batch_size, settings.num_images_per_prompt) == (1, 1)


def test_the_machine_itself_is_the_default():
    assert settle().instance.name == "trn1.32xlarge"


def test_a_machine_without_a_device_is_told_to_name_an_instance():
    asked, sdk = ExportOptions(model="xl-2", output="out"), NeuronSdk(emulated=False, instance=None)
    said = refusal(InvalidExportOption, chosen_instance, asked, sdk)
    assert said == "this machine has no Neuron device to compile for; name one with --instance_type"


def test_data_mode_takes_every_core_that_can_share_the_text_encoder():
    assert settle("trn1.32xlarge", parallel_mode="data").ranks == 32
    assert settle("inf2.48xlarge", parallel_mode="data").ranks == 16  # 24 does not divide 64 heads


def test_one_core_is_unsharded_and_unguided():
    settings = settle(tensor_parallel_size=1)
    assert settings.parallel_mode is None and settings.mode.split(TRANSFORMER.plan) is None
    assert not settings.mode.takes_pair


def test_each_component_of_each_mode_is_split_as_said():
    def split(mode: str) -> list[tuple[str, str]]:
        own = [settle(parallel_mode=mode).mode_of(component) for component in COMPONENTS.values()]
        splits = [mode.split(component.plan) for mode, component in zip(own, COMPONENTS.values())]
        return [(mode.name, type(split).__name__) for mode, split in zip(own[:3], splits)]

    text, decoder = ("tensor", "TensorSplit"), ("rows", "RowSplit")
    assert split("context") == [text, ("context", "ContextSplit"), decoder]
    assert split("tensor") == [text, ("tensor", "TensorSplit"), decoder]
    assert split("data") == [text, ("data", "NoneType"), ("data", "NoneType")]


def test_the_cores_share_a_picture_unless_they_are_asked_not_to():
    def mode(**options):
        return settle(tensor_parallel_size=4, **options).mode_of(IMAGE_DECODER).name

    for options in ({}, {"batch_size": 2}, {"batch_size": 2, "num_images_per_prompt": 2}, {"vae_parallel": "rows"}):
        assert mode(**options) == "rows"
    assert mode(vae_parallel="images") == mode(parallel_mode="data") == "data"
    assert mode(vae_parallel="one") is None
    for options in ({"parallel_mode": "data"}, {"vae_tile_size": 512}, {"tensor_parallel_size": 1}):
        with pytest.raises(InvalidExportOption, match="--vae_parallel rows: .*; leave one of them out"):
            settle(**{"tensor_parallel_size": 4, "vae_parallel": "rows", **options})


def test_cores_of_trn2_that_form_no_group_are_refused_and_the_default_is_a_chip():
    """Every number of cores is agreed on by the sources, disputed, or refused; see `hardware`'s [group]."""
    noted, agreed = {}, {1}
    for ranks in range(2, 65):
        options = {"tensor_parallel_size": ranks, "parallel_mode": "data"}
        if ranks in (2, 4, 8, 16, 32, 64):
            notes = settle("trn2.48xlarge", **options).notes
            (noted.update({ranks: notes[-1]}) if notes else agreed.add(ranks))
            continue
        with pytest.raises(InvalidExportOption, match=f"{ranks}: cores of trn2.48xlarge form groups of 1, 2, 4, 8,"):
            settle("trn2.48xlarge", **options)
    assert agreed == {1, 4, 8, 16} and noted.keys() == {2, 32, 64}
    assert noted[32] == (
        "Neuron's documents do not agree that 32 cores of trn2.48xlarge form a group (agreed: 4, 8, 16); try a small"
        " program first"
    )
    for instance in ("trn2.3xlarge", "trn2.48xlarge", "trn2u.48xlarge"):
        chosen = settle(instance)
        assert (chosen.ranks, chosen.notes) == (4, ())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tensor_parallel_size": 5}, "--tensor_parallel_size 5 does not divide the 64 attention heads"),
        ({"tensor_parallel_size": 64}, "--tensor_parallel_size 64: trn1.32xlarge has 32 cores"),
        (
            {"tensor_parallel_size": 32, "parallel_mode": "tensor"},
            "--tensor_parallel_size 32 does not divide the 16 attention heads of the transformer",
        ),
        ({"vae_tile_size": 100}, "--vae_tile_size 100 is not a multiple of 8 from 64 on"),
        ({"height": 1000}, "--height 1000 is not a positive multiple of 16"),
        ({"width": 4096}, "--width 4096: the checkpoint was trained for sides of 512 to 2048 pixels"),
        ({"instance": "inf3"}, "--instance_type inf3: unknown instance 'inf3'"),
        ({"torch_dtype": "float16"}, "--torch_dtype float16: T5 overflows in float16"),
    ],
)
def test_refusals(options, message):
    assert message in refusal(InvalidExportOption, settle, **options)


@pytest.mark.parametrize("options", [{"height": 1024, "width": 1008}, {"exchange": "all-to-all"}], ids=str)
def test_all_cores_can_share(options):
    settle(tensor_parallel_size=32, **options)


def test_an_odd_number_of_ranks_cannot_hold_the_guidance_pair(monkeypatch):
    monkeypatch.setitem(XL_2, "text_encoder", {"num_heads": 63, "d_ff": 630})
    with pytest.raises(InvalidExportOption, match="3 is odd, and the guidance pair needs 2 equal groups"):
        settle(tensor_parallel_size=3)
    with pytest.raises(InvalidExportOption, match="its 3 sequence ranks do not divide the 4096 tokens"):
        settle(tensor_parallel_size=3, no_guidance=True)


def test_heads_that_all_to_all_cannot_divide(monkeypatch):
    monkeypatch.setitem(XL_2["transformer"], "num_attention_heads", 6)
    with pytest.raises(InvalidExportOption, match="4 sequence ranks do not divide the 6 attention heads"):
        settle(tensor_parallel_size=8, exchange="all-to-all")


@pytest.mark.parametrize("sample_size", RESOLUTION_BINS)
def test_every_bin_of_every_checkpoint_can_be_exported(monkeypatch, sample_size):
    monkeypatch.setitem(XL_2["transformer"], "sample_size", sample_size)
    for height, width in resolution_bins(sample_size).values():
        settings = settle(height=int(height), width=int(width), tensor_parallel_size=2)
        assert settings.notes == ()


def test_a_size_between_the_bins_is_noted():
    assert settle(height=1024, width=1040).notes == (
        "1024 x 1040 px (height x width) is none of the checkpoint's resolutions: optimum.neuron's own class needs"
        " use_resolution_binning=False",
    )


def test_large_images_are_decoded_in_tiles():
    assert settle(height=1024, width=1024).vae_tile == (1024, 1024)
    assert settle(height=2048, width=512).vae_tile == (2048, 512)  # in bands of rows
    assert settle(height=2048, width=512, vae_parallel="images").vae_tile == (1024, 512)
    assert settle(vae_tile_size=512).vae_tile == (512, 512)

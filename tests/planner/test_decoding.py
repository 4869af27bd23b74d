"""`--vae_parallel auto` is decided by the plan's figures, and says so."""

import pytest

from optimum_pixart_neuron.components.registry import IMAGE_DECODER
from optimum_pixart_neuron.hardware import get_instance
from optimum_pixart_neuron.neuron.sdk import ensure_importable
from optimum_pixart_neuron.planner import Released, Request, decoding, plan, predict
from optimum_pixart_neuron.planner.decoding import decide_decoding

pytestmark = pytest.mark.seconds


@pytest.fixture(autouse=True, scope="module")
def importable():
    ensure_importable()


def decided(instance: str = "trn1.32xlarge", **options):
    deployment, choice = decide_decoding(Request(**options), Released(), get_instance(instance))
    return deployment.mode_of(IMAGE_DECODER).name, choice


def test_one_picture_is_in_bands_whatever_the_figures_say(monkeypatch):
    assert decided()[0] == "rows"
    monkeypatch.setattr(decoding, "_seconds", lambda deployment, _: deployment.mode_of(IMAGE_DECODER).shares_batch)
    assert decided()[0] == "rows"
    assert decided(batch_size=2)[0] == "data"


@pytest.mark.parametrize(("images", "mode"), [(8, "data"), (3, "rows")])
def test_of_several_pictures_what_is_sooner_done(images, mode):
    """Eight cores with one each send nothing; three would leave five cores idle."""
    found, choice = decided(batch_size=images)
    assert found == mode
    assert choice.chosen == min(choice.seconds, key=choice.seconds.get) == ("images" if mode == "data" else "rows")
    asked = {
        name: predict(Request(batch_size=images, vae_parallel=name), "trn1.32xlarge").component(IMAGE_DECODER.name)
        for name in ("rows", "images")
    }
    efficiency = predict(Request(), "trn1.32xlarge").efficiency.expected
    assert choice.seconds == {name: part.expected_s(efficiency) for name, part in asked.items()}
    assert choice.describe() == (
        f"{choice.chosen}: the plan expects {choice.seconds['rows']:.3g} s as rows or"
        f" {choice.seconds['images']:.3g} s as images for {images} image(s)"
    )


def test_pictures_are_not_cut_into_tiles_for_speed():
    mode, choice = decided(batch_size=8, height=2048, width=2048)
    assert mode == "rows" and list(choice.seconds) == ["rows"]


@pytest.mark.parametrize("options", [{"vae_parallel": "images"}, {"parallel_mode": "data"}, {"vae_tile_size": 512}])
def test_nothing_is_compared_where_there_is_nothing_to_choose(options):
    assert decided(**options) == ("data", None)


def test_a_plan_decides_as_the_export_does():
    (row,) = plan(Request(batch_size=8, parallel_mode="context", tensor_parallel_size=8), instances=["trn1.32xlarge"])
    assert row.deployment.mode_of(IMAGE_DECODER).name == "data"


@pytest.mark.soak
def test_what_the_released_decoder_needs_at_4096_pixels():
    """In bands over 8 cores it fits the 16 GiB of each; on one core neither its activations nor its scores would."""
    row = predict(Request(height=4096, width=4096, parallel_mode="context", tensor_parallel_size=8), "trn1.32xlarge")
    bands = row.component(IMAGE_DECODER.name).cost
    assert row.deployment.mode_of(IMAGE_DECODER).name == "rows"
    assert bands.weights + bands.activations < row.hbm_bytes

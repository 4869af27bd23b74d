"""Which rows there are, and what they say of latency, throughput and cost."""

import pytest

from optimum_pixart_neuron.components.registry import DENOISER, IMAGE_DECODER
from optimum_pixart_neuron.deployment.deployment import Deployment, decide
from optimum_pixart_neuron.errors import InvalidExportOption
from optimum_pixart_neuron.export.options import ExportOptions
from optimum_pixart_neuron.hardware import INSTANCES, get_instance
from optimum_pixart_neuron.neuron.sdk import ensure_importable
from optimum_pixart_neuron.parallel.modes import MODES
from optimum_pixart_neuron.planner import PlanRow, Released, Request, component_plan, plan, predict
from optimum_pixart_neuron.planner.prices import PRICES, own_price
from optimum_pixart_neuron.program.cost import Cost

pytestmark = pytest.mark.seconds


@pytest.fixture(autouse=True, scope="module")
def importable():
    ensure_importable()


@pytest.fixture
def uncounted(monkeypatch):
    """Which rows there are does not depend on what they cost."""
    nothing = Cost(flops=0, array_flops=1, exponentials=0, weights=1, read=1, activations=1, collectives={})
    monkeypatch.setattr(component_plan, "component_cost", lambda *_: nothing)


def decided(instance: str, **options) -> Deployment:
    options = ExportOptions(model="xl-2", output="nowhere", instance_type=instance, **options)
    return decide(options, Released(), get_instance(instance))


def planned(
    mode: str | None, ranks: int, instance: str = "trn1", efficiency: float | None = None, **options
) -> PlanRow:
    request = Request(parallel_mode=mode, tensor_parallel_size=ranks, **options)
    return predict(request, instance, efficiency=efficiency)


@pytest.mark.parametrize("options", [{}, {"no_guidance": True}, {"width": 768}, {"exchange": "all-to-all"}], ids=str)
@pytest.mark.parametrize("instance", ["inf2.24xlarge", "trn2.3xlarge"])
def test_rows_are_the_deployments_that_the_export_decides_on(instance, options, uncounted):
    found = [row.deployment for row in plan(Request(**options), instances=[instance])]
    accepted = [decided(instance, tensor_parallel_size=1, **options)]
    for mode in MODES:
        for ranks in range(2, get_instance(instance).logical_cores() + 1):
            try:
                accepted.append(decided(instance, parallel_mode=mode, tensor_parallel_size=ranks, **options))
            except InvalidExportOption:
                continue
    assert found == accepted


def test_one_row_of_an_instance_is_what_the_export_chooses(uncounted):
    defaults = [row for row in plan() if row.is_default]
    assert [row.deployment for row in defaults] == [decided(instance) for instance in INSTANCES]


def test_rows_can_be_asked_for(uncounted):
    rows = plan(Request(parallel_mode="tensor"), instances=["trn2"])
    assert {row.deployment.parallel_mode for row in rows} == {"tensor"}
    assert {row.deployment.ranks for row in plan(Request(tensor_parallel_size=8))} == {8}
    assert [row.deployment.ranks for row in plan(Request(tensor_parallel_size=1), instances=["inf2.xlarge"])] == [1]


def test_the_released_checkpoint_is_the_one_for_the_size(uncounted):
    sizes = {(None, None): 128, (256, 256): 32, (512, 512): 64, (None, 768): 128, (1024, 1024): 128, (2048, 2048): 256}
    assert {given: Released.nearest(*given).sample_size for given in sizes} == sizes
    assert planned(None, 1, height=2048, width=2048).deployment.latent_size == (256, 256)


def test_an_unknown_instance():
    with pytest.raises(ValueError, match="unknown instance 'p4d.24xlarge'"):
        predict(Request(), "p4d.24xlarge")


@pytest.mark.parametrize(
    ("mode", "ranks", "options", "images", "cores"),
    [
        (None, 1, {}, 3, 2),  # the guidance pair on two cores
        (None, 1, {"no_guidance": True}, 6, 2),  # a batch on each of them
        ("data", 8, {}, 24, 8),
        ("data", 8, {"no_guidance": True}, 24, 8),
        ("context", 8, {}, 3, 8),
        ("tensor", 8, {}, 3, 8),
    ],
    ids=str,
)
def test_images_under_way_at_once(mode, ranks, options, images, cores, uncounted):
    row = planned(mode, ranks, "inf2.48xlarge", num_images_per_prompt=3, **options)
    deployment = row.deployment
    assert (row.images, deployment.cores, deployment.replicas) == (images, cores, 24 // cores)
    # Every image has as many steps on as many cores, and a prompt to every three.
    text, transformer, decoder = row.components
    assert (transformer.runs, transformer.core_runs) == (20, 20 * cores)
    assert text.runs == images // 3 * (1 if options else 2)
    in_bands = mode in ("context", "tensor")
    assert (decoder.runs, decoder.core_runs) == ((1, cores) if in_bands else (-(-images // cores), images))
    assert row.images_per_second == pytest.approx(24 // cores * images / row.expected_s)


def test_modes_do_the_same_work_but_for_duplicates():
    """Guidance or data: the FLOPs of an image are those of one core; sequence ranks repeat the text alone."""
    whole = planned(None, 1).flops_per_image
    assert planned("data", 8).flops_per_image == whole
    assert planned("context", 2).flops_per_image == whole
    assert whole < planned("context", 8).flops_per_image < 1.03 * whole


def test_expected_time_is_the_bound_at_the_efficiency():
    row = planned(None, 1, "inf2.xlarge", efficiency=0.5)
    text, *image = row.components
    assert row.expected_s == pytest.approx(text.lower_bound_s + sum(part.lower_bound_s for part in image) / 0.5)
    assert row.expected_s == sum(row.expected_s_of(part) for part in row.components)
    assert row.lower_bound_s <= row.expected_s


def test_cores_that_are_left_over():
    row = planned("data", 16, "inf2.48xlarge")
    assert (row.deployment.replicas, row.idle_cores) == (1, 8)
    assert planned("data", 8, "inf2.48xlarge").idle_cores == 0


def test_all_weights_and_the_largest_activations_have_to_fit():
    row = planned(None, 1, "inf2.xlarge", torch_dtype="float32")
    costs = [part.cost for part in row.components]
    assert row.needed_bytes == sum(cost.weights for cost in costs) + max(cost.activations for cost in costs)
    assert not row.fits  # T5-XXL alone is 19 GB
    assert planned(None, 1, "inf2.xlarge").fits
    assert planned("tensor", 2, "inf2.xlarge", torch_dtype="float32").fits


def test_tiles_bound_what_decoding_needs():
    whole, tiled = (
        planned("context", 8, height=2048, width=2048, vae_tile_size=tile).component(IMAGE_DECODER.name)
        for tile in (2048, 512)
    )
    assert tiled.cost.activations < whole.cost.activations
    # Five tiles of 512 px a side, each sharing at least a quarter with its neighbour, on 8 cores.
    assert (tiled.core_runs, tiled.runs) == (25, 4)
    assert whole.runs == 1


def test_cost(uncounted):
    row = planned("context", 2, "inf2.xlarge")
    assert row.price == PRICES["inf2.xlarge"] and row.price.date and row.price.source
    assert row.cost_per_1000 == pytest.approx(row.price.per_hour / 3600 * row.expected_s * 1000)
    assert planned("context", 4, "trn2.48xlarge").cost_per_1000 is None
    own = plan(instances=["trn2"], prices={"trn2.48xlarge": own_price(30)})
    assert all(row.cost_per_1000 == pytest.approx(30 / 3.6 / row.images_per_second) for row in own)


def test_every_price_is_of_a_known_instance():
    assert set(PRICES) <= set(INSTANCES)


def test_a_component_that_text_to_image_does_not_call_takes_memory_and_no_time():
    without, with_it = planned("context", 8), planned("context", 8, with_vae_encoder=True)
    added = with_it.components[-1]
    assert (added.runs, added.core_runs) == (0, 0) and added.cost.weights > 0
    assert with_it.expected_s == without.expected_s
    assert with_it.needed_bytes >= without.needed_bytes + added.cost.weights
    assert with_it.component(DENOISER.name) == without.component(DENOISER.name)

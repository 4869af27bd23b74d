"""Which rows there are, and what they say of latency, throughput and cost."""

import pytest

from optimum_pixart_neuron.deployment.deployment import decide
from optimum_pixart_neuron.errors import InvalidExportOption
from optimum_pixart_neuron.export.options import ExportOptions
from optimum_pixart_neuron.hardware import INSTANCES, get_instance
from optimum_pixart_neuron.neuron.sdk import NeuronSdk
from optimum_pixart_neuron.planner import XL_2, Request, deployments, plan, predict
from optimum_pixart_neuron.planner.flops import product
from optimum_pixart_neuron.planner.prices import PRICES, own_price


def settle(instance: str, **options):
    options = ExportOptions(model="xl-2", output="out", instance_type=instance, **options)
    return decide(options, XL_2, NeuronSdk(emulated=True, instance=instance))


@pytest.mark.parametrize("options", [{}, {"no_guidance": True}, {"width": 768}, {"exchange": "all-to-all"}], ids=str)
@pytest.mark.parametrize("instance", ["inf2.24xlarge", "trn2.3xlarge"])
def test_rows_are_what_the_export_accepts(instance, options):
    request = Request(**options)
    found = set(deployments(XL_2, request, get_instance(instance)))
    for mode in ("context", "tensor", "data"):
        for ranks in range(2, get_instance(instance).logical_cores() + 1):
            try:
                settings = settle(instance, parallel_mode=mode, tensor_parallel_size=ranks, **options)
            except InvalidExportOption:
                assert (mode, ranks) not in found
                continue
            assert (mode, ranks) in found
            row = predict(XL_2, request, instance, mode=mode, ranks=ranks)
            assert row.deployment.exchange == settings.mode.exchange
    assert (None, 1) in found


@pytest.mark.parametrize("instance", INSTANCES)
def test_one_row_is_what_the_export_chooses(instance):
    (default,) = [row for row in plan(instances=[instance]) if row.is_default]
    settings = settle(instance)
    assert (default.deployment.mode, default.deployment.ranks) == (settings.parallel_mode, settings.ranks)


def test_rows_can_be_asked_for():
    assert {row.deployment.mode for row in plan(Request(parallel_mode="tensor"), instances=["trn2"])} == {"tensor"}
    assert {row.deployment.ranks for row in plan(Request(tensor_parallel_size=8))} == {8}
    assert [row.deployment.ranks for row in plan(Request(tensor_parallel_size=1), instances=["inf2.xlarge"])] == [1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tensor_parallel_size": 128}, r"--tensor_parallel_size 128: trn2.48xlarge has 64 cores"),
        ({"tensor_parallel_size": 6}, r"--tensor_parallel_size 6 does not divide the 64 attention heads"),
        ({"tensor_parallel_size": 32, "parallel_mode": "tensor"}, r"32 does not divide the 16 attention heads"),
        ({"tensor_parallel_size": 1, "parallel_mode": "data"}, r"--parallel_mode data has no meaning on 1 rank"),
        ({"tensor_parallel_size": 64, "parallel_mode": "context", "exchange": "all-to-all"}, r"32 sequence ranks"),
        ({"tensor_parallel_size": 0}, r"--tensor_parallel_size 0: must be at least 1"),
        ({"height": 0}, r"--height 0: must be at least 1"),
        ({"height": 1000}, r"--height 1000 is not a positive multiple of 16"),
        ({"num_inference_steps": 0}, r"--num_inference_steps 0: must be at least 1"),
        ({"torch_dtype": "float16"}, r"--torch_dtype float16: T5 overflows"),
        ({"vae_tile_size": 20}, r"--vae_tile_size 20 is not a multiple of 8"),
    ],
    ids=str,
)
def test_what_no_export_can_have_is_refused(options, message):
    with pytest.raises(InvalidExportOption, match=message):
        plan(Request(**options))


def test_an_unknown_instance():
    with pytest.raises(ValueError, match="unknown instance 'p4d.24xlarge'"):
        predict(XL_2, Request(), "p4d.24xlarge", mode="context", ranks=2)


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
def test_images_under_way_at_once(mode, ranks, options, images, cores):
    request = Request(num_images_per_prompt=3, **options)
    row = predict(XL_2, request, "inf2.48xlarge", mode=mode, ranks=ranks)
    assert (row.images, row.deployment.cores, row.deployment.replicas) == (images, cores, 24 // cores)
    # Every image has as many steps on as many cores, and a prompt to every three.
    text, transformer, decoder = row.components
    assert transformer.core_runs == 20 * cores
    assert text.runs == images // 3 * (1 if request.no_guidance else 2)
    assert decoder.core_runs == images
    assert row.images_per_second == pytest.approx(24 // cores * images / row.expected_s)


def test_modes_do_the_same_work_but_for_duplicates():
    """Guidance or data: the FLOPs of an image are those of one core; sequence ranks repeat the text alone."""
    whole = predict(XL_2, Request(), "trn1", mode=None, ranks=1).flops_per_image
    assert predict(XL_2, Request(), "trn1", mode="data", ranks=8).flops_per_image == whole
    assert predict(XL_2, Request(), "trn1", mode="context", ranks=2).flops_per_image == whole
    assert whole < predict(XL_2, Request(), "trn1", mode="context", ranks=8).flops_per_image < 1.03 * whole


def test_expected_time_is_the_bound_at_the_efficiency():
    row = predict(XL_2, Request(), "inf2.xlarge", mode=None, ranks=1, efficiency=0.5)
    text, *image = row.components
    assert row.expected_s == pytest.approx(text.lower_bound_s + sum(part.lower_bound_s for part in image) / 0.5)
    assert row.lower_bound_s <= row.expected_s


@pytest.mark.parametrize("mode", ["context", "tensor"])
def test_nothing_is_expected_below_its_bound(mode):
    for row in plan(Request(parallel_mode=mode), efficiency=1.0):
        assert row.expected_s >= row.lower_bound_s


@pytest.mark.parametrize(("side", "by"), [(1024, "matmul"), (4096, "softmax")])
def test_exponentials_overtake_products_as_self_attention_grows(side, by):
    bound = predict(XL_2, Request(height=side, width=side), "trn1", mode=None, ranks=1).component("transformer").bound
    scores = 28 * 16 * (side // 16) ** 4
    assert bound.softmax == pytest.approx(scores / (128 * 1.4e9), rel=0.1)  # and 7 % of cross-attention at 1024 px
    assert bound.by == by


def test_heads_of_72_channels_take_the_tensor_engine_as_long_as_128():
    scores, values = product(4096, 72, 4096), product(4096, 4096, 72)
    assert scores.flops == values.flops == values.array_flops
    assert scores.array_flops * 72 == scores.flops * 128


def test_float32_takes_four_times_as_long_on_the_tensor_engine():
    exact, half = (
        predict(XL_2, Request(torch_dtype=dtype), "trn1", mode="tensor", ranks=8) for dtype in ("float32", "bfloat16")
    )
    ratio = exact.component("transformer").bound.matmul / half.component("transformer").bound.matmul
    assert ratio == pytest.approx(4)


def test_cost():
    row = predict(XL_2, Request(), "inf2.xlarge", mode="context", ranks=2)
    assert row.price == PRICES["inf2.xlarge"] and row.price.date and row.price.source
    assert row.cost_per_1000 == pytest.approx(row.price.per_hour / 3600 * row.expected_s * 1000)
    assert predict(XL_2, Request(), "trn2.48xlarge", mode="context", ranks=4).cost_per_1000 is None
    own = plan(instances=["trn2"], prices={"trn2.48xlarge": own_price(30)})
    assert all(row.cost_per_1000 == pytest.approx(30 / 3.6 / row.images_per_second) for row in own)


def test_every_price_is_of_a_known_instance():
    assert set(PRICES) <= set(INSTANCES)


def test_a_row_does_not_depend_on_what_the_request_filters():
    assert predict(XL_2, Request(parallel_mode="tensor"), "trn1", mode="context", ranks=4) == predict(
        XL_2, Request(), "trn1", mode="context", ranks=4
    )

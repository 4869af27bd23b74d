"""Figures from samples: percentiles, shares, throughput, cost; and what of it is printed."""

import json

import numpy as np
import pytest

from optimum_pixart_neuron.benchmark.conditions import MachineRecord, MemoryRecord
from optimum_pixart_neuron.benchmark.observe import HOST_PARTS
from optimum_pixart_neuron.benchmark.report import (
    EMULATOR_NOTE,
    REST,
    BenchmarkReport,
    CompiledRecord,
    CostRecord,
    Percentiles,
    PlanRecord,
    RequestOptions,
    Sample,
    Summary,
)
from optimum_pixart_neuron.benchmark.table import print_report
from optimum_pixart_neuron.planner import Request, predict
from optimum_pixart_neuron.planner.prices import own_price
from optimum_pixart_neuron.terminal.table import console

pytestmark = pytest.mark.seconds

STEPS = 20
COMPONENTS = ("text_encoder", "transformer", "vae_decoder")
REQUEST = Request(height=512, width=512, tensor_parallel_size=8)


def sample(step_s: float) -> Sample:
    """20 equal steps, 0.1 s each for the other components, 0.04 s on the host."""
    components = {"text_encoder": 0.1, "transformer": STEPS * step_s, "vae_decoder": 0.1}
    host = dict.fromkeys((*HOST_PARTS, REST), 0.01)
    return Sample(
        end_to_end=sum(components.values()) + sum(host.values()),
        components=components,
        calls={"text_encoder": [0.05, 0.05], "transformer": [step_s] * STEPS, "vae_decoder": [0.1]},
        host=host,
    )


SAMPLES = [sample(0.1), sample(0.2), sample(0.4)]


def report(*, emulated: bool, images: int = 2) -> BenchmarkReport:
    row = predict(REQUEST, "trn1.32xlarge", price=own_price(36))
    summary = Summary.of(SAMPLES, images)
    return BenchmarkReport(
        emulated=emulated,
        note=EMULATOR_NOTE if emulated else None,
        compiled=CompiledRecord(
            folder="pixart-neuron",
            pipeline_class="optimum_pixart_neuron.runtime.pixart.NeuronPixArtSigmaPipeline",
            has_manifest=True,
            instance="trn1.32xlarge",
            parallel_mode="context",
            ranks=8,
            height=512,
            width=512,
            batch_size=1,
            num_images_per_prompt=1,
        ),
        machine=MachineRecord.here("trn1.32xlarge"),
        versions={},
        options=RequestOptions(
            prompt="a cat",
            negative_prompt="",
            batch_size=images,
            num_images_per_prompt=1,
            num_inference_steps=STEPS,
            guidance_scale=4.5,
            seed=0,
            warmup=1,
        ),
        load=1.5,
        memory=MemoryRecord(main=3 * 2**30, largest_rank=2**30 if emulated else None),
        summary=summary,
        plan=None if emulated else PlanRecord.of(row),
        plan_missing="the emulator's times are those of a CPU" if emulated else None,
        cost=None if emulated else CostRecord.of(row, summary.images_per_second),
        samples=SAMPLES,
    )


def test_percentiles_are_numpys_and_say_of_how_many():
    seconds = np.random.default_rng(0).exponential(size=500)
    found = Percentiles.of(seconds)
    assert found.samples == 500
    expected = np.sort(seconds)[[249, 449, 494]]
    np.testing.assert_allclose([found.p50, found.p90, found.p99], expected, rtol=0.05)
    assert Percentiles.of([2.0]) == Percentiles(samples=1, p50=2, p90=2, p99=2)


def test_the_summary_counts_requests_calls_and_images():
    summary = Summary.of(SAMPLES, images=2)
    total = 2.24 + 4.24 + 8.24
    assert summary.end_to_end.p50 == pytest.approx(4.24)
    assert summary.components["transformer"].p50 == pytest.approx(4)
    assert (summary.calls["transformer"].samples, summary.calls["text_encoder"].samples) == (3 * STEPS, 6)
    assert summary.host_outside_graphs.p90 == pytest.approx(0.04)
    assert summary.host_share == pytest.approx(3 * 0.04 / total)
    assert summary.images_per_second == pytest.approx(6 / total)


def test_the_planned_parts_are_the_plans_and_add_up():
    """T5 at its bound, the others at the efficiency: one figure, the planner's."""
    row = predict(REQUEST, "trn2.48xlarge")
    record = PlanRecord.of(row)
    assert record.components.keys() == set(COMPONENTS)
    assert sum(part.expected for part in record.components.values()) == pytest.approx(record.expected)
    assert {name: part.expected for name, part in record.components.items()} == {
        part.component.name: row.expected_s_of(part) for part in row.components
    }


def test_cost_is_that_of_a_full_instance():
    row = predict(REQUEST, "trn1.32xlarge", price=own_price(36))
    cost = CostRecord.of(row, images_per_second=2.0)
    assert row.deployment.replicas == 4
    assert cost.per_1000_images == pytest.approx(36 / 3600 * 1000 / (2 * 4))
    assert cost.expected_per_1000_images == pytest.approx(row.cost_per_1000)
    assert cost.price_source == "--price_per_hour"
    unknown = predict(REQUEST, "trn2.48xlarge")
    assert CostRecord.of(unknown, 2.0) is None


def printed(found: BenchmarkReport, capsys) -> list[str]:
    print_report(found, console())
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


def test_no_cost_of_the_emulator_anywhere(capsys):
    found = report(emulated=True)
    text, content = "\n".join(printed(found, capsys)), found.to_json().decode()
    assert "no plan: the emulator's times are those of a CPU" in text
    assert not [word for word in ("$", "cost", "expected") if word in text]
    assert json.loads(content)["emulated"] is True and json.loads(content)["note"] == EMULATOR_NOTE
    assert "cost" not in content and "price" not in content


def test_hardware_has_a_cost_and_no_note(capsys):
    found = report(emulated=False)
    text, content = "\n".join(printed(found, capsys)), json.loads(found.to_json())
    assert f"${found.cost.per_1000_images:.3g} for 1000 images" in text
    assert "EMULATOR" not in text and "emulated" not in text
    assert content["emulated"] is False and "note" not in content
    assert content["cost"]["price_per_hour"] == 36


def test_an_unknown_price_is_said(capsys):
    lines = printed(report(emulated=False).model_copy(update={"cost": None}), capsys)
    said = "no cost: the price of trn1.32xlarge is not known; give it with --price_per_hour"
    assert said in " ".join(" ".join(lines).split())


def test_the_table_has_every_part_and_says_what_p99_is_of(capsys):
    lines = printed(report(emulated=False), capsys)
    text = " ".join(" ".join(lines).split())
    for part in ("end to end", *COMPONENTS, "one call", "host outside graphs", *HOST_PARTS, REST, "4.24 s", "40 ms"):
        assert part in text
    assert max(len(line) for line in lines if not line.startswith("  ")) <= 80
    assert "0.82% of the time is outside compiled graphs" in text
    assert "p99 of 3 request(s) is next to the slowest of them; for more ask for --images 200" in text


def test_the_json_reads_back_whole():
    found = report(emulated=False)
    content = json.loads(found.to_json())
    assert content["schema_version"] == 1
    assert len(content["samples"]) == 3 and len(content["samples"][0]["calls"]["transformer"]) == STEPS
    nothing = dict.fromkeys(("note", "plan_missing"))
    content["memory"]["largest_rank"] = None
    assert BenchmarkReport.model_validate(nothing | content) == found

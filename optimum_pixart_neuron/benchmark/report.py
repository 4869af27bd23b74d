"""What a benchmark found: the content of `--json`, from which the table is made."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from ..planner import PlanRow
from .conditions import MachineRecord, MemoryRecord, Record
from .observe import HOST_PARTS
from .spans import Recorder, Span, covered, outside

EMULATOR_NOTE = "EMULATOR: these are times of the CPU emulator; they say nothing of Neuron hardware."
REST = "rest"


FEWEST_FOR_P99 = 100
"""With fewer samples the 99th percentile lies between the two largest of them."""


class Percentiles(Record):
    """Of seconds, interpolated linearly between samples."""

    samples: int
    p50: float
    p90: float
    p99: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Percentiles":
        """Of at least one sample."""
        p50, p90, p99 = np.percentile(seconds, (50, 90, 99)).tolist()
        return cls(samples=len(seconds), p50=p50, p90=p90, p99=p99)


class RequestOptions(Record):
    """One request, by the names of the pipeline's call and of the command's flags."""

    prompt: str
    negative_prompt: str
    batch_size: int
    num_images_per_prompt: int
    num_inference_steps: int
    guidance_scale: float
    seed: int
    warmup: int
    guidance_interval: tuple[float, float] | None = None
    size: tuple[int, int] | None = None

    @property
    def images(self) -> int:
        return self.batch_size * self.num_images_per_prompt


class CompiledRecord(Record):
    """What is measured.

    Attributes:
        folder, pipeline_class: of the artifacts, and what loaded them.
        has_manifest: whether this package made them.
        instance, parallel_mode, ranks: they are compiled for; the mode is absent on one rank.
        height, width: pixels.
        batch_size, num_images_per_prompt: of a compiled batch.
    """

    folder: str
    pipeline_class: str
    has_manifest: bool
    instance: str
    parallel_mode: str | None
    ranks: int
    height: int
    width: int
    batch_size: int
    num_images_per_prompt: int


class Sample(Record):
    """One request, in seconds.

    Attributes:
        end_to_end: from the prompt to the images.
        components: wall time in which a compiled component ran, on any core.
        calls: each call of its program, in the order they ended; copies of a program may overlap.
        host: wall time in which no compiled program ran, by what the host did, see `observe.HOST_PARTS`.
        programs: how often each program of a component ran, by its name among several.
    """

    end_to_end: float
    components: dict[str, float]
    calls: dict[str, list[float]]
    host: dict[str, float]
    programs: dict[str, dict[str, int]] = {}

    @classmethod
    def of(cls, request: Span, recorder: Recorder) -> "Sample":
        """From the spans of one request."""
        components = {name: spans for name, spans in recorder.spans.items() if name not in HOST_PARTS}
        programs = [span for spans in components.values() for span in spans]
        host = {name: outside(recorder.spans[name], programs) for name in HOST_PARTS}
        host[REST] = outside([request], programs) - sum(host.values())
        return cls(
            end_to_end=request.end - request.begin,
            components={name: covered(spans) for name, spans in components.items()},
            calls={name: [span.end - span.begin for span in spans] for name, spans in components.items()},
            host=host,
            programs={name: dict(sorted(counts.items())) for name, counts in recorder.runs.items()},
        )

    @property
    def host_seconds(self) -> float:
        """Outside compiled graphs."""
        return sum(self.host.values())


class PromptsRecord(Record):
    """What became of the prompts of all measured requests, negative ones too.

    Attributes:
        hits: whose embeddings were kept, or asked for twice at once.
        misses: that were encoded.
    """

    hits: int
    misses: int


class Summary(Record):
    """Figures of all requests.

    Attributes:
        end_to_end, components, host_outside_graphs: of a request.
        calls: of one call of a component's program; of the transformer one denoising step.
        host: outside graphs, by what the host did.
        host_share: of the whole measured time.
        images_per_second: of this pipeline, requests back to back.
        programs: how often a request runs each program of a component on average, by its name among several.
    """

    end_to_end: Percentiles
    components: dict[str, Percentiles]
    calls: dict[str, Percentiles]
    host_outside_graphs: Percentiles
    host: dict[str, Percentiles]
    host_share: float
    images_per_second: float
    programs: dict[str, dict[str, float]] = {}

    @classmethod
    def of(cls, samples: list[Sample], images: int) -> "Summary":
        """Of at least one request of `images` images each."""
        total = sum(sample.end_to_end for sample in samples)
        return cls(
            end_to_end=Percentiles.of([sample.end_to_end for sample in samples]),
            components={name: Percentiles.of([s.components[name] for s in samples]) for name in samples[0].components},
            calls={
                name: Percentiles.of([call for sample in samples for call in sample.calls[name]])
                for name in samples[0].components
            },
            host_outside_graphs=Percentiles.of([sample.host_seconds for sample in samples]),
            host={name: Percentiles.of([s.host[name] for s in samples]) for name in (*HOST_PARTS, REST)},
            host_share=sum(sample.host_seconds for sample in samples) / total,
            images_per_second=len(samples) * images / total,
            programs=_average([sample.programs for sample in samples]),
        )


def _average(runs: list[dict[str, dict[str, int]]]) -> dict[str, dict[str, float]]:
    found = dict.fromkeys((name, program) for each in runs for name in each for program in each[name])
    averages: dict[str, dict[str, float]] = {}
    for name, program in found:
        total = sum(each.get(name, {}).get(program, 0) for each in runs)
        averages.setdefault(name, {})[program] = total / len(runs)
    return averages


class _PlannedComponent(Record):
    """Seconds of all runs of a component, for `PlanRecord.images` images."""

    lower_bound: float
    expected: float


class PlanRecord(Record):
    """What `pixart-plan` says of the instance that the artifacts are compiled for; never beside emulated times.

    Attributes:
        instance: the hardware.
        images: that one pipeline makes at once; the seconds are theirs.
        lower_bound: seconds end to end at the hardware's peaks.
        expected: the same at the stated efficiency.
        efficiency: lower bound over expected.
        components: by folder.
        images_per_second: expected of one pipeline.
        pipelines: that the instance holds side by side.
    """

    instance: str
    images: int
    lower_bound: float
    expected: float
    efficiency: float
    components: dict[str, _PlannedComponent]
    images_per_second: float
    pipelines: int

    @classmethod
    def of(cls, row: PlanRow) -> "PlanRecord":
        """The figures of a plan's row."""
        return cls(
            instance=row.deployment.instance.name,
            images=row.images,
            lower_bound=row.lower_bound_s,
            expected=row.expected_s,
            efficiency=row.efficiency.expected,
            components={
                part.component.name: _PlannedComponent(
                    lower_bound=part.lower_bound_s, expected=row.expected_s_of(part)
                )
                for part in row.components
            },
            images_per_second=row.images / row.expected_s,
            pipelines=row.deployment.replicas,
        )


class CostRecord(Record):
    """US dollars for 1000 images on an instance full of such pipelines, none slowing another; never on the emulator.

    Attributes:
        per_1000_images: as measured.
        expected_per_1000_images: as planned.
        price_per_hour: of the instance.
        price_source: kind of price, region, where and when it was read.
    """

    per_1000_images: float
    expected_per_1000_images: float
    price_per_hour: float
    price_source: str

    @classmethod
    def of(cls, row: PlanRow, images_per_second: float) -> "CostRecord | None":
        """From the measured images per second of one pipeline; None without a price."""
        if row.price is None:
            return None
        per_second = row.price.per_hour / 3600
        when = f", {row.price.date}" if row.price.date else ""
        return cls(
            per_1000_images=1000 * per_second / (images_per_second * row.deployment.replicas),
            expected_per_1000_images=row.cost_per_1000,
            price_per_hour=row.price.per_hour,
            price_source=f"{row.price.source}{when}",
        )


class BenchmarkReport(Record):
    """A whole benchmark. Times are in seconds, sizes in bytes; what is not known is absent from the JSON.

    Attributes:
        schema_version: of this content.
        emulated: whether the emulator ran it; its times say nothing of Neuron, and there is no plan and no cost.
        note: said first.
        versions: of compiler and packages, by distribution name.
        options: of every request.
        load: seconds of `from_pretrained`.
        plan_missing: why there is no plan.
        samples: every measured request.
        prompts: None where none are kept.
    """

    schema_version: Literal[1] = 1
    emulated: bool
    note: str | None
    compiled: CompiledRecord
    machine: MachineRecord
    versions: dict[str, str]
    options: RequestOptions
    load: float
    memory: MemoryRecord
    summary: Summary
    plan: PlanRecord | None
    plan_missing: str | None
    cost: CostRecord | None
    samples: list[Sample]
    prompts: PromptsRecord | None = None

    def to_json(self) -> bytes:
        """The content of `--json`."""
        return f"{self.model_dump_json(indent=2, exclude_none=True)}\n".encode()

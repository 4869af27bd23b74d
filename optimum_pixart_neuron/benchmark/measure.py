"""The benchmark, top to bottom: open, load, warm up, measure, report."""

import logging
import time
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from ..artifact.checks import check_artifact, kind_of
from ..artifact.manifest import installed_versions
from ..artifact.pull import is_repository, pull
from ..errors import DeviceError, InvalidExportOption, PixArtNeuronError, one_line
from ..neuron.sdk import ensure_sdk
from ..neuron.troubles import device_reason
from ..planner import PlanRow
from ..planner.prices import own_price
from .conditions import MachineRecord, MemoryRecord
from .observe import observed
from .options import BenchmarkOptions
from .report import (
    EMULATOR_NOTE,
    BenchmarkReport,
    CompiledRecord,
    CostRecord,
    PlanRecord,
    PromptsRecord,
    RequestOptions,
    Sample,
    Summary,
)
from .spans import Recorder, Span
from .subject import Subject

logger = logging.getLogger(__name__)


def benchmark(options: BenchmarkOptions) -> BenchmarkReport:
    """Measure one folder of artifacts; the first line that it logs says so if the emulator runs it.

    Raises:
        ArtifactError: the folder is no whole export, or not for this machine; said before anything is loaded.
        HubError: it cannot be downloaded.
        InvalidExportOption: a price on the emulator, or a batch that the stock class or exporter cannot run.
        DeviceError: there is no NeuronCore, or a program failed while it ran.
    """
    folder = pull(options.output) if is_repository(options.output) else Path(options.output)
    subject = Subject.open(folder)
    # The emulator can be any instance; with the SDK, `check_artifact` says whether this is the right one.
    sdk = ensure_sdk(subject.known_instance)
    if sdk.emulated and options.price_per_hour is not None:
        raise InvalidExportOption(f"--price_per_hour {options.price_per_hour:g}: the emulator's times have no cost")
    check_artifact(subject.folder, sdk)
    subject = _of_size(subject, options)
    plan, plan_missing = _plan(subject, options) if not sdk.emulated else (None, _EMULATED.format(subject.instance))
    request = _request(options, subject, _batches(subject, options))
    if sdk.emulated:
        logger.info(EMULATOR_NOTE)
    begin = time.perf_counter()
    pipeline = _load(subject.folder, stock=options.stock)
    load = time.perf_counter() - begin
    samples, prompts = _measure(
        pipeline, request, requests=ceil(options.images / request.images), kept=options.prompt_cache
    )
    summary = Summary.of(samples, request.images)
    return BenchmarkReport(
        emulated=sdk.emulated,
        note=EMULATOR_NOTE if sdk.emulated else None,
        compiled=_compiled(subject, pipeline),
        machine=MachineRecord.here(sdk.instance or subject.instance),
        versions=installed_versions(),
        options=request,
        load=load,
        memory=MemoryRecord.here(emulated=sdk.emulated),
        summary=summary,
        plan=PlanRecord.of(plan) if plan else None,
        plan_missing=plan_missing,
        cost=CostRecord.of(plan, summary.images_per_second) if plan else None,
        samples=samples,
        prompts=prompts,
    )


_EMULATED = "the emulator's times are a CPU's; of the instance: optimum-cli neuron pixart-plan --instance_type {}"


def _of_size(subject: Subject, options: BenchmarkOptions) -> Subject:
    """The folder with the size that is measured; refused where it is not compiled, or the class draws another."""
    if options.size is None:
        return subject
    compiled = {f"{tall}x{wide}": (tall, wide) for tall, wide in subject.sizes}
    if options.size not in compiled:
        raise InvalidExportOption(f"--size {options.size}: compiled for {', '.join(compiled)}")
    if options.stock and compiled[options.size] != subject.sizes[0]:
        raise InvalidExportOption(f"--size {options.size}: the stock class draws {next(iter(compiled))}")
    return replace(subject, drawn=compiled[options.size])


def _steps(subject: Subject, options: BenchmarkOptions) -> int:
    return options.num_inference_steps or subject.steps


def _batches(subject: Subject, options: BenchmarkOptions) -> int:
    """Compiled batches that keep every copy of the denoiser busy; 1 for what only another exporter makes."""
    try:
        return subject.deployment(_steps(subject, options)).batches
    except (PixArtNeuronError, ValueError, KeyError):
        return 1


def _plan(subject: Subject, options: BenchmarkOptions) -> tuple[PlanRow | None, str | None]:
    """The plan's row, or why there is none."""
    price = None if options.price_per_hour is None else own_price(options.price_per_hour)
    try:
        return subject.predict(_steps(subject, options), price), None
    except (PixArtNeuronError, ValueError, KeyError) as error:  # folders that other exporters made hold what they like
        return None, one_line(error)


def _request(options: BenchmarkOptions, subject: Subject, batches: int) -> RequestOptions:
    """What every request asks for; by default so many compiled batches, which keep every copy of the denoiser busy.

    Refused is another batch where the stock class or the stock exporter's programs cannot run it.
    """
    compiled = {"batch_size": subject.prompts, "num_images_per_prompt": subject.images_per_prompt}
    any_batch = subject.takes_any_batch and not options.stock
    chosen = {flag: getattr(options, flag) or value for flag, value in compiled.items()}
    if any_batch and options.batch_size is None:
        chosen["batch_size"] *= batches
    for flag, value in compiled.items():
        if chosen[flag] != value and not any_batch:
            way = "the stock class" if options.stock else "an export of the stock exporter"
            raise InvalidExportOption(
                f"--{flag} {chosen[flag]}: {way} runs the compiled {value} only; change --{flag}"
            )
    if options.prompt_cache and options.stock:
        raise InvalidExportOption("--prompt_cache: the stock class keeps no embeddings; leave out --stock")
    if options.guidance_interval is not None and options.stock:
        raise InvalidExportOption("--guidance_interval: the stock class has no such argument; leave out --stock")
    scale = subject.guidance_scale if options.guidance_scale is None else options.guidance_scale
    return RequestOptions(
        **chosen,
        **{name: getattr(options, name) for name in ("prompt", "negative_prompt", "seed", "warmup")},
        num_inference_steps=_steps(subject, options),
        guidance_scale=scale,
        guidance_interval=options.guidance_interval,
        size=None if options.size is None else subject.size,
    )


def _load(folder: Path, *, stock: bool) -> Any:
    name = kind_of(folder).neuron_class
    if stock:
        from optimum import neuron

        loaded = getattr(neuron, name)
    else:
        from ..runtime.pixart import PIPELINES

        loaded = PIPELINES[name]
    try:
        pipeline = loaded.from_pretrained(folder)
    except PixArtNeuronError:
        raise
    except RuntimeError as error:
        raise DeviceError(f"{folder} cannot be loaded: {device_reason(error)}") from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _measure(
    pipeline: Any, request: RequestOptions, *, requests: int, kept: int
) -> tuple[list[Sample], PromptsRecord | None]:
    """Run the warm-up and then `requests` requests, each with noise of its own; so many embeddings are kept."""
    recorder, samples, before = Recorder(), [], (0, 0)
    cache = getattr(pipeline, "prompt_cache", None)  # which the stock class has not
    if cache is not None:
        cache.limit = kept
    with (
        observed(pipeline, recorder),
        tqdm(total=request.warmup + requests, unit="request", leave=False, disable=None) as progress,
    ):
        for number in range(request.warmup + requests):
            progress.set_description("measuring" if number >= request.warmup else "warming up")
            recorder.clear()
            if cache is not None and number == request.warmup:
                before = cache.hits, cache.misses
            span = _run(pipeline, request, number)
            if number >= request.warmup:
                samples.append(Sample.of(span, recorder))
            progress.update()
    if cache is None or not kept:
        return samples, None
    return samples, PromptsRecord(hits=cache.hits - before[0], misses=cache.misses - before[1])


def _run(pipeline: Any, request: RequestOptions, number: int) -> Span:
    generator = torch.Generator().manual_seed(request.seed + number)
    asked: dict[str, Any] = {} if request.size is None else dict(zip(("height", "width"), request.size))
    if request.guidance_interval is not None:
        asked["guidance_interval"] = request.guidance_interval
    begin = time.perf_counter()
    try:
        pipeline(
            [request.prompt] * request.batch_size,
            negative_prompt=[request.negative_prompt] * request.batch_size,
            num_images_per_prompt=request.num_images_per_prompt,
            num_inference_steps=request.num_inference_steps,
            guidance_scale=request.guidance_scale,
            generator=generator,
            **asked,
        )
    except PixArtNeuronError:
        raise
    except (RuntimeError, ValueError, KeyError) as error:
        raise DeviceError(f"the pipeline failed: {device_reason(error)}") from error
    return Span(begin, time.perf_counter())


def _compiled(subject: Subject, pipeline: Any) -> CompiledRecord:
    loaded = type(pipeline)
    height, width = subject.size
    return CompiledRecord(
        folder=str(subject.folder),
        pipeline_class=f"{loaded.__module__}.{loaded.__qualname__}",
        has_manifest=subject.manifest is not None,
        instance=subject.instance,
        parallel_mode=subject.mode,
        ranks=subject.ranks,
        height=height,
        width=width,
        batch_size=subject.prompts,
        num_images_per_prompt=subject.images_per_prompt,
    )

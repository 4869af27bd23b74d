"""The export, top to bottom: open, decide, say so, compile each component, validate, put the folder in place."""

import json
import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..artifact.compiled import CONFIG_FILE, Compiled
from ..artifact.manifest import Manifest, installed_versions, listed_files, own_name
from ..artifact.manifest_records import ComponentRecord, SourceRecord, ValidationRecord
from ..checkpoint.checkpoint import PixArtCheckpoint
from ..checkpoint.few_steps import CallDefaults, check_schedule
from ..checkpoint.layout import ALPHA, INDEX, Kind
from ..checkpoint.open import fetch_weights, open_checkpoint
from ..components.registry import DENOISER, added_components
from ..components.scheduler.scheduler import Scheduler, gives_denoised
from ..components.scheduler.spec import SCHEDULER
from ..deployment.deployment import Deployment, chosen_instance
from ..deployment.options import BINS
from ..errors import CheckpointError, InvalidExportOption, ValidationFailed
from ..files import FileRecord, read_json, records_of
from ..neuron.compile_cache import CompileCache, chosen_repository
from ..neuron.sdk import NeuronSdk, ensure_sdk
from ..planner.decoding import DecodingChoice, decide_decoding
from ..terminal.table import fact
from .earlier import EarlierExport
from .options import ExportOptions
from .output import check_apart, check_output, check_workdir
from .publish import check_publication, publish
from .unfinished import FinishedComponent, UnfinishedExport, tidy, unfinished_export

if TYPE_CHECKING:
    from ..components.export_config import ExportConfig
    from .compile import CompileJob
    from .traced import TracedComponent

logger = logging.getLogger(__name__)

FAILED_LABEL = "failed-validation"


@dataclass(frozen=True)
class _Request:
    """What one export goes by: what was asked for, of which checkpoint, what was decided, with which SDK and cache.

    Attributes:
        earlier: whose programs are taken where they are the same.
        call: what a call of the pipeline does where its arguments do not say.
    """

    options: ExportOptions
    checkpoint: PixArtCheckpoint
    deployment: Deployment
    sdk: NeuronSdk
    cache: CompileCache
    earlier: EarlierExport | None
    call: CallDefaults


def export(options: ExportOptions, *, kind: Kind | None = None) -> Path:
    """Compile every component of a PixArt checkpoint into `options.output`.

    Components that an interrupted export has finished from the same inputs are not compiled again, nor are programs
    that the compile cache or the export `options.programs_from` has.

    Args:
        kind: of pipeline that the checkpoint has to be; None for either.

    Returns:
        the output folder, which `from_pretrained` of the class loads that its index names.

    Raises:
        PixArtNeuronError: something the user can mend; what is wrong with the request is said before any weight is
            read, and then nothing is left behind.
        ValidationFailed: a component does not compute what the original does; names the folder of the artifacts.
        HubError: what is made could not be pushed, said before anything is compiled, or was not; then it is kept.
        OutputFull: the disk has no room; what was finished stays for the next run.
        CompilationFailed: the compiler refuses a component; its log is kept, and what was finished.
    """
    tidy(options.output)
    check_output(options.output, force=options.force)
    check_workdir(options.compiler_workdir, options.output)
    sdk = ensure_sdk()
    repository = None if options.local_files_only else chosen_repository(os.environ)
    cache = CompileCache.chosen(os.environ, disabled=options.disable_neuron_cache, repository=repository)
    check_publication(options, sdk)
    earlier = EarlierExport.of(options)
    _check_importable(options)
    checkpoint = open_checkpoint(options)
    if kind not in (None, checkpoint.kind):
        raise InvalidExportOption(
            f"{options.model} is {checkpoint.kind.label}; {checkpoint.kind.neuron_class}.from_pretrained exports it"
        )
    checkpoint.check_copied()
    call = _call_defaults(options, checkpoint)
    options = options.completed(tokens=checkpoint.kind.tokens, unguided=call.unguided)
    check_apart(options.output, options.compiler_workdir, checkpoint)
    deployment, decoding = decide_decoding(options, checkpoint, chosen_instance(options, sdk))
    _say_choices(options, checkpoint, deployment, decoding, call, sdk.emulated)
    fetch_weights(options, checkpoint)
    with torch.no_grad():
        _make(_Request(options, checkpoint, deployment, sdk, cache, earlier, call))
    logger.info(f"saved to {options.output}")
    publish(options, sdk)
    return options.output


def _check_importable(options: ExportOptions) -> None:
    """Refuse, before anything is compiled, a component that the process of the validation could not import."""
    for component in () if options.disable_validation else added_components():
        if type(component).__module__ == "__main__":
            raise InvalidExportOption(
                f"the component {component.name} is defined in __main__, which the process of the validation cannot"
                " import; define it in a module, or leave the validation out with --disable-validation"
            )


def _call_defaults(options: ExportOptions, checkpoint: PixArtCheckpoint) -> CallDefaults:
    """What a call does where its arguments do not say; refused where the scheduler has no such schedule."""
    scheduler = checkpoint.copied[SCHEDULER.name]
    assert isinstance(scheduler, Scheduler)
    call = CallDefaults.of(options, checkpoint, options.lora_model_ids)
    if call.steps is not None:
        check_schedule(scheduler, call.sources["steps"], call.steps, call.timesteps)
    if checkpoint.kind is ALPHA and call.steps == 1 and not gives_denoised(scheduler.load()):
        raise InvalidExportOption(
            f"{call.sources['steps']}: of a single step {ALPHA.label} takes the denoised sample, which"
            f" {scheduler.class_name} does not give; choose 2 steps, or a checkpoint with another scheduler"
        )
    return call


def _say_choices(
    options: ExportOptions,
    checkpoint: PixArtCheckpoint,
    deployment: Deployment,
    decoding: DecodingChoice | None,
    call: CallDefaults,
    emulated: bool,
) -> None:
    logger.info(f"{checkpoint.kind.label} export: {options.model} -> {options.output}")
    if emulated:
        logger.info(fact("SDK", "emulator: these artifacts run on no Neuron device"))
    logger.info(fact("loaded with", checkpoint.kind.neuron_class))
    for name, value in deployment.table():
        logger.info(fact(name, value))
    if decoding:
        logger.info(fact("decoder", decoding.describe()))
    if call.sources:
        logger.info(fact("call", call.describe()))
    for note in (*checkpoint.notes, *deployment.notes):
        logger.info(fact("note", note))


def _make(request: _Request) -> None:
    # Imported late: the host's exporter, which the components extend, imports the SDK.
    from ..program.memory import within_host_memory
    from .describe import describe_components

    with within_host_memory():
        components = describe_components(request.checkpoint, request.deployment, request.options)
        traced = _check_all(components, request)
    names = [component.COMPONENT.name for component in components]
    with unfinished_export(request.options.output, names, force=request.options.force) as unfinished:
        copied = _copy(request.checkpoint, unfinished.artifacts)
        finished = {}
        for number, (name, component) in enumerate(zip(names, traced), start=1):
            finished[name] = _finish(request, component, unfinished, f"[{number}/{len(names)}] {name}")
        validation = _validate(request, unfinished)
        manifest = _manifest(request, unfinished, finished, copied, validation)
        unfinished.seal(manifest)
        _refuse_failed(validation, unfinished)
        unfinished.put_in_place()
    _record_in_cache(request)


def _whole_config(checkpoint: PixArtCheckpoint, part: str) -> dict[str, Any]:
    """All that a configuration says, as optimum-neuron reads it from the Hub; where it is no file, what is read."""
    file = checkpoint.sources[part].folder / CONFIG_FILE
    return read_json(file, CheckpointError) if file.is_file() else checkpoint.config(part)


def _record_in_cache(request: _Request) -> None:
    """Have the export in optimum-neuron's registry of what was compiled, if there is a cache."""
    from .cache_entry import cache_entry, register_cache_entry

    if not request.cache.enabled:
        return
    options, checkpoint, deployment = request.options, request.checkpoint, request.deployment
    section = Compiled.require(options.output / DENOISER.name)
    local = next(iter(checkpoint.sources.values())).revision is None
    model = f"local/{own_name(str(checkpoint.source))}" if local else checkpoint.source
    configs = {name: _whole_config(checkpoint, name) for name in checkpoint.sources if name not in checkpoint.copied}
    sizes = list(dict.fromkeys(each.size for each in deployment.each))
    entry = cache_entry(model, configs, section.model_dump(exclude_unset=True), sizes)
    register_cache_entry()
    try:
        request.cache.record(entry)
    except OSError as error:
        logger.warning(f"the compile cache takes no entry of this export: {error}")


def _check_all(components: list["ExportConfig"], request: _Request) -> list["TracedComponent"]:
    """Trace every program, and refuse what cannot work before the first, long, compilation."""
    from ..program.memory import check_memory
    from .traced import check_shared, trace_all, within_memory
    from .unused import check_unused

    check_unused(components)
    check_shared(components)
    deployment = request.deployment
    traced = [trace_all(component, deployment.compiler) for component in components]
    if request.options.sizes == (BINS,):
        traced = within_memory(traced, deployment)
    needs = [component.need for component in traced]
    logger.info(fact("memory", check_memory(needs, deployment.instance, deployment.compiler.lnc)))
    return traced


def _finish(
    request: _Request, traced: "TracedComponent", unfinished: UnfinishedExport, title: str
) -> FinishedComponent:
    """Have one component complete in the unfinished export: compile it, or keep what is there.

    Its `config.json` is written in both cases: it also says what concerns the whole pipeline.
    """
    from ..neuron.compiler import environment_variables
    from .compile import CompileJob, left_there
    from .component_config import write_component_config
    from .record import component_record

    started, deployment, sdk = time.monotonic(), request.deployment, request.sdk
    component = traced.config
    name = component.COMPONENT.name
    job = CompileJob(
        component=component,
        compiler=deployment.compiler,
        cache=request.cache,
        folder=unfinished.artifacts / name,
        workdir=request.options.compiler_workdir or unfinished.new_workdir(),
        traced=traced.programs,
        inline_weights=request.options.inline_weights_to_neff,
        keep_log=left_there if request.options.compiler_workdir else unfinished.keep_log,
        one_at_a_time=not sdk.emulated,
    )
    part = component.COMPONENT.part.name
    adapters = [each for each in request.checkpoint.adapters if part in each.adapter.changes]
    weight_files = set(component.source_weights.files.values())
    read_files = weight_files | {each.adapter.path for each in adapters}
    mode = deployment.mode_of(component.COMPONENT).name
    unfinished.sources.note(read_files)
    with ThreadPoolExecutor(1) as reader, unfinished.sources.read_beside():
        source = reader.submit(unfinished.sources.record, request.checkpoint.sources[part], weight_files, adapters)

        def record() -> ComponentRecord:
            return component_record(job, source.result(), mode=mode, emulated=sdk.emulated)

        finished = unfinished.kept(name, record)
        if finished:
            logger.info(f"{title}: unchanged, kept from the interrupted export")
        else:
            # Meanwhile the files are read for their fingerprints: what compiling and sharding read is read once.
            with environment_variables(deployment.compiler.environment(component.ranks)):
                _compile_or_take(job, request.earlier, title)
            now = record()
            unfinished.sources.check_unchanged(read_files)
            finished = unfinished.finish(name, now)
            logger.info(f"    done in {time.monotonic() - started:.1f} s")
    write_component_config(job, deployment)
    return finished


def _compile_or_take(job: "CompileJob", earlier: EarlierExport | None, title: str) -> None:
    from .compile import compile_component
    from .found import find_programs

    programs = job.component.programs
    several = f", {len(programs)} programs" if len(programs) > 1 else ""
    title = f"{title}: {job.component.ranks} rank(s){several}"
    found = find_programs(job, earlier)
    missing = [program.program_name for program in job.missing(found)]
    taken = f"taken from {' and '.join(dict.fromkeys(place for _, place in found.values()))}"
    if not missing:
        logger.info(f"{title}, {taken}")
    elif found:
        logger.info(f"{title}, compiling {', '.join(missing)}; the others {taken}")
    else:
        logger.info(f"{title}, compiling")
    compile_component(job, {file: content for file, (content, _) in found.items()})


def _validate(request: _Request, unfinished: UnfinishedExport) -> tuple[ValidationRecord, ...]:
    if request.options.disable_validation or not request.sdk.has_device:
        return ()
    from ..validation.validate import validate_artifacts

    return validate_artifacts(
        unfinished.artifacts, request.checkpoint, atol=request.options.atol, steps=request.options.steps
    )


def _manifest(
    request: _Request,
    unfinished: UnfinishedExport,
    finished: dict[str, FinishedComponent],
    copied: dict[str, SourceRecord],
    validation: tuple[ValidationRecord, ...],
) -> Manifest:
    checkpoint, deployment = request.checkpoint, request.deployment
    unfinished.index.write_text(json.dumps(dict(checkpoint.model_index), indent=2) + "\n", encoding="utf-8")
    files: dict[str, FileRecord] = {INDEX: FileRecord.of(unfinished.index)}
    for component in finished.values():
        files |= component.files
    rest = [name for name in listed_files(unfinished.artifacts) if name not in files]
    files |= records_of(unfinished.artifacts, rest, title="    reading configurations")
    sources = checkpoint.sources.values()
    return Manifest(
        pipeline=checkpoint.kind.class_name,
        model=checkpoint.source,
        revision=next((source.revision for source in sources if source.model == checkpoint.source), None),
        instance=deployment.instance.name,
        target=deployment.compiler.target,
        lnc=deployment.compiler.lnc,
        ranks=deployment.ranks,
        parallel_mode=deployment.parallel_mode,
        emulated=request.sdk.emulated,
        options=request.options.recorded(),
        versions=installed_versions(),
        components={name: component.record for name, component in finished.items()},
        copied=copied,
        validation=validation,
        call=request.call if request.call.sources else None,
        files=dict(sorted(files.items())),
    )


def _copy(checkpoint: PixArtCheckpoint, folder: Path) -> dict[str, SourceRecord]:
    """Write what no compiler touches, tokenizer and scheduler, as it was read when the export started."""
    copied = {}
    for name, part in checkpoint.copied.items():
        part.write(folder / name)
        source = checkpoint.sources[name]
        files = {file: FileRecord.of_content(content) for file, content in sorted(part.source.items())}
        copied[name] = SourceRecord(model=source.model, revision=source.revision, files=files)
    return copied


def _refuse_failed(validation: tuple[ValidationRecord, ...], unfinished: UnfinishedExport) -> None:
    """Put artifacts that do not compute what they should under a name that says so."""
    failed = [record for record in validation if not record.passed]
    if not failed:
        return
    aside = unfinished.put_aside(FAILED_LABEL)
    misses = "; ".join(record.misses for record in failed)
    raise ValidationFailed(f"validation failed: {misses}; the artifacts are kept in {aside}")

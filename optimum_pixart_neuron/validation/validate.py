"""Compare every compiled component of a folder with its original, in this process or in one of its own."""

import logging
import os
import pickle
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any, BinaryIO

import torch
from torch import Tensor

from ..artifact.checks import machine_problem
from ..artifact.manifest_records import StepRecord, ValidationRecord
from ..checkpoint.checkpoint import PixArtCheckpoint
from ..checkpoint.few_steps import check_schedule
from ..components.common.original import Samples
from ..components.component import Component
from ..components.registry import COMPONENTS, DENOISER, added_components, register_component
from ..components.scheduler.scheduler import Scheduler
from ..components.scheduler.spec import SCHEDULER
from ..errors import CheckpointError, PixArtNeuronError
from ..neuron.compiler import environment_variables
from ..neuron.sdk import ensure_sdk
from ..process.run import run_module, shell_status
from .compare import Difference, limit_of
from .programs import CompiledComponent, open_compiled
from .schedule import scheduled_inputs
from .table import log_table

logger = logging.getLogger(__name__)

_CHILD = "optimum_pixart_neuron.commands.validation_child"
_INTERRUPTED = 128 + signal.SIGINT
_TERMINATED = (128 + signal.SIGTERM, 128 + signal.SIGHUP)


def validate_artifacts(
    folder: Path, checkpoint: PixArtCheckpoint, *, atol: float | None, steps: int | None = None
) -> tuple[ValidationRecord, ...]:
    """Compare every compiled component with its original, in a process of its own, and log the table.

    The Neuron runtime reads the number of cores once a process and keeps them until its end. The caller has compiled,
    for which the SDK may hold cores, and goes on: with an export for other cores, or by loading the pipeline.

    Args:
        folder: with the compiled components and the tokenizer; index and manifest need not be there yet.
        checkpoint: that they were compiled from, with its weights.
        atol: largest absolute difference that passes, as optimum-neuron's flag; None for limits of our own.
        steps: of a whole schedule that the denoiser is compared on, too; None for none.

    Returns:
        a record for each component, passed or not; none where this machine cannot run the programs, with a line that
        says why.

    Raises:
        InvalidExportOption: the checkpoint's scheduler has no schedule of so many steps.
        PixArtNeuronError: the comparison could not be made.
    """
    if steps is not None:
        scheduler = checkpoint.copied[SCHEDULER.name]
        assert isinstance(scheduler, Scheduler)
        check_schedule(scheduler, "--steps", steps)
    sdk = ensure_sdk()
    problem = None if sdk.emulated else machine_problem(folder, sdk)
    if problem:
        logger.info(f"validation is left out: {problem}")
        return ()
    # A file without a name: nothing of it is left, however this process ends.
    with tempfile.TemporaryFile() as shared:
        write_request(shared, folder=folder.absolute(), checkpoint=checkpoint, atol=atol, steps=steps)
        shared.seek(0)
        with _logged_lines() as lines:
            status = shell_status(run_module(_CHILD, [], descriptors=[shared.fileno(), lines]))
        if status == _INTERRUPTED:
            raise KeyboardInterrupt
        if status in _TERMINATED:
            raise SystemExit(status)
        if status != 0:
            raise PixArtNeuronError(
                f"the validation ended with status {status} before its verdict; --disable-validation leaves it out"
            )
        shared.seek(0)
        outcome = pickle.load(shared)
    if isinstance(outcome, PixArtNeuronError):
        raise outcome
    log_table(outcome)
    return outcome


def write_request(shared: BinaryIO, **request: Any) -> None:
    """Say what is to be validated, and which components were registered, with the folders to import those from.

    Args:
        request: arguments of `validate_here`.
    """
    added = added_components()
    pickle.dump([_import_folder(component) for component in added], shared)
    pickle.dump((added, request), shared)


def read_request(shared: BinaryIO) -> dict[str, Any]:
    """Register what the asking process had registered, and return the arguments of `validate_here`."""
    # Behind everything else: they may be the current folder, whose files must not stand in for other modules.
    sys.path += [place for place in pickle.load(shared) if place not in sys.path]
    added, request = pickle.load(shared)
    for component in added:
        if component.name not in COMPONENTS:
            register_component(component)
    return request


@contextmanager
def _logged_lines() -> Iterator[int]:
    """The writing end of a pipe; each line written there becomes one of this process's log."""
    reader, writer = os.pipe()
    thread = Thread(target=_log_lines, args=(reader,), daemon=True)
    thread.start()
    try:
        yield writer
    finally:
        os.close(writer)
        thread.join()


def _log_lines(reader: int) -> None:
    with open(reader, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            logger.info(line.rstrip("\n"))


def _import_folder(component: Component) -> str:
    """From which the module of a component's class was imported, or the package around it."""
    outermost = sys.modules[type(component).__module__.partition(".")[0]]
    inside = Path(outermost.__path__[0] if hasattr(outermost, "__path__") else str(outermost.__file__))
    return str(inside.absolute().parent)


def validate_here(
    folder: Path, checkpoint: PixArtCheckpoint, *, atol: float | None, steps: int | None = None
) -> tuple[ValidationRecord, ...]:
    """As `validate_artifacts`, in this process, whose Neuron runtime must not have started yet.

    Components come one after the other, and of each the original before the program: memory holds one of them.

    Raises:
        ArtifactError: the folder holds no compiled PixArt-Sigma of this package.
        CheckpointError: the checkpoint has another geometry, or lacks a weight.
        DeviceError: a program cannot be loaded or run.
    """
    components = open_compiled(folder)
    for component in components:
        component.check_original(checkpoint)
    sdk = ensure_sdk(components[0].compiled.instance_type)
    place = f"the emulator of {sdk.instance}" if sdk.emulated else sdk.instance
    logger.info(f"validation on {place} against {checkpoint.source}")
    comparison = _Comparison(folder=folder, checkpoint=checkpoint, atol=atol, steps=steps)
    # As optimum-neuron 0.4.5 `NeuronDiffusionPipelineBase.set_neuron_visible_cores`.
    cores = max(component.compiled.ranks for component in components)
    with environment_variables({"NEURON_RT_NUM_CORES": str(cores)}):
        for number, component in enumerate(components, start=1):
            started = time.monotonic()
            name = component.name if component.program_name is None else f"{component.name} {component.program_name}"
            logger.info(f"[{number}/{len(components)}] {name}: comparing")
            comparison.add(component)
            logger.info(f"    done in {time.monotonic() - started:.1f} s")
    return tuple(comparison.records)


@dataclass
class _Comparison:
    """The comparison of one folder, a component at a time; some need what the original of an earlier one gave."""

    folder: Path
    checkpoint: PixArtCheckpoint
    atol: float | None
    steps: int | None
    records: list[ValidationRecord] = field(default_factory=list)
    inputs: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)

    def add(self, compiled: CompiledComponent) -> None:
        component = compiled.component
        original = component.original()
        given = original.samples(
            Samples(
                folder=self.folder,
                batch=compiled.compiled.batch,
                sizes=compiled.compiled.sizes,
                config=compiled.config,
                inputs=self.inputs,
                outputs=self.outputs,
            )
        )
        expected = self._original(component, given, torch.float32)
        # What comes after this component goes by its first program.
        self.inputs.setdefault(component.name, given)
        self.outputs.setdefault(component.name, expected)
        counted, yardstick = given[original.counted] if original.counted else None, None
        if self.atol is None:
            yardstick = Difference.between(self._original(component, given, torch.bfloat16), expected, counted)
        result, ranks_differ = compiled.run(given)
        found = Difference.between(result, expected, counted)
        steps: tuple[StepRecord, ...] = ()
        in_schedule: str | None = None
        if self.steps and component is DENOISER:
            steps, in_schedule = self._schedule(compiled, given, self.steps)
        ranks_differ = ranks_differ or in_schedule
        limit = limit_of(compiled.compiled.precision, yardstick, self.atol)
        self.records.append(
            ValidationRecord(
                component=component.name,
                program=compiled.program_name,
                max_error=found.error,
                cosine=1 - found.distance,
                psnr=found.psnr,
                limit=limit.words,
                passed=limit.holds(found) and ranks_differ is None and all(step.passed for step in steps),
                ranks_differ=ranks_differ,
                steps=steps,
            )
        )

    def _schedule(
        self, compiled: CompiledComponent, given: dict[str, Tensor], steps: int
    ) -> tuple[tuple[StepRecord, ...], str | None]:
        """Compare a whole schedule of one run of the program; the second result is in what the ranks disagree."""
        component, rows, parallel = compiled.component, compiled.compiled.batch, compiled.compiled.parallel
        scheduler = self.checkpoint.copied[SCHEDULER.name].load()
        times, inputs, expected = scheduled_inputs(
            scheduler,
            steps,
            {name: tensor[:rows] for name, tensor in given.items()},
            guided=parallel is not None and parallel.guided,
            predict=lambda step: self._original(component, step, torch.float32),
        )
        together = {name: torch.cat([step[name] for step in inputs]) for name in inputs[0]}
        rounded = None if self.atol is not None else self._original(component, together, torch.bfloat16).split(rows)
        result, ranks_differ = compiled.run(together)
        records = []
        for number, (timestep, output, wanted) in enumerate(zip(times, result.split(rows), expected)):
            yardstick = None if rounded is None else Difference.between(rounded[number], wanted)
            found = Difference.between(output, wanted)
            limit = limit_of(compiled.compiled.precision, yardstick, self.atol)
            passed = limit.holds(found)
            records.append(StepRecord(timestep=timestep, max_error=found.error, allowed=limit.error, passed=passed))
        return tuple(records), ranks_differ

    def _original(self, component: Component, given: dict[str, Tensor], dtype: torch.dtype) -> Tensor:
        part = component.part.name
        config, weights = self.checkpoint.config(part), self.checkpoint.weights(part)
        try:
            return component.original().run(config, weights, given, dtype)
        except CheckpointError as error:
            raise CheckpointError(f"{part}: {error}") from None

"""Compile one component: NxD's ModelBuilder for a program of several ranks, torch_neuronx.trace for one core."""

import itertools
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..artifact.compiled import PROGRAM_FILE, shard_files
from ..components.export_config import ExportConfig
from ..neuron.compiler import CompilerSettings
from ..parallel.shard_writer import write_shards
from .archive import save_program
from .compiler_failure import compiler_failures


def _left_there(log: Path) -> Path:
    return log


@dataclass(frozen=True, kw_only=True)
class CompileJob:
    """One component to compile.

    Attributes:
        component: what to compile.
        compiler: flags that do not depend on it.
        folder: its folder in the export; made here.
        workdir: where the compiler's intermediate files go, in a new folder for each component.
        inline_weights: whether a one-core program is asked to hold its weights.
        on_device: whether this machine has a NeuronCore.
        keep_log: puts the compiler's log where it outlives a failed export, and returns that place; by default it
            stays where it is.
    """

    component: ExportConfig
    compiler: CompilerSettings
    folder: Path
    workdir: Path
    inline_weights: bool
    on_device: bool
    keep_log: Callable[[Path], Path] = _left_there

    @property
    def spmd(self) -> bool:
        """Whether it is an NxD program."""
        return self.component.COMPONENT.needs_model_builder or self.component.ranks > 1

    @property
    def inline(self) -> bool:
        """Whether the program holds its weights.

        The SDK cuts batches only for programs that do (optimum-neuron 0.4.5 `export_neuronx`).
        """
        return not self.spmd and (self.inline_weights or self.component.dynamic_batch)


def compile_component(job: CompileJob) -> None:
    """Write the component's program, and its weights where they are separate.

    The environment is the caller's: `CompilerSettings.environment`.

    Raises:
        CompilationFailed: the compiler ended without a program.
    """
    job.folder.mkdir()
    workdir = _new_folder(job.workdir, f"neuronx-cc-{job.component.COMPONENT.name}")
    if job.spmd:
        _build_spmd(job, workdir)
    else:
        _trace_single_core(job, workdir)


def _new_folder(folder: Path, name: str) -> Path:
    """Make `folder/name`, numbered if there is one: ModelBuilder deletes the folder that it is given (NxD 0.15)."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        made = folder / (name if number == 1 else f"{name}-{number}")
        with suppress(FileExistsError):
            made.mkdir()
            return made
    raise AssertionError("numbers do not end")


def _build_spmd(job: CompileJob, workdir: Path) -> None:
    """NxD 0.15 ModelBuilder V1, called as optimum-neuron 0.4.5 `convert.get_builder` does, with the right LNC."""
    from neuronx_distributed.trace.model_builder import BaseModelInstance, ModelBuilder

    component = job.component
    ranks = component.ranks
    builder = ModelBuilder(
        router=None,
        tp_degree=ranks,
        checkpoint_loader=component.load_checkpoint,
        start_rank_id=0,
        local_ranks_size=ranks,
        world_size=ranks,
        compiler_workdir=str(workdir),
        logical_nc_config=job.compiler.lnc,
    )
    builder.add(
        key=component.COMPONENT.name,
        model_instance=BaseModelInstance(component.build, input_output_aliases={}),
        example_inputs=[component.example_inputs()],
        compiler_args=job.compiler.arguments(component.COMPONENT.flags, ranks),
        priority_model_idx=0,
    )
    with compiler_failures(component.COMPONENT.name, workdir, job.keep_log):
        program = builder.trace(initialize_model_weights=False)
    save_program(program, job.folder / PROGRAM_FILE)
    title = f"    {component.COMPONENT.name} weights"
    write_shards(component.weights(), component.read_weight, shard_files(job.folder, ranks), title=title)


def _trace_single_core(job: CompileJob, workdir: Path) -> None:
    import torch_neuronx

    component = job.component
    module = component.build_loaded()
    with compiler_failures(component.COMPONENT.name, workdir, job.keep_log):
        program = torch_neuronx.trace(
            module,
            component.example_inputs(),
            input_output_aliases={},
            compiler_workdir=str(workdir),
            compiler_args=job.compiler.arguments(component.COMPONENT.flags, 1),
            inline_weights_to_neff=job.inline,
            cpu_backend=not job.on_device,
        )
    if component.dynamic_batch:
        program = torch_neuronx.dynamic_batch(program)
    torch_neuronx.async_load(program)
    if component.COMPONENT.loads_lazily:
        torch_neuronx.lazy_load(program)
    save_program(program, job.folder / PROGRAM_FILE)

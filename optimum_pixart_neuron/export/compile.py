"""Compile one component: NxD's ModelBuilder for a program of several ranks, torch_neuronx.trace for one core."""

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from ..artifact.compiled import PROGRAM_FILE, WEIGHTS_FOLDER
from ..artifact.manifest_records import ProgramRecipe
from ..components.export_config import ExportConfig
from ..errors import PixArtNeuronError
from ..neuron.compile_cache import CompileCache
from ..neuron.compiler import CompilerSettings
from ..neuron.sdk import ensure_sdk
from ..program.program import TracedProgram
from .archive import save_program
from .compiler_failure import compiler_failures
from .recipes import by_file, graph_digest, program_recipes
from .store import keep_program
from .weighting import write_weights
from .workplace import current_folder, one_word

LOG_FILE = "log-neuron-cc.txt"
"""Of the compiler, in its current folder. NxD counts the path among what a compiled program is looked up by in the
cache (0.15 `get_hash_module`), so it is the same in every export and on every machine."""


def left_there(log: Path) -> Path:
    """The compiler's log where it is: in a folder of the user's choice it outlives a failed export."""
    return log


@dataclass(frozen=True, kw_only=True)
class CompileJob:
    """One component to compile.

    Attributes:
        component: what to compile.
        compiler: flags that do not depend on it.
        cache: of compiled programs.
        folder: its folder in the export; made here.
        workdir: where the compiler's intermediate files go, in a new folder for each component.
        traced: its programs, traced; none to keep none in the cache.
        inline_weights: whether a one-core program is asked to hold its weights.
        keep_log: puts the compiler's log where it outlives a failed export, and returns that place; by default it
            stays where it is.
        one_at_a_time: whether of programs that share a file no two but the first are compiled at the same time.
    """

    component: ExportConfig
    compiler: CompilerSettings
    cache: CompileCache
    folder: Path
    workdir: Path
    traced: tuple[TracedProgram, ...] = ()
    inline_weights: bool = False
    keep_log: Callable[[Path], Path] = left_there
    one_at_a_time: bool = False

    @property
    def name(self) -> str:
        """Of the component."""
        return self.component.COMPONENT.name

    @property
    def spmd(self) -> bool:
        """Whether it is an NxD program."""
        return self.component.COMPONENT.needs_model_builder or self.component.ranks > 1

    @cached_property
    def graphs(self) -> list[str]:
        """A digest of each traced program, in order: of all that the compiler is given but its flags."""
        return [graph_digest(self, *pair) for pair in zip(self.component.programs, self.traced)]

    @cached_property
    def recipes(self) -> tuple[ProgramRecipe, ...]:
        """What each of its programs is made of, by which the cache keeps them."""
        return program_recipes(self)

    @property
    def files(self) -> dict[str, tuple[ProgramRecipe, ...]]:
        """What the programs in each file are made of, the first file first; none where a file holds its weights."""
        return by_file(map(self.program_file, self.component.programs), self.recipes)

    def program_file(self, program: ExportConfig) -> str:
        """Where one of the programs lies in the folder.

        Programs of several ranks are one file, and so is the first one of a core, where the stock loader looks; each
        further one of a core has its own.
        """
        first = self.spmd or program is self.component
        return PROGRAM_FILE if first else f"{program.program_name}/{PROGRAM_FILE}"

    def missing(self, taken: Collection[str]) -> list[ExportConfig]:
        """The programs that no file of `taken`, see `files`, holds."""
        return [program for program in self.component.programs if self.program_file(program) not in taken]

    @property
    def inline(self) -> bool:
        """Whether the program holds its weights.

        The SDK cuts batches only for programs that do (optimum-neuron 0.4.5 `export_neuronx`).
        """
        return not self.spmd and (self.inline_weights or self.component.dynamic_batch)

    @property
    def arguments(self) -> str:
        """The compiler's command line."""
        return self.compiler.arguments(
            self.component.COMPONENT.flags, self.component.ranks, names_target=not self.spmd
        )


def compile_component(job: CompileJob, taken: Mapping[str, bytes] = MappingProxyType({})) -> None:
    """Write the component's programs, and their weights where they are separate.

    The environment is the caller's: `CompilerSettings.environment`.

    Args:
        taken: content of files that need not be compiled, by name as in `CompileJob.files`.

    Raises:
        CompilationFailed: the compiler ended without a program.
        PixArtNeuronError: what is taken is no program, or does not take the weights.
    """
    job.folder.mkdir()
    for name, content in taken.items():
        _take(job, job.folder / name, content)
    missing = job.missing(taken)
    if not missing:
        write_weights(job)
        return
    with one_word(_new_folder(job.workdir, f"neuronx-cc-{job.name}")) as workdir:
        if job.spmd:
            _compile_spmd(job, workdir)
        else:
            for program in missing:
                _compile_single_core(job, program, workdir)
            if not job.inline:
                _keep_programs(job, missing)
                write_weights(job)


def _take(job: CompileJob, file: Path, content: bytes) -> None:
    """A program that was compiled before, in place; refused where it is none."""
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    try:
        ensure_sdk().check_program(file)
    except RuntimeError as error:
        raise PixArtNeuronError(f"the program of {job.name} cannot be taken: {error}") from None


def _keep_programs(job: CompileJob, programs: Sequence[ExportConfig]) -> None:
    """Have the files of what was compiled in the cache before weights are in them."""
    compiled = set(map(job.program_file, programs))
    for name, recipes in job.files.items():
        if name in compiled:
            keep_program(job.cache, recipes, job.folder / name)


@contextmanager
def _compiler_at_work(job: CompileJob, workdir: Path) -> Iterator[None]:
    """Let the compiler work in a folder of its own, with the cache that was chosen."""
    with (
        compiler_failures(job.name, workdir, job.keep_log),
        current_folder(workdir),
        job.cache.in_force(workdir.parent),
    ):
        yield


def _new_folder(folder: Path, name: str) -> Path:
    """Make `folder/name`, numbered if there is one: ModelBuilder deletes the folder that it is given (NxD 0.15)."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        made = folder / (name if number == 1 else f"{name}-{number}")
        with suppress(FileExistsError):
            made.mkdir()
            return made
    raise AssertionError("numbers do not end")


def _compile_spmd(job: CompileJob, workdir: Path) -> None:
    """NxD 0.15 ModelBuilder V1, called as optimum-neuron 0.4.5 `convert.get_builder` does, with the right LNC.

    It compiles all programs but the first at once, each of which may take most of the host's memory. So each of them
    is compiled together with the first alone before: what the file is then made of is all in the compiler's cache,
    whose keys are the same.
    """
    first, *others = job.component.programs
    before = [[first, other] for other in others] if job.one_at_a_time else []
    with _compiler_at_work(job, workdir), _nxd_state_restored():
        for programs in (*before, [first, *others]):
            builder = _builder(job, workdir, programs)
            program = builder.trace(initialize_model_weights=False)
    save_program(program, job.folder / PROGRAM_FILE)
    _keep_programs(job, job.component.programs)
    write_weights(job)
    # Does nothing unless NXD_LAYOUT_TRANSFORMATION_OPTIONS is set.
    builder.transform_weight_layout_with_overriden_option(sharded_checkpoint_dir=str(job.folder / WEIGHTS_FOLDER))


def _builder(job: CompileJob, workdir: Path, programs: Sequence[ExportConfig]) -> Any:
    """A ModelBuilder with these programs, of which the first decides how weights are laid out on the device."""
    from neuronx_distributed.trace.model_builder import BaseModelInstance, ModelBuilder

    first, ranks = job.component, job.component.ranks
    builder = ModelBuilder(
        router=None,
        tp_degree=ranks,
        checkpoint_loader=first.load_checkpoint,
        start_rank_id=0,
        local_ranks_size=ranks,
        world_size=ranks,
        compiler_workdir=str(workdir / "nxd"),
        logical_nc_config=job.compiler.lnc,
    )
    for program in programs:
        builder.add(
            key=job.name if program is first else f"{job.name}-{program.program_name}",
            model_instance=BaseModelInstance(program.build, input_output_aliases={}),
            example_inputs=[program.example_inputs()],
            compiler_args=f"{job.arguments} --logfile={LOG_FILE}",
            priority_model_idx=0 if program is first else None,
        )
    return builder


@contextmanager
def _nxd_state_restored() -> Iterator[None]:
    """Undo what `ModelBuilder.trace` leaves after an error: it has no `finally` (NxD 0.15 to 0.18)."""
    from neuronx_distributed.parallel_layers import parallel_state

    strategy = torch.multiprocessing.get_sharing_strategy()
    try:
        yield
    except BaseException:
        parallel_state.set_aot_mode(False)
        parallel_state.destroy_model_parallel()
        raise
    finally:
        torch.multiprocessing.set_sharing_strategy(strategy)


def _compile_single_core(job: CompileJob, component: ExportConfig, workdir: Path) -> None:
    """A program that does not hold its weights is compiled with zeros; then its file gets those of the checkpoint."""
    import torch_neuronx

    module = component.build_filled(with_checkpoint=job.inline)
    with _compiler_at_work(job, workdir):
        program = torch_neuronx.trace(
            module,
            component.example_inputs(),
            input_output_aliases={},
            compiler_workdir=str(workdir / "trace"),
            compiler_args=job.arguments,
            inline_weights_to_neff=job.inline,
            # Otherwise this process would hold the cores until it ends, and the flags name the target anyway.
            cpu_backend=True,
        )
    if component.dynamic_batch:
        program = torch_neuronx.dynamic_batch(program)
    torch_neuronx.async_load(program)
    if component.COMPONENT.loads_lazily:
        torch_neuronx.lazy_load(program)
    file = job.folder / job.program_file(component)
    file.parent.mkdir(exist_ok=True)
    save_program(program, file)

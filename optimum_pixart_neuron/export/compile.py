"""Compile one component: NxD's ModelBuilder for a program of several ranks, torch_neuronx.trace for one core."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from ..parallel.shard import write_shards
from .compiler import CompilerSettings
from .components import PixArtComponentConfig
from .output import MODEL_FILE, WEIGHTS_FOLDER


@dataclass(frozen=True, kw_only=True)
class CompileJob:
    """One component to compile.

    Attributes:
        component: what to compile.
        compiler: flags that do not depend on it.
        folder: its folder in the export; made here.
        compiler_workdir: where the compiler's intermediate files stay, in a folder of their own for each component;
            None for a private folder that is removed.
        inline_weights: whether a one-core program holds its weights.
        on_device: whether this machine has a NeuronCore.
    """

    component: PixArtComponentConfig
    compiler: CompilerSettings
    folder: Path
    compiler_workdir: Path | None
    inline_weights: bool
    on_device: bool


def compile_component(job: CompileJob) -> bool:
    """Write the component's program, and its weights where they are separate.

    The environment is the caller's: `CompilerSettings.environment`.

    Returns:
        whether the weights are inside the program.
    """
    component = job.component
    job.folder.mkdir()
    with _workdir(job) as workdir:
        if component.NEEDS_MODEL_BUILDER or component.ranks > 1:
            _build_spmd(job, workdir)
            return False
        # The SDK cuts batches only for programs that hold their weights (optimum-neuron 0.4.5 `export_neuronx`).
        inline = job.inline_weights or component.dynamic_batch
        _trace_single_core(job, workdir, inline)
        return inline


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
        key=component.COMPONENT,
        model_instance=BaseModelInstance(component.build, input_output_aliases={}),
        example_inputs=[component.example_inputs()],
        compiler_args=job.compiler.arguments(component.COMPONENT, ranks),
        priority_model_idx=0,
    )
    torch.jit.save(builder.trace(initialize_model_weights=False), job.folder / MODEL_FILE)
    title = f"    {component.COMPONENT} weights"
    write_shards(component.weights(), component.read_weight, job.folder / WEIGHTS_FOLDER, ranks, title=title)


def _trace_single_core(job: CompileJob, workdir: Path, inline: bool) -> None:
    import torch_neuronx

    component = job.component
    program = torch_neuronx.trace(
        component.build_loaded(),
        component.example_inputs(),
        input_output_aliases={},
        compiler_workdir=str(workdir),
        compiler_args=job.compiler.arguments(component.COMPONENT, 1),
        inline_weights_to_neff=inline,
        cpu_backend=not job.on_device,
    )
    if component.dynamic_batch:
        program = torch_neuronx.dynamic_batch(program)
    torch_neuronx.async_load(program)
    if component.COMPONENT == "transformer":
        torch_neuronx.lazy_load(program)  # DataParallel replicates it; loading it alone first would be work twice
    torch.jit.save(program, job.folder / MODEL_FILE)


@contextmanager
def _workdir(job: CompileJob) -> Iterator[Path]:
    """A folder of this component alone: ModelBuilder deletes the one it is given (NxD 0.15).

    Its name is one that nobody else uses: a component's own name could be a folder of the user's checkpoint.
    """
    if job.compiler_workdir is not None:
        folder = job.compiler_workdir / f"neuronx-cc-{job.component.COMPONENT}"
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="pixart-neuronx-cc-") as holder:
        folder = Path(holder) / job.component.COMPONENT
        folder.mkdir()
        yield folder

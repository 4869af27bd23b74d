"""What the manifest says of each component of an export."""

import hashlib
import sys
from functools import partial
from pathlib import Path
from typing import Any

from ..artifact.manifest import installed_versions
from ..artifact.manifest_records import (
    ComponentRecord,
    ProgramRecord,
    SourceRecord,
    TensorRecord,
)
from ..components.common.attention_kernel import WRITTEN_OUT
from ..components.export_config import ExportConfig
from ..program.program import TracedProgram
from .compile import CompileJob
from .recipes import digest_of

COMPUTING_CODE = (
    *("components", "parallel", "checkpoint", "lora", "neuron", "cpu", "files.py"),
    *("artifact/held_weights.py", "export/archive.py", "export/compile.py", "export/describe.py"),
    *("export/weighting.py", "export/workplace.py"),
)
"""Modules and rooms of which an edit may change what a compilation writes."""


def component_record(job: CompileJob, source: SourceRecord, *, mode: str | None, emulated: bool) -> ComponentRecord:
    """The record of a component that is or could be compiled by `job`.

    Args:
        job: with its traced programs.
        source: of its weights.
        mode: how the component uses the cores.
        emulated: whether the emulator stands in for the SDK.
    """
    component = job.component
    records = tuple(map(partial(_program_record, job), component.programs, job.traced))
    return ComponentRecord(
        ranks=component.ranks,
        mode=mode,
        inputs=records[0].inputs,
        outputs=records[0].outputs,
        programs=records if len(records) > 1 else (),
        source=source,
        inputs_digest=_inputs_digest(job, source, emulated),
        attention=_attention(job.component) if job.component.COMPONENT.has_kernel else None,
        recipes=job.recipes,
    )


def _program_record(job: CompileJob, config: ExportConfig, program: TracedProgram) -> ProgramRecord:
    examples = zip(config.COMPONENT.inputs, config.example_inputs())
    (output,) = [node for node in program.graph.graph_module.graph.nodes if node.op == "output"]
    results = [(name, node.meta["val"]) for name, node in zip(config.COMPONENT.outputs, output.args[0], strict=True)]
    return ProgramRecord(
        name=config.program_name,
        file=job.program_file(config),
        inputs=tuple(_tensor(spec.name, tensor) for spec, tensor in examples),
        outputs=tuple(_tensor(name, tensor) for name, tensor in results),
    )


def _attention(component: ExportConfig) -> str:
    kernel = component.kernel
    if kernel is None:
        return WRITTEN_OUT
    return kernel.name if kernel.masked else f"{kernel.name}, cross-attention {WRITTEN_OUT}"


def _tensor(name: str, tensor: Any) -> TensorRecord:
    return TensorRecord(name=name, shape=tuple(tensor.shape), dtype=str(tensor.dtype).removeprefix("torch."))


def _inputs_digest(job: CompileJob, source: SourceRecord, emulated: bool) -> str:
    """SHA-256 of everything that decides what a compilation writes; the same on every machine.

    The traced programs stand for most of it: shapes, dtypes, the configuration of the checkpoint, the plan as applied.
    """
    component = job.component
    weights = component.weights()
    return digest_of(
        {
            "programs": job.graphs,
            "program_files": [job.program_file(each) for each in component.programs],
            "config": component.source_config,
            "weights": {name: [list(w.shape), str(w.dtype), w.dim] for name, w in weights.items()},
            "weight_files": {name: [file.size, file.sha256] for name, file in source.files.items()},
            "adapters": [[each.content.sha256, each.scale] for each in source.adapters],
            "split": [repr(each.split) for each in component.programs],
            "compiler_arguments": job.arguments,
            "lnc": job.compiler.lnc,
            "inline": job.inline,
            "dynamic_batch": component.dynamic_batch,
            "emulated": emulated,
            "versions": installed_versions(),
            "config_class": f"{type(component).__module__}.{type(component).__qualname__}",
            "code": code_digest(component),
        }
    )


def code_digest(component: ExportConfig) -> str:
    """Of everything that a program and its weights are made by.

    A version number does not change with every edit of an editable install. A component, a mode or an export config
    that somebody registered has its own module.
    """
    package = Path(__file__).parents[1]
    places = [package / name for name in COMPUTING_CODE]
    ours = {path for place in places for path in (place.rglob("*.py") if place.is_dir() else [place])}
    made_by = (type(component), type(component.COMPONENT), type(component.split))
    others = {Path(path) for each in made_by if (path := _source_file(each))} - ours
    digest = hashlib.sha256()
    for file in sorted(ours):
        digest.update(file.relative_to(package).as_posix().encode() + b"\0" + file.read_bytes())
    for file in sorted(others):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _source_file(made_by: type) -> str | None:
    """None for what is built in, and for what was typed into an interpreter."""
    return getattr(sys.modules.get(made_by.__module__), "__file__", None)

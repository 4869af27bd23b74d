"""What a compiled program was made of: equal recipes mean an equal program, whatever weights it runs with."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from torch.fx import GraphModule

from ..artifact.manifest import installed_versions
from ..artifact.manifest_records import ProgramRecipe
from ..neuron.sdk import LOWERING
from ..program.program import TracedProgram

if TYPE_CHECKING:
    from ..components.export_config import ExportConfig
    from .compile import CompileJob

_MAKERS = ("optimum-pixart-neuron", "torch", "torch-neuronx", "neuronx-cc", "neuronx-distributed")
"""Packages that a program's file comes from; those that only built the traced graph speak through it."""


def program_recipes(job: CompileJob) -> tuple[ProgramRecipe, ...]:
    """A recipe for each program of a component; none where the program holds its weights, or takes them in a
    layout of its own (`NXD_LAYOUT_TRANSFORMATION_OPTIONS`)."""
    if job.inline or "NXD_LAYOUT_TRANSFORMATION_OPTIONS" in os.environ:
        return ()
    installed = installed_versions()
    return tuple(
        ProgramRecipe(
            graph=graph,
            compiler_args=job.arguments,
            target=job.compiler.target,
            ranks=job.component.ranks,
            lnc=job.compiler.lnc,
            versions={name: installed[name] for name in _MAKERS if name in installed},
        )
        for graph in job.graphs
    )


def digest_of(parts: Any) -> str:
    """SHA-256 of what JSON can write, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def by_file(files: Iterable[str], recipes: Iterable[ProgramRecipe]) -> dict[str, tuple[ProgramRecipe, ...]]:
    """What the programs in each file are made of.

    Args:
        files: of each program, in the order of `recipes`.
    """
    found: dict[str, tuple[ProgramRecipe, ...]] = {}
    for file, recipe in zip(files, recipes):
        found[file] = (*found.get(file, ()), recipe)
    return found


def difference(wanted: Sequence[ProgramRecipe], found: Sequence[ProgramRecipe]) -> str:
    """What keeps a file of the programs `found` from being one of the programs `wanted`, in words."""
    same = sum(recipe in found for recipe in wanted)
    if same:
        return (
            f"its file holds {len(found)} program(s), {same} of the {len(wanted)} asked for, and is taken whole; what"
            " the compile cache has is not compiled again"
        )
    reasons = dict.fromkeys(reason for pair in zip(wanted, found) for reason in _differences(*pair))
    return "; ".join(reasons)


def _differences(wanted: ProgramRecipe, found: ProgramRecipe) -> list[str]:
    plain = {"ranks": "ranks", "lnc": "LNC", "target": "target", "compiler_args": "compiler flags"}
    reasons = [
        f"{word} {getattr(found, name)}, not {getattr(wanted, name)}"
        for name, word in plain.items()
        if getattr(found, name) != getattr(wanted, name)
    ]
    for package in sorted({*wanted.versions, *found.versions}):
        here, there = wanted.versions.get(package, "none"), found.versions.get(package, "none")
        if here != there:
            reasons.append(f"{package} {there}, not {here}")
    if found.graph != wanted.graph:
        reasons.append("another traced graph (sizes, dtype, mode or configuration)")
    return reasons


def graph_digest(job: CompileJob, component: ExportConfig, program: TracedProgram) -> str:
    """Of everything that decides what the compiler is given, but the flags; no weight's value is among it."""
    weights = {name: [each.rank_shape(component.ranks), str(each.dtype)] for name, each in component.weights().items()}
    inputs = zip(component.COMPONENT.inputs, component.example_inputs())
    return digest_of(
        {
            "graph": _module_digest(program.graph.graph_module),
            "collectives": [repr(collective) for collective in program.collectives],
            "weights": [[name, weights.get(name)] for name in program.graph.weight_names],
            "inputs": [[spec.name, list(tensor.shape), str(tensor.dtype)] for spec, tensor in inputs],
            "outputs": component.COMPONENT.outputs,
            "kernel": repr(component.kernel),
            "lowering": LOWERING,
            "environment": job.compiler.environment(component.ranks),
            "loads_lazily": component.COMPONENT.loads_lazily,
            "spmd": job.spmd,
        }
    )


def _module_digest(graph_module: GraphModule) -> str:
    """SHA-256 of a traced graph, with the constants that were baked into it."""
    digest = hashlib.sha256(graph_module.code.encode())
    for node in graph_module.graph.nodes:
        if node.op == "get_attr":  # a baked constant
            constant = getattr(graph_module, node.target)
            digest.update(f"{node.target} {constant.dtype} {tuple(constant.shape)}".encode())
            digest.update(repr(constant.flatten().tolist()).encode())
    return digest.hexdigest()

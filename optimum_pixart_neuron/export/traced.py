"""The traced programs of each component: what they must have in common, and whether they fit a core."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import InvalidExportOption
from ..neuron.compiler import CompilerSettings, environment_variables
from ..program.hygiene import check_program
from ..program.memory import MemoryNeed
from ..program.program import TracedProgram, trace_program
from ..terminal.table import fact

if TYPE_CHECKING:  # it imports the host's exporter, which needs the SDK
    from ..components.export_config import ExportConfig
    from ..deployment.deployment import Deployment

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TracedComponent:
    """A component with its programs.

    Attributes:
        config: of the first program, with those of the others in it.
        programs: traced, in the order of `config.programs`.
    """

    config: ExportConfig
    programs: tuple[TracedProgram, ...]

    @property
    def need(self) -> MemoryNeed:
        """Of a core. Programs of several ranks share the weights; each of one core has its own."""
        copies = 1 if self.config.split else len(self.programs)
        return MemoryNeed(
            component=self.config.COMPONENT.name,
            weights=copies * sum(weight.rank_bytes(self.config.ranks) for weight in self.config.weights().values()),
            activations=max(program.activations for program in self.programs),
        )

    def without(self, sizes: set[tuple[int, int]]) -> TracedComponent:
        """The same without the programs that work for images of these sizes alone."""
        pairs = zip(self.config.programs, self.programs)
        kept = [(config, program) for config, program in pairs if set(config.images) - sizes]
        self.config.others = tuple(config for config, _ in kept[1:])
        return TracedComponent(self.config, tuple(program for _, program in kept))


def trace_all(config: ExportConfig, compiler: CompilerSettings) -> TracedComponent:
    """Trace every program of a component, and log what a compiler should not be given."""
    programs = []
    for each in config.programs:
        with environment_variables(compiler.environment(each.ranks)):
            program = trace_program(each.build, each.example_inputs(), each.ranks, compiler.lnc)
        for finding in check_program(program, each.weights_dtype):
            logger.info(fact("hygiene", f"{config.COMPONENT.name}: {finding}"))
        programs.append(program)
    return TracedComponent(config, tuple(programs))


def check_shared(components: Sequence[ExportConfig]) -> None:
    """Refuse programs of one component that cannot run on the same weights.

    NxD lays the weights out by the names of the first program (0.15 `hlo_utils.extract_weight_layout_transform_hlo`),
    and routes a call by the shapes of its inputs alone (`trace/spmd.py`, `input_shape_map`).

    Raises:
        InvalidExportOption: their weights or ranks differ, or two of them take inputs of the same shapes.
    """
    for first in components:
        weights, name = first.weights(), first.COMPONENT.name
        shapes = [tuple(tensor.shape for tensor in each.example_inputs()) for each in first.programs]
        if len(set(shapes)) < len(shapes):
            raise InvalidExportOption(f"--sizes: two programs of {name} take the same inputs and cannot be told apart")
        for other in first.others:
            if other.ranks != first.ranks or other.weights() != weights:
                raise InvalidExportOption(
                    f"--sizes: the weights of {name} at {other.program_name} are not those at {first.program_name}, so"
                    " they cannot be shared; export each size by itself"
                )


def within_memory(traced: Sequence[TracedComponent], deployment: Deployment) -> list[TracedComponent]:
    """Leave out every size but the first whose programs do not fit a core, and name it."""
    available = deployment.instance.hbm_bytes_per_core(deployment.compiler.lnc)
    weights = sum(component.need.weights for component in traced)
    left_out: set[tuple[int, int]] = set()
    for each in deployment.others:
        size = each.size
        needed = weights + max(
            program.activations
            for component in traced
            for config, program in zip(component.config.programs, component.programs)
            if size in config.images
        )
        if needed > available and each.size != deployment.size:
            left_out.add(each.size)
            logger.info(fact("note", f"--sizes: {each.height}x{each.width} is left out, it does not fit a core"))
    return [component.without(left_out) for component in traced]

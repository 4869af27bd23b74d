"""One component in one deployment: what a run of its program costs a core, how often it runs, how long that takes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache, partial
from math import ceil
from typing import Any

import torch

from ..components.common.attention_kernel import KERNELS, KernelAttention
from ..components.component import Component, Per
from ..deployment.deployment import Deployment
from ..neuron.compiler import CompilerSettings, environment_variables
from ..parallel.split import Split
from ..program.cost import Cost
from .roofline import Bound


@dataclass(frozen=True, kw_only=True)
class ComponentPlan:
    """One program.

    Attributes:
        cost: of one core in one run.
        bound: of one run.
        runs: one after another, for the images that a pipeline makes at once.
        core_runs: all runs on all cores.
    """

    component: Component
    cost: Cost
    bound: Bound
    runs: int
    core_runs: int

    @classmethod
    def of(cls, component: Component, config: dict[str, Any], deployment: Deployment, steps: int) -> ComponentPlan:
        """Plan a component, by the `config.json` of its part, for so many denoising steps an image."""
        cost = component_cost(component, config, deployment)
        runs, core_runs = _runs(component, config, deployment, steps)
        bound = Bound.of(cost, deployment.instance, deployment.weights_dtype)
        return cls(component=component, cost=cost, bound=bound, runs=runs, core_runs=core_runs)

    @property
    def lower_bound_s(self) -> float:
        """Seconds of all runs."""
        return self.bound.seconds * self.runs

    def expected_s(self, efficiency: float) -> float:
        """Predicted seconds of all runs, collectives not hidden."""
        return self.bound.unhidden_seconds * self.runs / (1 if self.component.runs_at_its_bound else efficiency)


def _runs(component: Component, config: dict[str, Any], deployment: Deployment, steps: int) -> tuple[int, int]:
    """Runs of the program one after another, and on all cores, for all the images that are under way at once."""
    mode, batches = deployment.mode_of(component), deployment.batches
    split, groups = mode.split(component.plan), deployment.mode.guidance_groups
    images, batch = deployment.images * batches, component.shapes(config, deployment)["batch_size"]
    pair = 2 if component.takes_guidance and mode.takes_pair else 1
    # How often something asks for the program, and runs each time.
    times, each = {
        Per.PROMPT: (groups, batches),
        Per.STEP: (steps, ceil(images * groups / (batch * pair))),
        Per.IMAGE: (1, ceil(images * component.pieces(config, deployment) / batch)),
        Per.NEVER: (0, 0),
    }[component.per]
    # A program over several ranks is loaded once, one of a single core on every core of the pipeline.
    alone = split or component.needs_model_builder or (mode.ranks == 1 < deployment.ranks)
    copies = 1 if alone else deployment.cores
    return times * ceil(each / copies), times * each * (split.ranks if split else 1)


def component_cost(component: Component, config: dict[str, Any], deployment: Deployment) -> Cost:
    """One run of one rank's program, by the `config.json` of the component's part.

    A program of equal blocks is counted with one of them and with two; the rest follows from these, exactly.
    """
    mode, attention = deployment.mode_of(component), None
    if component.has_kernel and deployment.attention_kernel is not None:
        # Every kernel is one operation, so any of them stands for the one that was chosen.
        attention = KernelAttention(name=next(iter(KERNELS)), lnc=1, masked=deployment.masked_kernel is not None)
    count = partial(
        _counted,
        component,
        shapes=tuple(component.shapes(config, deployment).items()),
        guided=component.takes_guidance and mode.takes_pair,
        split=mode.split(component.plan),
        dtype=deployment.weights_dtype,
        attention=attention,
    )
    key = component.blocks
    if key is None or config.get(key, 0) < 3:
        return count(config=_key(config))
    one, two = (count(config=_key({**config, key: number})) for number in (1, 2))
    return one.repeated(two, config[key])


def _key(config: dict[str, Any]) -> str:
    return json.dumps(config, sort_keys=True)


@cache
def _counted(
    component: Component,
    *,
    config: str,
    shapes: tuple[tuple[str, int], ...],
    guided: bool,
    split: Split | None,
    dtype: torch.dtype,
    attention: KernelAttention | None,
) -> Cost:
    """Count a program; for any instance, since adjacent ranks form its groups on all of them."""
    settings, sizes, ranks = json.loads(config), dict(shapes), split.ranks if split else 1

    def build() -> Any:
        module = component.build(settings, sizes, dtype, attention)
        if split:
            split.apply(module, dtype)
        return module

    with environment_variables(CompilerSettings(target="trn1", lnc=1).environment(ranks)):
        return Cost.of(build, component.example_inputs(sizes, guided=guided), ranks=ranks)

"""What a run of each component's program costs a core, in one deployment."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from ..components.common.attention_kernel import KERNELS, KernelAttention
from ..components.component import Component
from ..deployment.deployment import Deployment
from ..neuron.compiler import CompilerSettings, environment_variables
from ..parallel.split import Split
from ..program.cost import Cost


def component_cost(component: Component, config: dict[str, Any], deployment: Deployment) -> Cost:
    """One run of one rank's program.

    A program of equal blocks is counted with one of them and with two; the rest follows from these, exactly.

    Args:
        config: the `config.json` of the component's part.
    """
    mode = deployment.mode_of(component)
    counted: dict[str, Any] = {
        "component": component,
        "shapes": tuple(component.shapes(config, deployment).items()),
        "guided": component.takes_guidance and mode.takes_pair,
        "split": mode.split(component.plan),
        "dtype": deployment.weights_dtype,
        "kernel": component.has_kernel and deployment.attention_kernel is not None,
        "masked": component.has_kernel and deployment.masked_kernel is not None,
    }
    key = component.blocks
    if key is None or config.get(key, 0) < 3:
        return _counted(config=_key(config), **counted)
    one, two = (_counted(config=_key({**config, key: number}), **counted) for number in (1, 2))
    return one.repeated(two, config[key])


def _key(config: dict[str, Any]) -> str:
    return json.dumps(config, sort_keys=True)


@cache
def _counted(
    *,
    component: Component,
    config: str,
    shapes: tuple[tuple[str, int], ...],
    guided: bool,
    split: Split | None,
    dtype: Any,
    kernel: bool,
    masked: bool,
) -> Cost:
    """Count a program; for any instance, since adjacent ranks form its groups on all of them."""
    settings, sizes, ranks = json.loads(config), dict(shapes), split.ranks if split else 1
    # Every kernel is one operation, so any of them stands for the one that was chosen.
    attention = KernelAttention(name=next(iter(KERNELS)), lnc=1, masked=masked) if kernel else None

    def build() -> Any:
        module = component.build(settings, sizes, dtype, attention)
        if split:
            split.apply(module, dtype)
        return module

    with environment_variables(CompilerSettings(target="trn1", lnc=1).environment(ranks)):
        return Cost.of(build, component.example_inputs(sizes, guided=guided), ranks=ranks)

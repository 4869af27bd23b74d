"""Components that diffusers' pipeline does not know: each takes what another component gave, and gives it changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from ..artifact.compiled import PROGRAM_FILE
from ..components.component import Component, first_output
from ..components.registry import COMPONENTS


def followers(folder: Path) -> list[Component]:
    """Registered components of an export's folder that follow others, in the order in which they run."""
    return [
        component
        for component in COMPONENTS.values()
        if component.follows and (folder / component.name / PROGRAM_FILE).is_file()
    ]


def followed_at_last(component: Component) -> Component:
    """The component of diffusers' pipeline at the other end of a chain of followers."""
    while component.follows:
        component = COMPONENTS[component.follows]
    return component


class Followed:
    """A callable like the component that is followed; its first output is what the follower made of it.

    Args:
        program: of the component that is followed; takes its inputs in call order.
        inputs: their names.
        component: the follower. Its first input is the first output of `program`; others have the name of one of
            `inputs` and are what the program got as such.
        part: the follower as the pipeline has it: `part.model` takes its inputs in call order.
    """

    def __init__(self, program: Callable[..., Any], inputs: Sequence[str], component: Component, part: Any) -> None:
        self.program = program
        self.part = part
        self._inputs = tuple(inputs)
        self._others = [given.name for given in component.inputs[1:]]

    def __call__(self, *tensors: Tensor) -> Any:
        """Run both."""
        output = self.program(*tensors)
        named = dict(zip(self._inputs, tensors))
        made = first_output(self.part.model(first_output(output), *(named[name] for name in self._others)))
        if isinstance(output, dict):
            return {**output, next(iter(output)): made}
        return type(output)([made, *output[1:]]) if isinstance(output, (tuple, list)) else made

"""Which weights a loaded pipeline has: the export's own or another transformer's, with adapters merged into them.

Programs take weights when they begin. So a change is made in memory, to the export's own rank weights, and the program
begins again with them: nothing is compiled, and nothing is written to disk. Everything that can be wrong is found
before the first program is touched.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from numbers import Real
from typing import Any

from ..checkpoint.adapters import NamedAdapter
from ..components.component import Component
from ..errors import InvalidArgument, LoadError, PixArtNeuronError
from ..lora.adapter import ActiveAdapter
from ..neuron.troubles import device_reason
from .rank_weights import Copies, ExportedWeights, WholeWeights
from .turns import CallsOrChange, OneAtATime, StaysInItsProcess, Turn


@dataclass(frozen=True)
class _State:
    """What the programs have.

    Attributes:
        strengths: of the adapters in use, by name, in the order in which they are merged.
        replaced: weights that stand in place of the export's, by component.
    """

    strengths: Mapping[str, float] = field(default_factory=dict)
    replaced: Mapping[str, WholeWeights] = field(default_factory=dict)


class LoadedAdapters(StaysInItsProcess):
    """The adapters of a loaded pipeline, which copies of it share.

    Args:
        weights: of each component that adapters are for, with the program that has them; None for programs that hold
            theirs in their machine code.
        calls: of the pipeline.
        forget: called when a component has other weights, with its name.
    """

    def __init__(
        self,
        weights: Mapping[str, tuple[ExportedWeights, OneAtATime | Copies] | None],
        calls: CallsOrChange,
        forget: Callable[[str], None],
    ) -> None:
        self._weights = {name: each for name, each in weights.items() if each}
        self._keeping = [name for name, each in weights.items() if not each]
        self._calls = calls
        self._forget = forget
        self._named: dict[str, NamedAdapter] = {}
        self._state = _State()
        self._turn = Turn()

    @property
    def active(self) -> dict[str, float]:
        """Names of those in use, with their strengths."""
        return dict(self._state.strengths)

    @property
    def loaded(self) -> dict[str, list[str]]:
        """Component -> names of the adapters that change it."""
        return {
            name: [each for each, named in self._named.items() if weights.part in named.adapter.changes]
            for name, (weights, _) in self._weights.items()
        }

    @property
    def is_own(self) -> bool:
        """Whether the programs have the export's own weights."""
        return not self._state.strengths and not self._state.replaced

    def geometry(self) -> dict[str, Mapping[str, tuple[int, ...]]]:
        """What adapters may change; PixArtNeuronError where a program holds its weights."""
        for name in self._keeping:
            self._refuse(name)
        return {weights.part: weights.geometry for weights, _ in self._weights.values()}

    def exported(self, component: Component) -> ExportedWeights:
        """The weight files of a component; PixArtNeuronError where its program holds its weights."""
        if component.name not in self._weights:
            self._refuse(component.name)
        return self._weights[component.name][0]

    def next_name(self) -> str:
        """As diffusers names an adapter that its user does not."""
        names = (f"default_{number}" for number in count(len(self._named)))
        return next(name for name in names if name not in self._named)

    def check_name(self, name: Any) -> None:
        """Refuse, by InvalidArgument, a name that is taken, or none."""
        if not isinstance(name, str) or not name:
            raise InvalidArgument(f"adapter_name: expected a text, given {name!r}")
        if name in self._named:
            raise InvalidArgument(f"adapter_name={name!r}: an adapter of this name is loaded; give another name")

    def add(self, named: NamedAdapter) -> None:
        """Keep an adapter. The first one is used at once, with strength 1; others when they are asked for."""
        with self._turn:
            self.check_name(named.name)
            first = not self._named
            self._named[named.name] = named
            if first:
                try:
                    self._switch(_State({named.name: 1.0}, self._state.replaced))
                except BaseException:
                    del self._named[named.name]
                    raise

    def use(self, names: Any, strengths: Any) -> None:
        """Use these adapters and no others; see the pipeline's `set_adapters`."""
        with self._turn:
            self._switch(_State(self._asked(names, strengths), self._state.replaced))

    def _asked(self, names: Any, strengths: Any) -> dict[str, float]:
        if not isinstance(names, (str, Sequence)):
            raise InvalidArgument(f"adapter_names: expected a name or a list of names, given {names!r}")
        names = [names] if isinstance(names, str) else list(names)
        strengths = strengths if isinstance(strengths, (list, tuple)) else [strengths] * len(names)
        for name in names:
            if name not in self._named:
                known = ", ".join(self._named) or "none"
                raise InvalidArgument(f"adapter_names: there is no {name!r}; loaded are {known}")
        if len(set(names)) < len(names):
            raise InvalidArgument("adapter_names: one is named twice; give it one weight")
        if len(strengths) != len(names):
            raise InvalidArgument(
                f"adapter_weights: {len(strengths)} given for {len(names)} adapters; give one for each"
            )
        asked = {}
        for name, strength in zip(names, strengths):
            strength = 1.0 if strength is None else strength
            if isinstance(strength, bool) or not isinstance(strength, Real) or not math.isfinite(strength):
                raise InvalidArgument(f"adapter_weights: expected a finite number for {name}, given {strength!r}")
            asked[name] = float(strength)
        return asked

    def remove(self) -> None:
        """Use no adapter, and forget all."""
        with self._turn:
            self._switch(_State({}, self._state.replaced))
            self._named.clear()

    def replace(self, component: Component, weights: WholeWeights | None) -> None:
        """Have other weights in place of the export's, or with None those again; adapters stay in use."""
        with self._turn:
            others = {name: each for name, each in self._state.replaced.items() if name != component.name}
            own = {} if weights is None else {component.name: weights}
            self._switch(_State(self._state.strengths, {**others, **own}))

    def _parts(self, name: str, state: _State) -> tuple[list[ActiveAdapter], WholeWeights | None]:
        """What a component is made of in a state."""
        part = self._weights[name][0].part
        adapters = [
            ActiveAdapter(self._named[each].adapter, strength)
            for each, strength in state.strengths.items()
            if part in self._named[each].adapter.changes
        ]
        return adapters, state.replaced.get(name)

    def _switch(self, wanted: _State) -> None:
        changed = [name for name in self._weights if self._parts(name, wanted) != self._parts(name, self._state)]
        made = {name: self._weights[name][0].by_rank(*self._parts(name, wanted)) for name in changed}
        with self._calls.change():
            begun: list[str] = []
            try:
                for name in changed:
                    begun.append(name)
                    self._weights[name][1].initialize(made.pop(name))
            except BaseException as error:
                self._restore(begun)
                if isinstance(error, PixArtNeuronError) or not isinstance(error, Exception):
                    raise
                raise LoadError(
                    f"the {begun[-1]} does not begin with other weights: {device_reason(error)}"
                ) from error
            self._state = wanted
            for name in changed:
                self._forget(name)

    def _restore(self, begun: list[str]) -> None:
        for name in begun:
            weights, program = self._weights[name]
            program.initialize(weights.by_rank(*self._parts(name, self._state)))

    def _refuse(self, name: str) -> None:
        raise PixArtNeuronError(
            f"the {name} holds its weights in its machine code; export it with this package and without"
            " --inline-weights-neff, or merge the LoRA at export with --lora_model_ids"
        )

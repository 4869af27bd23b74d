"""Guidance in a part of the schedule: outside it only the conditional half of the pair is computed.

The idea is arXiv:2404.07724 (Kynkäänniemi et al., "Applying Guidance in a Limited Interval"); the denoising loop stays
diffusers' own.
"""

from collections.abc import Callable
from numbers import Real
from typing import Any

from torch import Tensor

from ..artifact.compiled import Compiled
from ..errors import ProgramInputError
from .batching import concatenate, refuse

Interval = tuple[float, float]
"""Fractions of the schedule, where guidance begins and where it ends: step i of n has it if begin <= i / n < end."""


def takes_interval(compiled: Compiled) -> bool:
    """Whether the denoiser has a program for one half of the guidance pair, which makes an interval cheaper."""
    return compiled.ranks == 1 or not all(each.parallel.guided for each in compiled.each() if each.parallel)


def check_interval(interval: Any, compiled: Compiled) -> Interval:
    """What a call may ask for of a denoiser.

    Raises:
        ProgramInputError: it is none, or the denoiser has no program for one half that would make it cheaper.
    """
    pair = isinstance(interval, (tuple, list)) and len(interval) == 2
    if not pair or not all(isinstance(end, Real) and not isinstance(end, bool) for end in interval):
        refuse("guidance_interval", "two fractions of the schedule, as (0.0, 0.7)", repr(interval))
    begin, end = map(float, interval)
    if not 0 <= begin < end <= 1:
        refuse("guidance_interval", "0 <= begin < end <= 1", (begin, end))
    if not compiled.is_ours:
        raise ProgramInputError("guidance_interval: the stock exporter's programs run on pairs only; export it again")
    if not takes_interval(compiled):
        raise ProgramInputError(
            "guidance_interval: this export has no program without guidance, which it needs; export it with"
            " --guidance both"
        )
    return begin, end


class GuidedInterval:
    """A callable like the denoiser's program, for the steps of one call with guidance.

    Outside the interval the conditional half, which diffusers puts behind the other, runs alone and stands for both:
    guidance between equal predictions is that prediction.

    Args:
        program: takes the pair or one half, rows first.
        interval: see `Interval`.
        steps: gives the number of steps, once the scheduler has been set.
    """

    def __init__(self, program: Callable[..., Any], interval: Interval, steps: Callable[[], int]) -> None:
        self.program = program
        self._begin, self._end = interval
        self._steps = steps
        self._done = 0
        self._halves: dict[int, tuple[Tensor, Tensor]] = {}

    def __call__(self, *tensors: Tensor) -> Any:
        """Run one step."""
        position = self._done / self._steps()
        self._done += 1
        if self._begin <= position < self._end:
            return self.program(*tensors)
        return concatenate([self.program(*(self._conditional(*each) for each in enumerate(tensors)))] * 2)

    def _conditional(self, place: int, tensor: Tensor) -> Tensor:
        """The same view as before of a tensor that stays, so that what is kept of it is found again."""
        kept = self._halves.get(place)
        if kept is None or kept[0] is not tensor:
            kept = self._halves[place] = (tensor, tensor[tensor.shape[0] // 2 :])
        return kept[1]

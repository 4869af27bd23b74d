"""Several programs of one component, for images of several sizes and for one half of the guidance pair."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from .batching import BatchedProgram, concatenate, refuse
from .turns import StaysInItsProcess


class SeveralPrograms(StaysInItsProcess):
    """A callable like one `BatchedProgram`, which has each row run by the program that it is for.

    The shape of the first input tells the size. Of programs for one size the one of the larger batch, which is that of
    the guidance pair, runs as long as rows fill it; a rest that fits into the smaller one runs there.

    Args:
        programs: the first one first; of different shapes or batches.
    """

    def __init__(self, programs: Sequence[BatchedProgram]) -> None:
        self.programs = tuple(programs)
        self._by_shape: dict[tuple[int, ...], list[BatchedProgram]] = defaultdict(list)
        for program in sorted(programs, key=lambda each: -each.rows):
            self._by_shape[program.inputs[0].shape[1:]].append(program)

    def __call__(self, *tensors: Tensor) -> Any:
        """Run the inputs in call order.

        Raises:
            ProgramInputError: no program takes inputs of such a shape.
            DeviceError: this process is not the one that loaded the programs.
        """
        return self._run(tensors, {program: program for program in self.programs})

    def for_one_call(self) -> Callable[..., Any]:
        """The same for the steps of one call; see `BatchedProgram.for_one_call`."""
        callables = {program: program.for_one_call() for program in self.programs}
        return lambda *tensors: self._run(tensors, callables)

    def _run(self, tensors: Sequence[Tensor], callables: Mapping[BatchedProgram, Callable[..., Any]]) -> Any:
        first = tensors[0]
        found = self._by_shape.get(tuple(first.shape[1:])) if isinstance(first, Tensor) else None
        if found is None:
            known = " or ".join(str(("any number", *shape)) for shape in self._by_shape)
            refuse(self.programs[0].inputs[0].name, known, tuple(getattr(first, "shape", (type(first).__name__,))))
        larger, smaller = found[0], found[-1]
        rest = first.shape[0] % larger.rows
        if not 0 < rest <= smaller.rows or larger is smaller:
            return callables[larger](*tensors)
        whole = first.shape[0] - rest
        if not whole:
            return callables[smaller](*tensors)
        outputs = [
            callables[larger](*(tensor[:whole] for tensor in tensors)),
            callables[smaller](*(tensor[whole:] for tensor in tensors)),
        ]
        return concatenate(outputs)

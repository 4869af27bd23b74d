"""Run a compiled program on any number of rows, in chunks of the batch it was compiled for."""

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import LifoQueue
from typing import Any, NoReturn

import torch
from torch import Tensor

from ..errors import ProgramInputError
from .turns import StaysInItsProcess, check_process


@dataclass(frozen=True, kw_only=True)
class ProgramInput:
    """One input of a compiled program: its name, its shape with the batch first, and its dtype."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    def fit(self, tensor: Any, *, name: str | None = None, rows: int | None = None, advice: str = "") -> Tensor:
        """Give `tensor` the compiled dtype; its rows must have the compiled shape.

        Any float dtype is cast to a compiled float dtype, any integer or bool to a compiled integer dtype.

        Args:
            name: what the caller knows the input as, if not by its own name.
            rows: how many there must be; None for any number from one on.
            advice: what to do about another shape.

        Raises:
            ProgramInputError: not a tensor, another shape or another kind of dtype; names the input, what is expected
                and what was given.
        """
        name = name or self.name
        if not isinstance(tensor, Tensor):
            refuse(name, "a torch.Tensor", type(tensor).__name__)
        given = tuple(tensor.shape)
        if given[1:] != self.shape[1:] or given[:1] in ((), (0,)) or rows not in (None, given[0]):
            expected = (rows or "any number", *self.shape[1:])
            refuse(name, f"({', '.join(map(str, expected))})", given, advice)
        if tensor.is_floating_point() != self.dtype.is_floating_point or tensor.is_complex():
            refuse(name, self.dtype, tensor.dtype)
        return tensor.to(self.dtype)


def refuse(name: str, expected: Any, given: Any, advice: str = "") -> NoReturn:
    """ProgramInputError about one input; `advice` is what to do."""
    raise ProgramInputError(f"{name}: expected {expected}, given {given}{advice and f'; {advice}'}")


class BatchedProgram(StaysInItsProcess):
    """A callable like the compiled program, without its limit on the batch, on one or several cores.

    Rows are independent in every program of PixArt-Sigma, so a request is cut into chunks of the compiled batch. Each
    runs on a copy of the program that is free, also when several threads call; the last chunk is filled up with copies
    of its last row, whose results are dropped.

    Args:
        copies: the loaded program, once for each core that may run it; returns a tensor, or a dict or tuple of
            tensors, with the batch first.
        inputs: in call order; all have the same batch.
        name: of the program among several of its component.
    """

    def __init__(
        self, copies: Sequence[Callable[..., Any]], inputs: Iterable[ProgramInput], name: str | None = None
    ) -> None:
        self.copies = tuple(copies)
        self.name = name
        self.inputs = tuple(inputs)
        self.rows = self.inputs[0].shape[0]
        self._process = os.getpid()
        self._free: LifoQueue[int] = LifoQueue()  # the copy that worked last goes first: one thread stays on one core
        for number in reversed(range(len(self.copies))):
            self._free.put(number)
        self._pool = ThreadPoolExecutor(len(self.copies), thread_name_prefix="pixart-copy")

    def __call__(self, *tensors: Tensor) -> Any:
        """Run the inputs in call order.

        Raises:
            ProgramInputError: a tensor does not fit, or they have different numbers of rows.
            DeviceError: this process is not the one that loaded the program.
        """
        return self._run(tensors, self._cut)

    def for_one_call(self) -> Callable[..., Any]:
        """The same callable for the steps of one call, which fits and cuts the tensors that stay only once."""
        kept: dict[ProgramInput, tuple[Tensor, int, list[Tensor]]] = {}

        def cut(spec: ProgramInput, tensor: Tensor, rows: int | None) -> list[Tensor]:
            if not isinstance(tensor, Tensor) or tensor.is_inference():  # the latter do not tell of changes
                return self._cut(spec, tensor, rows)
            before = kept.get(spec)
            if before is None or before[0] is not tensor or before[1] != tensor._version:
                before = kept[spec] = (tensor, tensor._version, self._cut(spec, tensor, rows))
            return before[2]

        return lambda *tensors: self._run(tensors, cut)

    def _run(self, tensors: Sequence[Tensor], cut: Callable[[ProgramInput, Tensor, int | None], list[Tensor]]) -> Any:
        check_process(self._process)  # before the threads of the pool are waited for: a forked process has none
        first, *others = zip(self.inputs, tensors, strict=True)
        columns = [cut(*first, None)]
        rows = first[1].shape[0]
        columns += [cut(spec, tensor, rows) for spec, tensor in others]
        chunks = list(zip(*columns))
        work = map if 1 in (len(chunks), len(self.copies)) else self._pool.map
        outputs = list(work(self._run_chunk, chunks))
        return concatenate(outputs, rows if rows % self.rows else None)

    def _run_chunk(self, chunk: Sequence[Tensor]) -> Any:
        copy = self._free.get()
        try:
            return self.copies[copy](*chunk)
        finally:
            self._free.put(copy)

    def _cut(self, spec: ProgramInput, tensor: Tensor, rows: int | None) -> list[Tensor]:
        """A tensor in chunks of the compiled batch."""
        fitted = spec.fit(tensor, rows=rows)
        missing = -fitted.shape[0] % self.rows
        chunks = list(fitted.split(self.rows))
        if missing:
            chunks[-1] = torch.cat([chunks[-1], chunks[-1][-1:].expand(missing, *fitted.shape[1:])])
        return chunks


def concatenate(outputs: list[Any], rows: int | None = None) -> Any:
    """The outputs of all chunks as one, and only the first `rows` of it if a number is given."""
    first = outputs[0]
    if isinstance(first, dict):
        return {name: _rows([output[name] for output in outputs], rows) for name in first}
    if isinstance(first, (tuple, list)):
        return type(first)(_rows(list(tensors), rows) for tensors in zip(*outputs))
    return _rows(outputs, rows)


def _rows(tensors: list[Tensor], rows: int | None) -> Tensor:
    whole = tensors[0] if len(tensors) == 1 else torch.cat(tensors)
    return whole if rows is None else whole[:rows]

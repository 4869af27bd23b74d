"""Run a compiled program on any number of rows, in chunks of the batch it was compiled for."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor

from ..errors import ProgramInputError


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


class BatchedProgram:
    """A callable like the compiled program, without its limit on the batch, on one or several cores.

    Rows are independent in every program of PixArt-Sigma, so a request is cut into chunks of the compiled batch, which
    run on the copies of the program at the same time; the last chunk is filled up with copies of its last row, whose
    results are dropped.

    Args:
        copies: the loaded program, once for each core that may run it; returns a tensor, or a dict or tuple of
            tensors, with the batch first.
        inputs: in call order; all have the same batch.
    """

    def __init__(self, copies: Sequence[Callable[..., Any]], inputs: Iterable[ProgramInput]) -> None:
        self.copies = tuple(copies)
        self.inputs = tuple(inputs)
        self.rows = self.inputs[0].shape[0]

    def __call__(self, *tensors: Tensor) -> Any:
        """Run the inputs in call order.

        Raises:
            ProgramInputError: a tensor does not fit, or they have different numbers of rows.
        """
        first, *others = zip(self.inputs, tensors, strict=True)
        fitted = [first[0].fit(first[1])]
        fitted += [spec.fit(tensor, rows=fitted[0].shape[0]) for spec, tensor in others]
        if fitted[0].shape[0] == self.rows:  # as in most denoising steps: nothing to cut
            return self.copies[0](*fitted)
        starts = range(0, fitted[0].shape[0], self.rows)
        chunks = [[tensor[start : start + self.rows] for tensor in fitted] for start in starts]
        if len(chunks) == 1 or len(self.copies) == 1:
            return _concatenate([self._run(self.copies[0], chunk) for chunk in chunks])
        outputs: list[Any] = []
        with ThreadPoolExecutor(max_workers=len(self.copies)) as pool:
            for first in range(0, len(chunks), len(self.copies)):  # a core runs one chunk at a time
                outputs += pool.map(self._run, self.copies, chunks[first : first + len(self.copies)])
        return _concatenate(outputs)

    def _run(self, program: Callable[..., Any], chunk: list[Tensor]) -> Any:
        count = chunk[0].shape[0]
        missing = self.rows - count
        if missing == 0:
            return program(*chunk)
        filled = [torch.cat([tensor, tensor[-1:].expand(missing, *tensor.shape[1:])]) for tensor in chunk]
        return _map(lambda output: output[:count], program(*filled))


def _map(function: Callable[[Tensor], Tensor], output: Any) -> Any:
    if isinstance(output, dict):
        return {name: function(tensor) for name, tensor in output.items()}
    if isinstance(output, (tuple, list)):
        return type(output)(function(tensor) for tensor in output)
    return function(output)


def _concatenate(outputs: list[Any]) -> Any:
    first = outputs[0]
    if len(outputs) == 1:
        return first
    if isinstance(first, dict):
        return {name: torch.cat([output[name] for output in outputs]) for name in first}
    if isinstance(first, (tuple, list)):
        return type(first)(torch.cat(tensors) for tensors in zip(*outputs))
    return torch.cat(outputs)

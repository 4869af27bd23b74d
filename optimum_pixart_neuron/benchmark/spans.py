"""Who worked when: spans of time by name, and how long some of them cover the clock.

Copies of a program run at the same time in data mode, so times are added as covered stretches, never one by one.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import wraps
from threading import Lock
from typing import Any, NamedTuple


class Span(NamedTuple):
    """A stretch of time, in seconds of `time.perf_counter`."""

    begin: float
    end: float


@dataclass
class Recorder:
    """Spans by name, in the order they ended, and runs of programs by component; several threads may record."""

    spans: dict[str, list[Span]] = field(default_factory=dict)
    runs: dict[str, Counter[str]] = field(default_factory=dict)
    _counting: Lock = field(default_factory=Lock)

    def counted(self, name: str, program: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, whose calls are timed, and counted as runs of a program of the component `name`."""
        timed = self.timed(name, function)

        def call(*args: Any, **kwargs: Any) -> Any:
            with self._counting:
                self.runs.setdefault(name, Counter())[program] += 1
            return timed(*args, **kwargs)

        return call

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, whose calls leave their span under `name`."""
        spans = self.spans.setdefault(name, [])

        def call(*args: Any, **kwargs: Any) -> Any:
            begin = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                spans.append(Span(begin, time.perf_counter()))

        # The pipeline asks its scheduler's methods for their parameters.
        return wraps(function)(call) if hasattr(function, "__name__") else call

    def clear(self) -> None:
        """Forget all spans and runs."""
        self.runs.clear()
        for spans in self.spans.values():
            spans.clear()


def covered(spans: Iterable[Span]) -> float:
    """Seconds that at least one of the spans covers."""
    total, reached = 0.0, float("-inf")
    for begin, end in sorted(spans):
        if end > reached:
            total += end - max(begin, reached)
            reached = end
    return total


def outside(spans: Iterable[Span], others: Iterable[Span]) -> float:
    """Seconds that `spans` cover and `others` do not."""
    spans, others = list(spans), list(others)
    return covered([*spans, *others]) - covered(others)

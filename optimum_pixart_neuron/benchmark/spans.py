"""Who worked when: spans of time by name, and how long some of them cover the clock.

Copies of a program run at the same time in data mode, so times are added as covered stretches, never one by one.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, NamedTuple


class Span(NamedTuple):
    """A stretch of time, in seconds of `time.perf_counter`."""

    begin: float
    end: float


@dataclass
class Recorder:
    """Spans by name, in the order they ended; several threads may record."""

    spans: dict[str, list[Span]] = field(default_factory=dict)

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
        """Forget all spans."""
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

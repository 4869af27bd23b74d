"""Pictures that a client fetches by an address of their own (`response_format: url`), for an hour."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable

_LIFE_S = 3600.0
"""As OpenAI's addresses live (API reference, "Create image")."""
_MOST_BYTES = 256 << 20


class Shelf:
    """Keeps the newest pictures, `most_bytes` of them in all, each under a name that nobody guesses."""

    def __init__(self, most_bytes: int = _MOST_BYTES, clock: Callable[[], float] = time.monotonic) -> None:
        self._most_bytes = most_bytes
        self._clock = clock
        self._files: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self._bytes = 0

    def put(self, content: bytes, suffix: str) -> str:
        """Keep a file; returns its name."""
        name = secrets.token_urlsafe(24) + suffix
        self._files[name] = (self._clock() + _LIFE_S, content)
        self._bytes += len(content)
        self._drop_old()
        return name

    def get(self, name: str) -> bytes | None:
        """The content of a file; None where there is none of that name, or no more."""
        self._drop_old()
        return self._files[name][1] if name in self._files else None

    def _drop_old(self) -> None:
        while self._files:
            until, content = next(iter(self._files.values()))
            if until > self._clock() and self._bytes <= self._most_bytes:
                return
            self._files.popitem(last=False)
            self._bytes -= len(content)

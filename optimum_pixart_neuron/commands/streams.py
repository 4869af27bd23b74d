"""Standard output that may be closed, full, or a pipe that nobody reads any more."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, TextIO

from ..errors import PixArtNeuronError

CLOSED = "standard output is closed; send it to a file or to /dev/null"
_NAMES = {"stdout": "standard output", "stderr": "standard error"}


class StreamLost(PixArtNeuronError):
    """What the command says can no longer be written; the status is that of SIGPIPE where its reader has gone."""


class _Checked:
    """A standard stream whose failed writes are `StreamLost`, so that no library takes them for its own."""

    def __init__(self, name: str, stream: TextIO) -> None:
        self._name = name
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._stream, name)
        return partial(self._try, found) if name in ("write", "writelines", "flush") else found

    def _try(self, act: Callable, *arguments: Any) -> Any:
        try:
            return act(*arguments)
        except OSError as error:
            self._drop()
            lost = StreamLost(f"{_NAMES[self._name]} cannot be written: {error.strerror or error}")
            if error.errno == errno.EPIPE:
                lost.exit_status = 128 + signal.SIGPIPE
            raise lost from None

    def _drop(self) -> None:
        """Let what is in its buffer go nowhere, or Python would fail once more while it exits."""
        with suppress(OSError, ValueError, AttributeError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


@contextmanager
def checked_streams() -> Iterator[None]:
    """Have standard output and error raise `StreamLost`, at the latest at the end of the block.

    Raises:
        StreamLost: one of them cannot be written; standard output may also be closed, which is said at once.
    """
    if sys.stdout is None:
        raise StreamLost(CLOSED)
    before = {name: getattr(sys, name) for name in _NAMES}
    for name, stream in before.items():
        if stream is not None:
            setattr(sys, name, _Checked(name, stream))
    try:
        yield
        for name in before:
            if getattr(sys, name) is not None:
                getattr(sys, name).flush()
    finally:
        for name, stream in before.items():
            setattr(sys, name, stream)


def say(line: str) -> None:
    """Write a line to standard error, if that is possible."""
    with suppress(OSError, ValueError, AttributeError):
        print(line, file=sys.stderr, flush=True)

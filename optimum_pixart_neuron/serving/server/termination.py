"""What SIGTERM does to `pixart-serve`, whatever it is at."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

from .. import left_behind

_KILLING_S = 1.0
"""Of the time that is given: for killing what has not ended by then."""
_log = logging.getLogger(__name__)


class Termination:
    """The first SIGTERM raises SystemExit(0) in the main thread; some time later nothing runs any more.

    That end is brought by a thread, because calls into a Ray whose own processes are gone last a minute and see no
    signal: `timeout`, systemd and others send SIGTERM to them, too.

    Attributes:
        folder: private one of the Ray that was started; its processes are killed before this one ends, so that their
            port is free then.
    """

    def __init__(self, seconds: float) -> None:
        """Args:
        seconds: from the signal until the process has ended.
        """
        self.folder: Path | None = None
        self._seconds = seconds
        self._asked = False

    @contextlib.contextmanager
    def in_force(self) -> Iterator[Termination]:
        """Handle the signal from now on; after the block, too, where the process ends."""
        signal.signal(signal.SIGTERM, self._ask)
        try:
            yield self
        except BaseException:
            if self._asked:  # Ray's calls make errors of their own of what a signal's handler raises in them
                raise SystemExit(0) from None
            raise

    def _ask(self, *_: object) -> None:
        if not self._asked:
            self._asked = True
            self._end_in_time()
            raise SystemExit(0)

    def _end_in_time(self) -> None:
        timer = threading.Timer(max(self._seconds - _KILLING_S, self._seconds / 2), self._end)
        timer.daemon = True
        timer.start()

    def _end(self) -> None:
        if self.folder is not None:
            left_behind.end_all(self.folder)
        _log.warning("not everything had ended %g s after the signal; it is killed", self._seconds)
        os._exit(0)

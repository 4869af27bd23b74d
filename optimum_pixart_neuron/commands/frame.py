"""The frame of every command: how its process is ended, and one line for each error of the user's."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn, TextIO

from ..errors import PixArtNeuronError
from ..process.run import run_module, shell_status
from .streams import checked_streams, say

_PACKAGE = __package__.partition(".")[0]


def run_main(prog: str, work: Callable[[], int | None]) -> int:
    """Do `work` and return the exit status.

    Args:
        prog: The command as the user typed it, for messages.
        work: Returns an exit status, None for 0; raises `PixArtNeuronError` for what the user can mend.

    Raises:
        SystemExit: As `work` raises it.
    """
    exit_on_termination()
    # What diffusers (0.35, `utils.import_utils`) says of every name space that distributions share, as `optimum` is.
    logging.getLogger("diffusers.utils.import_utils").setLevel(logging.ERROR)
    try:
        with checked_streams(), shown_log():
            return work() or 0
    except PixArtNeuronError as error:
        say(f"{prog}: error: {error}")
        return error.exit_status
    except KeyboardInterrupt:
        say(f"{prog}: interrupted.")
        return 128 + signal.SIGINT


def run_child(module: str, prog: str, argv: Sequence[str]) -> int:
    """Do a command's work in a process of its own, see `process.run`, and return the exit status for the shell.

    The module has a `__main__` guard; `prog` is the command as the user typed it, for messages.
    """
    status = run_module(module, argv)
    if status < 0:
        hint = "; the machine may be out of memory" if -status == signal.SIGKILL else ""
        say(f"{prog}: error: ended by {signal.Signals(-status).name}{hint}.")
    return shell_status(status)


def fail(prog: str, message: str, status: int = 2) -> NoReturn:
    """End the process, by SystemExit, with one line on stderr."""
    say(f"{prog}: error: {message}")
    raise SystemExit(status)


@contextmanager
def shown_log(to: TextIO | None = None) -> Iterator[None]:
    """Show what the package logs within the block: progress on stdout, or `to`; warnings on stderr."""
    logger = logging.getLogger(_PACKAGE)
    before = logger.handlers, logger.level, logger.propagate
    logger.handlers, logger.propagate = [_Streams(to)], False
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.handlers, level, logger.propagate = before
        logger.setLevel(level)


class _Streams(logging.Handler):
    """The standard streams as they are when something is logged."""

    def __init__(self, to: TextIO | None) -> None:
        super().__init__()
        self._to = to

    def emit(self, record: logging.LogRecord) -> None:
        out, table = self._to or sys.stdout, getattr(record, "rich", None)
        if record.levelno >= logging.WARNING:
            say(f"{_PACKAGE}: {self.format(record)}")
        elif table is not None and out.isatty():
            from ..terminal.table import console

            console(out).print(table)
        else:
            print(self.format(record), file=out, flush=True)


def exit_on_termination() -> None:
    """Have SIGTERM raise SystemExit, so that `finally` blocks stop the workers and remove unfinished output."""
    signal.signal(signal.SIGTERM, _exit)


def _exit(number: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + number)

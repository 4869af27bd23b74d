"""The frame of every command: how its process is ended, and one line for each error of the user's."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import NoReturn

from ..errors import PixArtNeuronError
from .streams import checked_streams, say


def run_main(prog: str, work: Callable[[], None]) -> int:
    """Do `work` and return the exit status.

    Args:
        prog: The command as the user typed it, for messages.
        work: Raises `PixArtNeuronError` for what the user can mend.

    Raises:
        SystemExit: As `work` raises it.
    """
    exit_on_termination()
    try:
        with checked_streams():
            work()
    except PixArtNeuronError as error:
        say(f"{prog}: error: {error}")
        return error.exit_status
    except KeyboardInterrupt:
        say(f"{prog}: interrupted.")
        return 128 + signal.SIGINT
    return 0


def fail(prog: str, message: str, status: int = 2) -> NoReturn:
    """End the process with one line on stderr.

    Raises:
        SystemExit: Always, with `status`.
    """
    say(f"{prog}: error: {message}")
    raise SystemExit(status)


def exit_on_termination() -> None:
    """Have SIGTERM raise SystemExit, so that `finally` blocks stop the workers and remove unfinished output."""
    signal.signal(signal.SIGTERM, _exit)


def _exit(number: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + number)

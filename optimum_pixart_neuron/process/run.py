"""Run a command in a process of its own, whose end is the command's end."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Sequence

from .start import ModuleProcess

_FORWARDED = (signal.SIGTERM, signal.SIGHUP)
_GRACE_S = 10.0
"""Seconds that an interrupted command gets to stop its workers and remove its unfinished output."""


def run_module(module: str, argv: Sequence[str], *, descriptors: Sequence[int] = ()) -> int:
    """Run a module in a child process.

    Termination signals are handed on, and the child ends when this process does, so that no work goes on without its
    command.

    Args:
        module: With a `__main__` guard.
        argv: Its arguments.
        descriptors: Open files for the child. Their numbers there follow the arguments.

    Returns:
        its exit status, and minus the number of the signal that ended it, as `subprocess` has it.
    """
    if sys.stdout is not None:
        sys.stdout.flush()
    child = ModuleProcess(module, argv, descriptors=descriptors)
    # Python handles signals in the main thread only.
    handled = _FORWARDED if threading.current_thread() is threading.main_thread() else ()
    previous = {number: signal.signal(number, lambda got, _: child.send_signal(got)) for number in handled}
    try:
        return child.wait()
    except KeyboardInterrupt:
        _wind_down(child)
        return 128 + signal.SIGINT
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _wind_down(child: subprocess.Popen) -> None:
    """Wait for a child that the terminal interrupted together with us, and end one that does not stop."""
    for stop in (child.terminate, child.kill):
        try:
            child.wait(_GRACE_S)
            return
        except subprocess.TimeoutExpired:
            stop()
        except KeyboardInterrupt:
            stop()
    child.wait()


def shell_status(status: int) -> int:
    """What a shell calls the status of `run_module`: 128 and more for a signal."""
    return status if status >= 0 else 128 - status

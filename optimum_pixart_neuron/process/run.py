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


def run_module(module: str, prog: str, argv: Sequence[str], *, descriptors: Sequence[int] = ()) -> int:
    """Run a module in a child process and return the exit status for the shell.

    Termination signals are handed on, and the child ends when this process does, so that no work goes on without its
    command.

    Args:
        module: With a `__main__` guard.
        prog: The command as the user typed it, for messages.
        argv: The arguments after it.
        descriptors: Open files for the child. Their numbers there follow the arguments.
    """
    if sys.stdout is not None:
        sys.stdout.flush()
    child = ModuleProcess(module, argv, descriptors=descriptors)
    # Python handles signals in the main thread only.
    handled = _FORWARDED if threading.current_thread() is threading.main_thread() else ()
    previous = {number: signal.signal(number, lambda got, _: child.send_signal(got)) for number in handled}
    try:
        return _status(child.wait(), prog)
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


def _status(returncode: int, prog: str) -> int:
    if returncode >= 0:
        return returncode
    name = signal.Signals(-returncode).name
    hint = "; the machine may be out of memory" if -returncode == signal.SIGKILL else ""
    print(f"{prog}: error: ended by {name}{hint}.", file=sys.stderr)
    return 128 - returncode

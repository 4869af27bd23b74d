"""Runs the export in a process of its own, whose end is the command's end."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence

MODULE = "optimum_pixart_neuron.export"
_FORWARDED = (signal.SIGTERM, signal.SIGHUP)
_GRACE_S = 10.0
"""Seconds that an interrupted export gets to stop its workers and remove its unfinished output."""


def run_export(argv: Sequence[str]) -> int:
    """Export in a child process and return the exit status for the shell.

    The arguments travel as a list, never through a shell. Termination signals are handed on, so that no export goes
    on without its command.

    Args:
        argv: The arguments after `optimum-cli export neuron`.
    """
    sys.stdout.flush()
    child = subprocess.Popen([sys.executable, "-m", MODULE, *argv])
    previous = {number: signal.signal(number, lambda got, _: child.send_signal(got)) for number in _FORWARDED}
    try:
        return _status(child.wait())
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


def _status(returncode: int) -> int:
    if returncode >= 0:
        return returncode
    name = signal.Signals(-returncode).name
    hint = "; the machine may be out of memory" if -returncode == signal.SIGKILL else ""
    print(f"optimum-cli export neuron: error: the export was ended by {name}{hint}.", file=sys.stderr)
    return 128 - returncode

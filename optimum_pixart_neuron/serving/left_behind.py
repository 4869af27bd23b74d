"""Ends what a Ray of a command's own leaves: some of its processes look for their parent only now and then.

All of them have the private folder of the session as their current folder, which they got from the command. Run as a
module, it waits for the end of the command and then does this: for a command that is killed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import psutil

_LOOKS_S = 0.5
_ROUNDS = 10
"""Of looking for processes: one may have started another meanwhile."""


def end_all(folder: Path) -> None:
    """Kill every process but this one whose current folder is in `folder`, and remove it."""
    for _ in range(_ROUNDS):
        found = [process for process in psutil.process_iter() if _works_in(process, folder)]
        for process in found:
            with contextlib.suppress(psutil.Error):
                process.kill()
        if not found:
            break
        psutil.wait_procs(found, timeout=_LOOKS_S)
    shutil.rmtree(folder, ignore_errors=True)


def _works_in(process: psutil.Process, folder: Path) -> bool:
    if process.pid == os.getpid():
        return False
    with contextlib.suppress(psutil.Error, OSError):
        return process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()).is_relative_to(folder)
    return False


def main(folder: Path, command: int) -> None:
    """Wait until the process `command`, this one's parent, is gone; signals for its whole group are for others."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.chdir("/")
    while os.getppid() == command:
        time.sleep(_LOOKS_S)
    end_all(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))

"""The process between a model's owner and its ranks: imports torch once, forks the ranks, watches both sides.

It computes nothing itself, so that it has one thread when it forks.
"""

import os
import select
import shutil
import signal
from multiprocessing.connection import Connection
from typing import Any

from . import worker

_PARENT_CHECK_SECONDS = 1.0


def main(start: dict[str, Any]) -> None:
    """Fork one rank per socket, report each exit, and kill all ranks when the owner's socket closes.

    Args:
        start: as `RankPool._launch` builds it: file descriptors `control`, `ranks` (one per rank) and `weights`
            (one per file), the owner's process id `parent`, the rendezvous file `store`, and `threads` per rank.
    """
    wake_reader, wake_writer = os.pipe()
    os.set_blocking(wake_writer, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_writer, warn_on_full_buffer=False)

    own_id = os.getpid()
    ranks: dict[int, int] = {}
    for rank, descriptor in enumerate(start["ranks"]):
        child = os.fork()
        if child == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for other in [wake_reader, wake_writer, start["control"], *start["ranks"][rank + 1 :]]:
                os.close(other)
            worker.main(rank, len(start["ranks"]), descriptor, own_id, start)
        ranks[child] = rank
        os.close(descriptor)  # or the owner would not see this rank die
    for descriptor in start["weights"]:
        os.close(descriptor)

    control = Connection(start["control"])
    while ranks:
        readable, _, _ = select.select([control, wake_reader], [], [], _PARENT_CHECK_SECONDS)
        if wake_reader in readable:
            os.read(wake_reader, 4096)
            _report_exits(ranks, control)
        # a fork of the owner may keep the socket open, so its process id is checked as well
        if control in readable or os.getppid() != start["parent"]:
            break
    for child in ranks:
        os.kill(child, signal.SIGKILL)
    for child in list(ranks):
        os.waitpid(child, 0)
    shutil.rmtree(os.path.dirname(start["store"]), ignore_errors=True)  # an owner killed while starting left it
    os._exit(0)


def _report_exits(ranks: dict[int, int], control: Connection) -> None:
    while ranks:
        child, status = os.waitpid(-1, os.WNOHANG)
        if child == 0:
            return
        try:
            control.send((ranks.pop(child), status))
        except OSError:
            return  # the owner is gone, which the caller notices next

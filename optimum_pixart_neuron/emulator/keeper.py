"""The process between a model's owner and its ranks: forks the ranks, watches both sides.

It computes nothing itself, so that it has one thread when it forks. The ranks hold one end of a pipe, and end when its
other end closes, which this process alone has.
"""

import json
import os
import select
import shutil
import signal
import socket
from multiprocessing.connection import Connection
from typing import Any, NoReturn

from . import worker

_PARENT_CHECK_SECONDS = 1.0
_LARGEST_MESSAGE = 1 << 16  # bytes
_MOST_DESCRIPTORS = 253  # of one message: SCM_MAX_FD, unix(7)


def main(parent: int, control_descriptor: int) -> NoReturn:
    """Wait for what to start, fork one rank per socket, report each exit; kill all when the owner's socket closes.

    Args:
        parent: the launcher's process id. It ends with the owner.
        control_descriptor: of a socket to the owner. On it comes what `RankPool._launch` builds: the number of
            `ranks`, the rendezvous file `store`, seconds of `patience` with it, and `threads` per rank; with it the
            descriptors of the ranks' sockets and then of the weight files. `launching.Keeper.hear` reads what is
            reported there.
    """
    with socket.socket(fileno=os.dup(control_descriptor)) as control_socket:
        wait_for_message(control_socket, parent)
        message, descriptors, _, _ = socket.recv_fds(control_socket, _LARGEST_MESSAGE, _MOST_DESCRIPTORS)
    if not message:
        os._exit(0)  # the owner needs no ranks
    start = json.loads(message)
    sockets, start["weights"] = descriptors[: start["ranks"]], descriptors[start["ranks"] :]
    wake_reader, wake_writer = os.pipe()
    os.set_blocking(wake_writer, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_writer, warn_on_full_buffer=False)

    lifeline, held_end = os.pipe()
    ranks: dict[int, int] = {}
    for rank, descriptor in enumerate(sockets):
        child = os.fork()
        if child == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for other in [wake_reader, wake_writer, control_descriptor, held_end, *sockets[rank + 1 :]]:
                os.close(other)
            worker.main(rank, len(sockets), descriptor, lifeline, start)
        ranks[child] = rank
        os.close(descriptor)  # or the owner would not see this rank die
    for descriptor in [lifeline, *start["weights"]]:
        os.close(descriptor)

    control = Connection(control_descriptor)
    watched: list[Connection | int] = [control, wake_reader]
    _report(control, "started", (os.getpid(), list(ranks)))
    while ranks:
        readable, _, _ = select.select(watched, [], [], _PARENT_CHECK_SECONDS)
        if wake_reader in readable:
            os.read(wake_reader, 4096)
            _report_exits(ranks, control)
        # A fork of the owner may keep the socket open. The launcher looks at the owner's process id, too.
        if control in readable or os.getppid() != parent:
            break
    for child in ranks:
        os.kill(child, signal.SIGKILL)
    for child in list(ranks):
        os.waitpid(child, 0)
    shutil.rmtree(os.path.dirname(start["store"]), ignore_errors=True)  # an owner killed while starting left it
    os._exit(0)


def wait_for_message(control: socket.socket, parent: int) -> None:
    """Wait until there is something to receive; end this process if its parent has ended."""
    while not select.select([control], [], [], _PARENT_CHECK_SECONDS)[0]:
        if os.getppid() != parent:  # a fork of the owner may keep the socket open
            os._exit(0)


def _report_exits(ranks: dict[int, int], control: Connection) -> None:
    while ranks:
        child, status = os.waitpid(-1, os.WNOHANG)
        if child == 0:
            return
        _report(control, "ended", (ranks.pop(child), status))


def _report(control: Connection, kind: str, content: Any) -> None:
    try:
        control.send((kind, content))
    except OSError:
        return  # the owner is gone, which the main loop notices

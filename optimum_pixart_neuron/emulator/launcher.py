"""The process that imports torch once for all ranks of its owner: forks a keeper for each model that is loaded.

It has one thread, since it forks.
"""

import os
import signal
import socket
import sys
from typing import NoReturn

from . import keeper


def main(parent: int, control_descriptor: int) -> NoReturn:
    """Fork a keeper for each byte on the control socket; end with the owner.

    Args:
        parent: the owner's process id.
        control_descriptor: of a socket to the owner. With each byte comes the descriptor of the keeper's own socket to
            the owner and, if the owner has one, that of its standard error.
    """
    own = os.getpid()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no keeper is waited for
    control = socket.socket(fileno=control_descriptor)
    control.set_inheritable(False)
    while True:
        keeper.wait_for_message(control, parent)
        message, descriptors, _, _ = socket.recv_fds(control, 1, 2)
        if not message:
            os._exit(0)
        if os.fork() == 0:
            control.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            socket_of_keeper, *standard_error = descriptors
            for descriptor in standard_error:
                os.dup2(descriptor, 2)
                os.close(descriptor)
            keeper.main(own, socket_of_keeper)
        for descriptor in descriptors:
            os.close(descriptor)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

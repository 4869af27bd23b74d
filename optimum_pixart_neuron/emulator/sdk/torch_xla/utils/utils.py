"""Emulated torch_xla.utils.utils."""

import contextlib
import socket


def get_free_tcp_ports(n: int = 1) -> list[int]:
    """`n` distinct TCP ports that were free a moment ago."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]

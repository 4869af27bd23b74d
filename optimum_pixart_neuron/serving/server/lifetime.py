"""The life of `pixart-serve`: start, serve, drain, end. `termination` says what SIGTERM does to it."""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from collections.abc import Callable

from ...errors import InvalidExportOption, PixArtNeuronError, one_line
from ..ray_session import ray_session
from .opened import open_all, read_keys
from .options import LOOPBACK, ServeOptions
from .termination import Termination

APPLICATION = "pixart"
_SHUTDOWN_S = 7.0
"""Of the drain timeout, for what comes after the last answer: replicas and Ray end."""
_LONG_S = 3600.0
_log = logging.getLogger(__name__)


def serve_until_terminated(options: ServeOptions, on_ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM, then drain. A SIGTERM that comes sooner ends the start of it.

    Args:
        on_ready: told the server's address when every export has drawn its first picture.

    Raises:
        SystemExit: at SIGTERM, with status 0.
        PixArtNeuronError: it cannot start.
        KeyboardInterrupt: at SIGINT; requests are dropped.
    """
    with Termination(options.drain_timeout).in_force() as termination:
        if options.address is None:
            _check_port(options)
        exports, keys = open_all(options), read_keys(options)
        if not keys and options.host not in LOOPBACK:
            _log.warning("anybody who reaches %s:%s may draw: there is no --api_key_file", options.host, options.port)
        with ray_session(options.address) as empty:
            termination.folder = empty.parent
            from .application import build_of  # imports Ray, which now has its environment

            _serve(options, build_of(options, exports, keys), on_ready)


def _serve(options: ServeOptions, application, on_ready: Callable[[str], None]) -> None:
    handle = None
    try:
        handle = _deploy(options, application)
        on_ready(f"http://{options.host}:{options.port}")
        while True:
            time.sleep(_LONG_S)
    except SystemExit:
        if handle is not None:
            _drain(handle, max(options.drain_timeout - _SHUTDOWN_S, 0.5))
        raise
    finally:
        if options.address is not None:
            _leave_cluster()
        elif handle is not None:  # what has not started yet ends with its Ray, which is sooner
            from ray import serve

            serve.shutdown()


def _leave_cluster() -> None:
    """Take our application away, and give the port back if no other one is there."""
    from ray import serve
    from ray.serve.exceptions import RayServeException

    with contextlib.suppress(RayServeException):  # Serve had not started
        serve.delete(APPLICATION)
        if not serve.status().applications:
            serve.shutdown()


def _deploy(options: ServeOptions, application):
    import ray
    from ray import serve
    from ray.serve.config import HTTPOptions
    from ray.serve.schema import LoggingConfig

    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    quiet = LoggingConfig(enable_access_log=False, log_level="ERROR")
    try:
        serve.start(http_options=HTTPOptions(host=options.host, port=options.port), logging_config=quiet)
        return serve.run(application, name=APPLICATION, route_prefix="/", logging_config=quiet)
    except (RuntimeError, ray.exceptions.RayError) as error:
        raise PixArtNeuronError(f"the server does not start: {one_line(error)}") from error


def _drain(handle, seconds: float) -> None:
    try:
        if not handle.drain.remote(seconds).result(timeout_s=seconds + 1):
            _log.warning("requests that were not drawn in time are dropped")
    except Exception as error:  # the ingress itself may be gone
        _log.warning("the server could not be drained: %s", one_line(error))


def _check_port(options: ServeOptions) -> None:
    """Ray Serve would try for a long time, and then say it in twenty lines."""
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            options.host, options.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
    except OSError as error:
        raise InvalidExportOption(
            f"--host {options.host} --port {options.port}: {error.strerror}; choose others"
        ) from None

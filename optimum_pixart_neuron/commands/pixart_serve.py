"""`optimum-cli neuron pixart-serve`: its flags, and the process that serves."""

from __future__ import annotations

import sys
from typing import Any

from ..serving.server.options import ServeOptions
from .command import Command


def _serve(given: dict[str, Any]) -> None:
    options = ServeOptions(**given)
    from ..serving.server.lifetime import serve_until_terminated

    serve_until_terminated(options, lambda url: print(f"serving at {url}", flush=True))


COMMAND = Command(
    prog="optimum-cli neuron pixart-serve",
    usage="EXPORT [EXPORT ...] [options]",
    summary="Serve compiled PixArt pipelines over HTTP with OpenAI's image API, and a page to draw with.",
    details="A SIGTERM lets requests finish for --drain_timeout seconds and ends the command with status 0.",
    options=tuple(ServeOptions.options()),
    work=_serve,
)

if __name__ == "__main__":
    sys.exit(COMMAND.main(sys.argv[1:]))

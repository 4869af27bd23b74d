"""`optimum-cli neuron pixart-serve`: its flags, and the process that serves."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Sequence

from ..serving.server.options import ServeOptions
from .frame import run_main
from .parser import add_options, given_words, one_line_errors

PROG = "optimum-cli neuron pixart-serve"
DESCRIPTION = "Serve compiled PixArt pipelines over HTTP with OpenAI's image API, and a page to draw with."


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the flags, and have errors of one line."""
    parser.description = (
        f"{DESCRIPTION} A SIGTERM lets requests finish for --drain_timeout seconds and ends the command with status 0."
    )
    parser.usage = f"{PROG} EXPORT [EXPORT ...] [options]"
    one_line_errors(parser, PROG)
    add_options(parser, ServeOptions.options())


def parse(argv: Sequence[str]) -> ServeOptions:
    """The options.

    Args:
        argv: The arguments after `optimum-cli neuron pixart-serve`.

    Raises:
        InvalidExportOption: A value that its flag cannot have.
        SystemExit: They cannot be read (status 2), or only help was asked for (status 0).
    """
    return ServeOptions(**given_words(PROG, add_arguments, argv))


def main(argv: Sequence[str]) -> int:
    """Serve until a signal and return the exit status; an error of the user's is one line on stderr.

    Args:
        argv: The arguments after `optimum-cli neuron pixart-serve`.

    Raises:
        SystemExit: The arguments cannot be read (status 2), or only help was asked for (status 0).
    """
    return run_main(PROG, lambda: _serve(argv))


def _serve(argv: Sequence[str]) -> None:
    options = parse(argv)
    # Here and not above: it imports Ray and the SDK, which the help and refused flags do not need.
    from ..serving.server.lifetime import serve_until_terminated

    serve_until_terminated(options, lambda url: print(f"serving at {url}", flush=True))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""`optimum-cli neuron pixart-demo`: its flags, and the process that demonstrates."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Any

from ..demo.demo import DemoOptions, demonstrate
from .frame import run_main
from .parser import add_options, given_words, one_line_errors

PROG = "optimum-cli neuron pixart-demo"
DESCRIPTION = "Export a small trained PixArt-Sigma and draw with it beside diffusers; downloads nothing."


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the flags, and have errors of one line."""
    parser.description = DESCRIPTION
    parser.usage = f"{PROG} [options] [output]"
    one_line_errors(parser, PROG)
    add_options(parser, DemoOptions.options())


def main(argv: Sequence[str]) -> int:
    """Demonstrate, and return the exit status; an error of the user's is one line on stderr.

    Args:
        argv: The arguments after `optimum-cli neuron pixart-demo`.

    Raises:
        SystemExit: The arguments cannot be read (status 2), or only help was asked for (status 0).
    """
    words = given_words(PROG, add_arguments, argv)
    return run_main(PROG, lambda: _demonstrate(words))


def _demonstrate(words: dict[str, Any]) -> None:
    demonstrate(DemoOptions(**words))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""`optimum-cli neuron pixart-generate`: its flags, and the process that draws a file of prompts."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Sequence

from ..errors import PicturesMissing
from ..serving.generate.options import GenerateOptions
from .frame import run_main
from .parser import add_options, given_words, one_line_errors

PROG = "optimum-cli neuron pixart-generate"
DESCRIPTION = "Draw a file of prompts into a folder of pictures, on all cores of this machine or of a Ray cluster."


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the flags, and have errors of one line."""
    parser.description = (
        f"{DESCRIPTION} The folder has the layout of `datasets`' ImageFolder. The same command goes on where it was"
        " ended, whatever ended it. The exit status is 0 when every picture is there, 3 when some cannot be drawn:"
        " OUT/errors.jsonl says which, and why."
    )
    parser.usage = f"{PROG} EXPORT --prompts FILE OUT [options]"
    one_line_errors(parser, PROG)
    add_options(parser, GenerateOptions.options())


def parse(argv: Sequence[str]) -> GenerateOptions:
    """The options.

    Args:
        argv: The arguments after `optimum-cli neuron pixart-generate`.

    Raises:
        InvalidExportOption: A value that its flag cannot have.
        SystemExit: They cannot be read (status 2), or only help was asked for (status 0).
    """
    return GenerateOptions(**given_words(PROG, add_arguments, argv))


def main(argv: Sequence[str]) -> int:
    """Draw what is missing and return the exit status; an error of the user's is one line on stderr.

    Args:
        argv: The arguments after `optimum-cli neuron pixart-generate`.

    Raises:
        SystemExit: The arguments cannot be read (status 2), or only help was asked for (status 0).
    """
    return run_main(PROG, lambda: _generate(argv))


def _generate(argv: Sequence[str]) -> None:
    options = parse(argv)
    # Here and not above: it imports Ray and the SDK, which the help and refused flags do not need.
    from ..serving.generate.job import generate

    errors = generate(options)
    if errors:
        raise PicturesMissing(f"{errors} could not be drawn; {options.output}/errors.jsonl says which, and why")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

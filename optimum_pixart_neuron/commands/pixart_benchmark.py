"""`optimum-cli neuron pixart-benchmark`: its flags, and the process that measures."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from ..benchmark.options import BenchmarkOptions
from ..options import Flag
from .frame import run_main
from .parser import add_options, given_words, one_line_errors
from .result_file import ResultFile, write_result

PROG = "optimum-cli neuron pixart-benchmark"
DESCRIPTION = "Measure a compiled PixArt: latency, throughput and host time."


class CommandOptions(BenchmarkOptions):
    """The options of a benchmark, and where its result goes."""

    json_file: Annotated[ResultFile | None, Flag(names=("--json",), metavar="FILE")] = Field(
        None, description="Write every sample and figure here."
    )


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the flags, and have errors of one line."""
    parser.description = DESCRIPTION
    parser.usage = f"{PROG} OUT [options]"
    one_line_errors(parser, PROG)
    add_options(parser, CommandOptions.options())


def parse(argv: Sequence[str]) -> CommandOptions:
    """The options.

    Args:
        argv: The arguments after `optimum-cli neuron pixart-benchmark`.

    Raises:
        InvalidExportOption: A value that its flag cannot have.
        SystemExit: They cannot be read (status 2), or only help was asked for (status 0).
    """
    return CommandOptions(**given_words(PROG, add_arguments, argv))


def main(argv: Sequence[str]) -> int:
    """Benchmark one folder and return the exit status; an error of the user's is one line on stderr.

    Args:
        argv: The arguments after `optimum-cli neuron pixart-benchmark`.

    Raises:
        SystemExit: The arguments cannot be read (status 2), or only help was asked for (status 0).
    """
    return run_main(PROG, lambda: _benchmark(argv))


def _benchmark(argv: Sequence[str]) -> None:
    options = parse(argv)
    # Here and not above: they import torch and the SDK, which the help and refused flags do not need.
    from ..benchmark.measure import benchmark
    from ..benchmark.table import print_report
    from ..terminal.table import console

    report = benchmark(options)
    print_report(report, console())
    if options.json_file:
        write_result("--json", options.json_file, report.to_json())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

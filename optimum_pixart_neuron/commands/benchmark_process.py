"""The command `optimum-cli neuron pixart-benchmark`, in a process of its own."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from .benchmark_arguments import PROG, parse
from .main import run_main
from .result_file import write_result


def main(argv: Sequence[str]) -> int:
    """Benchmark one folder and return the exit status; an error of the user's is one line on stderr.

    Args:
        argv: The arguments after `optimum-cli neuron pixart-benchmark`.

    Raises:
        SystemExit: The arguments cannot be read (status 2), or only help was asked for (status 0).
    """
    return run_main(PROG, lambda: _benchmark(argv))


def _benchmark(argv: Sequence[str]) -> None:
    args = parse(argv)
    # Here and not above: they import torch and the SDK, which the help and refused flags do not need.
    from ..benchmark.measure import benchmark
    from ..benchmark.table import print_report

    report = benchmark(args)
    print_report(report)
    if args.json:
        write_result("--json", args.json, report.to_json())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""`optimum-cli neuron pixart-benchmark`: its flags, and the process that measures."""

from __future__ import annotations

import sys
from typing import Annotated, Any

from pydantic import Field

from ..benchmark.options import BenchmarkOptions
from ..options import Flag
from .command import Command
from .result_file import ResultFile, write_result


class _CommandOptions(BenchmarkOptions):
    """The options of a benchmark, and where its result goes."""

    json_file: Annotated[ResultFile | None, Flag(names=("--json",), metavar="FILE")] = Field(
        None, description="Write every sample and figure here."
    )


def _benchmark(given: dict[str, Any]) -> None:
    options = _CommandOptions(**given)
    from ..benchmark.measure import benchmark
    from ..benchmark.table import print_report
    from ..terminal.table import console

    report = benchmark(options)
    print_report(report, console())
    if options.json_file:
        write_result("--json", options.json_file, report.to_json())


COMMAND = Command(
    prog="optimum-cli neuron pixart-benchmark",
    usage="OUT [options]",
    summary="Measure a compiled PixArt: latency, throughput and host time.",
    options=tuple(_CommandOptions.options()),
    work=_benchmark,
)

if __name__ == "__main__":
    sys.exit(COMMAND.main(sys.argv[1:]))

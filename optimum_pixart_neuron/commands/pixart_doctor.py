"""`optimum-cli neuron pixart-doctor`: its flags, and the process that looks."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from ..hardware import get_instance
from ..options import Flag, Folder, Options
from .frame import run_main
from .parser import add_options, given_words, one_line_errors
from .result_file import ResultFile, write_result

PROG = "optimum-cli neuron pixart-doctor"
DESCRIPTION = "Say whether this machine is ready to export PixArt-Sigma and draw with it, or what to do first."


def _known(name: str) -> str:
    get_instance(name)
    return name


class DoctorOptions(Options):
    """Where the export would be written, and for what."""

    output: Annotated[Folder, Flag(group="What is planned")] = Field(
        Path(), description="Folder in which the export will be written; its disk is looked at."
    )
    instance_type: Annotated[str | None, AfterValidator(_known), Flag(group="What is planned")] = Field(
        None, description="Instance to export for; default: this machine, or trn1 where it has no NeuronCores."
    )
    bundle: Annotated[ResultFile | None, Flag(metavar="FILE", group="Output")] = Field(
        None, description="Also write what a report of a problem needs, as JSON without tokens and home folders."
    )


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the flags, and have errors of one line."""
    parser.description = (
        f"{DESCRIPTION} Looks only: no device is opened, nothing compiled. The exit status is 0 when it is ready, else"
        " 1. Works without the Neuron SDK, and says so."
    )
    parser.usage = f"{PROG} [options]"
    one_line_errors(parser, PROG)
    add_options(parser, DoctorOptions.options())


def main(argv: Sequence[str]) -> int:
    """Examine, print, and return the exit status.

    Args:
        argv: The arguments after `optimum-cli neuron pixart-doctor`.

    Raises:
        SystemExit: The arguments cannot be read (status 2), or only help was asked for (status 0).
    """
    words = given_words(PROG, add_arguments, argv)
    statuses: list[int] = []
    failed = run_main(PROG, lambda: statuses.append(_examine(DoctorOptions(**words))))
    return failed or statuses[0]


def _examine(options: DoctorOptions) -> int:
    # Here and not above: it imports torch for the plan, which the help and refused flags do not need.
    from ..doctor.bundle import bundle
    from ..doctor.diagnosis import diagnose
    from ..doctor.table import show
    from ..terminal.table import console

    instance = get_instance(options.instance_type) if options.instance_type else None
    diagnosis = diagnose(options.output, instance=instance)
    show(diagnosis, console())
    if options.bundle:
        write_result("--bundle", options.bundle, bundle(diagnosis, options.output))
        print(f"wrote {options.bundle}")
    print(diagnosis.conclusion)
    return 0 if diagnosis.ready else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

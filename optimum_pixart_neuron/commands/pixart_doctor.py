"""`optimum-cli neuron pixart-doctor`: its flags, and the process that looks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from ..deployment.options import InstanceName
from ..hardware import get_instance
from ..options import Flag, Folder, Options
from .command import Command
from .result_file import ResultFile, write_result


class _DoctorOptions(Options):
    """Where the export would be written, and for what."""

    output: Annotated[Folder, Flag(group="What is planned")] = Field(
        Path(), description="Folder in which the export will be written; its disk is looked at."
    )
    instance_type: Annotated[InstanceName | None, Flag(group="What is planned")] = Field(
        None,
        description=(
            "Instance to export for; default: this machine, or without NeuronCores what NEURON_EMULATOR_INSTANCE says,"
            " else trn1."
        ),
    )
    bundle: Annotated[ResultFile | None, Flag(metavar="FILE", group="Output")] = Field(
        None, description="Also write what a report of a problem needs, as JSON without tokens and home folders."
    )


def _examine(given: dict[str, Any]) -> int:
    options = _DoctorOptions(**given)
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


COMMAND = Command(
    prog="optimum-cli neuron pixart-doctor",
    usage="[options]",
    summary="Say whether this machine is ready to export PixArt-Sigma and draw with it, or what to do first.",
    details=(
        "Looks only: no device is opened, nothing compiled. The exit status is 0 when it is ready, else 1. Works"
        " without the Neuron SDK, and says so."
    ),
    options=tuple(_DoctorOptions.options()),
    work=_examine,
)

if __name__ == "__main__":
    sys.exit(COMMAND.main(sys.argv[1:]))

"""`optimum-cli neuron pixart-validate`: its flags, and the process that compares."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from ..checkpoint.options import CheckpointOptions
from ..options import Flag, Folder
from ..validation.options import ToleranceOptions
from .frame import run_main
from .parser import add_options, given, one_line_errors
from .result_file import ResultFile, write_result

PROG = "optimum-cli neuron pixart-validate"
DESCRIPTION = "Compare each component of a compiled PixArt with its original in float32."


class ValidateOptions(ToleranceOptions):
    """The options beside those of the checkpoint."""

    folder: Annotated[Folder, Flag(names=("folder",), group="Validation")] = Field(
        description="Folder of the compiled pipeline."
    )
    json_file: Annotated[ResultFile | None, Flag(names=("--json",), metavar="FILE", group="Validation")] = Field(
        None, description="Write the result there, a record a component."
    )


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the flags, and have errors of one line."""
    parser.description = (
        f"{DESCRIPTION} The exit status is 0 when all keep their limits, 3 when one does not. Runs on NeuronCores, or"
        " on the emulator where the artifacts are the emulator's. Writes nothing into the folder."
    )
    parser.usage = f"{PROG} [options] folder"
    one_line_errors(parser, PROG)
    add_options(parser, ValidateOptions.options())
    add_options(parser, CheckpointOptions.options(), optional={"model": "default: what the folder was exported from"})


def parse(argv: Sequence[str]) -> tuple[ValidateOptions, dict[str, Any]]:
    """The options, and those of the checkpoint as far as they are given.

    Args:
        argv: The arguments after `optimum-cli neuron pixart-validate`.

    Raises:
        InvalidExportOption: A value that its flag cannot have.
        SystemExit: argparse could not read the arguments (status 2), or printed the help (status 0).
    """
    parser = ArgumentParser(prog=PROG)
    add_arguments(parser)
    args = parser.parse_args(argv)
    return ValidateOptions(**given(args, ValidateOptions)), given(args, CheckpointOptions)


def main(argv: Sequence[str]) -> int:
    """Validate one folder and return the exit status; an error of the user's is one line on stderr.

    Args:
        argv: The arguments after `optimum-cli neuron pixart-validate`.

    Raises:
        SystemExit: The arguments cannot be read (status 2), or only help was asked for (status 0).
    """
    return run_main(PROG, lambda: _validate(argv))


def _validate(argv: Sequence[str]) -> None:
    options, checkpoint_given = parse(argv)
    # Here and not above: they import torch and the SDK, which the help and refused flags do not need.
    from pydantic import TypeAdapter

    from ..artifact.checks import check_artifact
    from ..artifact.manifest_records import ValidationRecord
    from ..errors import ValidationFailed
    from ..neuron.sdk import ensure_sdk
    from ..validation.programs import open_compiled
    from ..validation.source import original_of

    components = open_compiled(options.folder)
    manifest = check_artifact(options.folder, ensure_sdk(components[0].compiled.instance_type))
    checkpoint = original_of(options.folder, manifest, checkpoint_given)
    from ..validation.table import log_table
    from ..validation.validate import validate_here

    records = validate_here(options.folder, checkpoint, atol=options.atol, steps=options.steps)
    log_table(records)
    if options.json_file:
        content = TypeAdapter(tuple[ValidationRecord, ...]).dump_json(records, indent=2)
        write_result("--json", options.json_file, content + b"\n")
    missed = [record for record in records if not record.passed]
    if missed:
        names = ", ".join(record.label for record in missed)
        why = "; ".join(record.misses for record in missed)
        raise ValidationFailed(f"{names} of {options.folder} do not compute what {checkpoint.source} does: {why}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

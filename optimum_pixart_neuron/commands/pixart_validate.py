"""`optimum-cli neuron pixart-validate`: its flags, and the process that compares."""

from __future__ import annotations

import sys
from typing import Annotated, Any

from pydantic import Field

from ..checkpoint.options import CheckpointOptions
from ..options import Flag, Folder
from ..validation.options import ToleranceOptions
from .command import Command
from .parser import given
from .result_file import ResultFile, write_result


class _ValidateOptions(ToleranceOptions):
    """The options beside those of the checkpoint."""

    folder: Annotated[Folder, Flag(names=("folder",), group="Validation")] = Field(
        description="Folder of the compiled pipeline."
    )
    json_file: Annotated[ResultFile | None, Flag(names=("--json",), metavar="FILE", group="Validation")] = Field(
        None, description="Write the result there, a record a component."
    )


def _validate(words: dict[str, Any]) -> None:
    options = _ValidateOptions(**given(words, _ValidateOptions))
    from pydantic import TypeAdapter

    from ..artifact.checks import check_artifact
    from ..artifact.manifest_records import ValidationRecord
    from ..errors import ValidationFailed
    from ..neuron.sdk import ensure_sdk
    from ..validation.programs import open_compiled
    from ..validation.source import original_of

    components = open_compiled(options.folder)
    manifest = check_artifact(options.folder, ensure_sdk(components[0].compiled.instance_type))
    checkpoint = original_of(options.folder, manifest, given(words, CheckpointOptions))
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


COMMAND = Command(
    prog="optimum-cli neuron pixart-validate",
    usage="[options] folder",
    summary="Compare each component of a compiled PixArt with its original in float32.",
    details=(
        "The exit status is 0 when all keep their limits, 3 when one does not. Runs on NeuronCores, or on the emulator"
        " where the artifacts are the emulator's. Writes nothing into the folder."
    ),
    options=(*_ValidateOptions.options(), *CheckpointOptions.options()),
    optional={"model": "default: what the folder was exported from"},
    work=_validate,
)

if __name__ == "__main__":
    sys.exit(COMMAND.main(sys.argv[1:]))

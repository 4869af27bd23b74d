"""The process of `optimum-cli neuron pixart-validate`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from .main import run_main
from .result_file import write_result
from .validate_arguments import PROG, parse, source_flags


def main(argv: Sequence[str]) -> int:
    """Validate one folder and return the exit status; an error of the user's is one line on stderr.

    Args:
        argv: The arguments after `optimum-cli neuron pixart-validate`.

    Raises:
        SystemExit: The arguments cannot be read (status 2), or only help was asked for (status 0).
    """
    return run_main(PROG, lambda: _validate(argv))


def _validate(argv: Sequence[str]) -> None:
    args = parse(argv)
    # Here and not above: they import torch and the SDK, which the help and refused flags do not need.
    from pydantic import TypeAdapter

    from ..artifact.checks import check_artifact
    from ..artifact.manifest import ValidationRecord
    from ..errors import ValidationFailed
    from ..neuron.sdk import ensure_sdk
    from ..validation.compiled import open_compiled
    from ..validation.source import original_of

    components = open_compiled(args.folder)
    manifest = check_artifact(args.folder, ensure_sdk(components[0].neuron["instance_type"]))
    given = {flag.dest: getattr(args, flag.dest) for flag in source_flags()}
    checkpoint = original_of(args.folder, manifest, args.model, given)
    from ..validation.validate import validate_here

    records = validate_here(args.folder, checkpoint, atol=args.atol)
    if args.json:
        content = TypeAdapter(tuple[ValidationRecord, ...]).dump_json(records, indent=2)
        write_result("--json", args.json, content + b"\n")
    missed = [record.component for record in records if not record.passed]
    if missed:
        raise ValidationFailed(f"{', '.join(missed)} of {args.folder} do not compute what {checkpoint.source} does")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

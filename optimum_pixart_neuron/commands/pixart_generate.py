"""`optimum-cli neuron pixart-generate`: its flags, and the process that draws a file of prompts."""

from __future__ import annotations

import sys
from typing import Any

from ..errors import PicturesMissing
from ..serving.generate.options import GenerateOptions
from .command import Command


def _generate(given: dict[str, Any]) -> None:
    options = GenerateOptions(**given)
    from ..serving.generate.job import generate

    errors = generate(options)
    if errors:
        raise PicturesMissing(f"{errors} could not be drawn; {options.output}/errors.jsonl says which, and why")


COMMAND = Command(
    prog="optimum-cli neuron pixart-generate",
    usage="EXPORT --prompts FILE OUT [options]",
    summary="Draw a file of prompts into a folder of pictures, on all cores of this machine or of a Ray cluster.",
    details=(
        "The folder has the layout of `datasets`' ImageFolder. The same command goes on where it was ended, whatever"
        " ended it. The exit status is 0 when every picture is there, 3 when some cannot be drawn: OUT/errors.jsonl"
        " says which, and why."
    ),
    options=tuple(GenerateOptions.options()),
    work=_generate,
)

if __name__ == "__main__":
    sys.exit(COMMAND.main(sys.argv[1:]))

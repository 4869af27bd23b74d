"""`optimum-cli export neuron` of PixArt-Sigma: its flags, and the process that exports."""

from __future__ import annotations

import os
import sys
from argparse import SUPPRESS, ArgumentParser
from collections.abc import Sequence

from ..checkpoint.layout import ALPHA, SIGMA
from ..export.options import ExportOptions
from ..export.other_models import OF_OTHER_MODELS
from ..hardware import get_instance
from ..neuron.sdk import ensure_sdk
from .frame import run_main
from .parser import add_option, add_options, new_to, one_line_errors

PROG = "optimum-cli export neuron"
DESCRIPTION = (
    "Compile a PixArt-Sigma or PixArt-Alpha pipeline for AWS Neuron, each component sharded over the cores; "
    f"{SIGMA.neuron_class} loads the first, {ALPHA.neuron_class} the second. Without the Neuron SDK the same command "
    "compiles for the CPU emulator. Other models go to optimum-neuron's own exporter."
)


def add_arguments(parser: ArgumentParser, model: type[ExportOptions] = ExportOptions) -> None:
    """Give `parser` every flag of the command, an option of `model` each, and errors of one line."""
    parser.description = DESCRIPTION
    parser.usage = f"{PROG} -m MODEL [options] output"
    one_line_errors(parser, PROG)
    add_options(parser, model.options())
    for name, option in OF_OTHER_MODELS.items():  # read, so that the refusal can say why
        takes = {"action": "store_true"} if option.nargs == 0 else {"nargs": option.nargs}
        parser.add_argument(option.flag, dest=name, default=SUPPRESS, help=SUPPRESS, **takes)


def add_group(parser: ArgumentParser, model: type[ExportOptions] = ExportOptions) -> None:
    """Give the host's parser of this command, which has the host's flags, a group with those that only PixArt has."""
    new = new_to(parser, model.options())
    shared = [option for option in model.options() if option.name not in {each.name for each in new}]
    defaults = ", ".join(f"{option.label} {option.default}" for option in shared if option.default is not None)
    group = parser.add_argument_group(
        "PixArt",
        f"Compiled by optimum-pixart-neuron. {SIGMA.neuron_class} or {ALPHA.neuron_class} loads it."
        f" What may be left out: {defaults}; size and tokens are the checkpoint's, and the"
        " instance and its cores are this machine's.",
    )
    for option in new:
        add_option(group, option)


def parse(argv: Sequence[str], model: type[ExportOptions] = ExportOptions) -> ExportOptions:
    """The options that the arguments after `optimum-cli export neuron` ask for.

    Raises:
        InvalidExportOption: A flag is given that has no meaning for PixArt, or with a value it cannot have.
        SystemExit: argparse could not read the arguments (status 2), or printed the help (status 0).
    """
    parser = ArgumentParser(prog=PROG)
    add_arguments(parser, model)
    return model(**vars(parser.parse_args(argv)))


def main(argv: Sequence[str]) -> int:
    """Export one pipeline and return the exit status; an error of the user's is one line. SystemExit as `parse`."""
    return run_main(PROG, lambda: _export(argv))


def _export(argv: Sequence[str]) -> None:
    options = parse(argv)
    _prepare_sdk(options.instance_type)
    from ..export.exporter import export

    export(options)


def _prepare_sdk(instance_type: str | None) -> None:
    """Have the SDK, or the emulator in its place, ready for the chosen instance."""
    sdk = ensure_sdk(instance_type)
    instance = instance_type or (sdk.instance if sdk.emulated else None)
    if instance is not None:
        # The SDK reads this when it is imported. What is inherited may be the trn1 that optimum-neuron puts there in
        # the parent process on every machine without a device.
        os.environ["NEURON_PLATFORM_TARGET_OVERRIDE"] = get_instance(instance).platform_target


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

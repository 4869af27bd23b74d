"""Parser and checks of the command's flags: one definition for `optimum-cli export neuron` and its child process."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence

from ..errors import InvalidExportOption
from ..hardware import get_instance
from . import flags
from .main import one_line_errors

PROG = "optimum-cli export neuron"
DESCRIPTION = (
    "Compile a PixArt-Sigma pipeline for AWS Neuron, each component sharded over the cores. Without the Neuron SDK "
    "the same command compiles for the CPU emulator. Other models go to optimum-neuron's own exporter."
)


def add_arguments(parser: ArgumentParser) -> None:
    """Give `parser` every flag of the command, and errors of one line.

    Args:
        parser: The parser of the sub-command, or a plain one in the child process.
    """
    parser.description = DESCRIPTION
    parser.usage = f"{PROG} -m MODEL [options] output"
    one_line_errors(parser, PROG)
    groups = {
        "Required arguments": flags.REQUIRED,
        "Checkpoint": flags.SOURCE,
        "Cores": flags.HARDWARE,
        "Compilation": flags.COMPILER,
        "Input shapes": flags.SHAPES,
        "Hugging Face Hub": flags.HUB,
        "Flags of other models": flags.REFUSED,
    }
    for title, members in groups.items():
        group = parser.add_argument_group(title)
        for flag in members:
            group.add_argument(*flag.names, help=flag.help, **flag.kwargs)
        if members is flags.HARDWARE:
            group.add_argument(
                "--instance_type",
                type=_instance_type,
                metavar="INSTANCE",
                help=(
                    "Instance to compile for: trn1, trn1n, inf2, trn2, or a full name such as trn2.48xlarge; "
                    "default: this machine, or on the emulator what NEURON_EMULATOR_INSTANCE says."
                ),
            )
    levels = parser.add_argument_group("Optimisation level").add_mutually_exclusive_group()
    for flag in flags.OPTLEVELS:
        levels.add_argument(*flag.names, help=flag.help, **flag.kwargs)


def parse(argv: Sequence[str]) -> Namespace:
    """Parse and check the flags of a PixArt-Sigma export.

    Args:
        argv: The arguments after `optimum-cli export neuron`.

    Raises:
        InvalidExportOption: A flag is given that has no meaning for PixArt-Sigma, or with a value it cannot have.
        SystemExit: argparse could not read the arguments (status 2), or printed the help (status 0).
    """
    parser = ArgumentParser(prog=PROG)
    add_arguments(parser)
    args = parser.parse_args(argv)
    check(args)
    return args


def check(args: Namespace) -> None:
    """Refuse by name what makes no sense for PixArt-Sigma.

    Raises:
        InvalidExportOption: See `parse`.
    """
    for flag in flags.REFUSED:
        if getattr(args, flag.dest) not in (None, False):
            raise InvalidExportOption(f"{flag.names[0]} has no meaning for PixArt-Sigma: {flag.refused}.")
    if args.task not in ("auto", "text-to-image"):
        raise InvalidExportOption(f"--task {args.task}: PixArt-Sigma is exported for text-to-image only.")
    for name in ("private", "allow_emulated"):
        if getattr(args, name) and not args.push_to_hub:
            raise InvalidExportOption(f"--{name} says how to push; add --push_to_hub REPO.")
    for name in ("tensor_parallel_size", "batch_size", "num_images_per_prompt", "height", "width", "sequence_length"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise InvalidExportOption(f"--{name} {value}: must be at least 1.")
    if args.atol is not None and not args.atol >= 0:
        raise InvalidExportOption(f"--atol {args.atol:g}: must be at least 0.")


def check_choices(options: object) -> None:
    """Refuse values outside a flag's choices where no parser did: options that were given in Python.

    Args:
        options: has an attribute for each flag with choices; None stands for a choice left to the export.

    Raises:
        InvalidExportOption: Names flag, value and choices.
    """
    for flag in (*flags.HARDWARE, *flags.COMPILER):
        choices, value = flag.kwargs.get("choices"), getattr(options, flag.dest, None)
        if choices and value is not None and value not in choices:
            raise InvalidExportOption(f"{flag.names[0]} {value}: choose {' or '.join(choices)}.")
    if options.optlevel not in (None, 1, 2, 3):
        raise InvalidExportOption(f"-O {options.optlevel}: choose 1, 2 or 3.")


def _instance_type(name: str) -> str:
    """Accept the name of an instance or family; argparse turns the error into its one line."""
    try:
        get_instance(name)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None
    return name

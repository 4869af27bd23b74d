"""The flags of `optimum-cli neuron pixart-validate`; imports nothing heavy."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from ..errors import InvalidExportOption
from . import flags
from .main import one_line_errors
from .result_file import result_file

PROG = "optimum-cli neuron pixart-validate"
DESCRIPTION = "Compare each component of a compiled PixArt-Sigma with its original in float32."
_NOT_OURS = ("task", "trust_remote_code")


def source_flags() -> list[flags.Flag]:
    """The export's flags that say where a checkpoint is, besides `--model`."""
    return [flag for flag in flags.SOURCE if flag.dest not in _NOT_OURS]


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the flags, and have errors of one line."""
    parser.description = (
        f"{DESCRIPTION} The exit status is 0 when all keep their limits, 3 when one does not. Runs on NeuronCores, or"
        " on the emulator where the artifacts are the emulator's. Writes nothing into the folder."
    )
    parser.usage = f"{PROG} [options] folder"
    one_line_errors(parser, PROG)
    parser.add_argument("folder", type=Path, help="Folder of the compiled pipeline.")
    parser.add_argument("--atol", type=float, help="Largest absolute difference allowed, in place of every limit.")
    parser.add_argument(
        "--json", type=result_file, metavar="FILE", help="Write the result there, a record a component."
    )
    group = parser.add_argument_group("Checkpoint", "Default: the one that the folder was exported from.")
    group.add_argument("-m", "--model", help="Id on the Hugging Face Hub, or folder, of the original.")
    for flag in source_flags():
        group.add_argument(*flag.names, help=flag.help, **flag.kwargs)


def parse(argv: Sequence[str]) -> Namespace:
    """Parse and check the flags.

    Args:
        argv: The arguments after `optimum-cli neuron pixart-validate`.

    Raises:
        InvalidExportOption: A value that its flag cannot have.
        SystemExit: argparse could not read the arguments (status 2), or printed the help (status 0).
    """
    parser = ArgumentParser(prog=PROG)
    add_arguments(parser)
    args = parser.parse_args(argv)
    if args.atol is not None and not args.atol >= 0:
        raise InvalidExportOption(f"--atol {args.atol:g}: must be at least 0.")
    return args

"""The flags of `optimum-cli neuron pixart-plan`; imports nothing heavy."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError

from ..hardware import get_instance
from ..parallel.modes import MODES
from . import flags
from .main import one_line_errors
from .result_file import result_file

PROG = "optimum-cli neuron pixart-plan"
DESCRIPTION = "Memory, speed and cost of PixArt-Sigma on each instance, mode and number of cores; compiles nothing."

ALL_INSTANCES = "all"
STDOUT = "-"
SOURCE = tuple(flag for flag in flags.SOURCE if flag.dest not in ("task", "trust_remote_code"))
"""Flags of the export that say where a checkpoint is."""
_SIZES = (
    "exchange",
    "no_guidance",
    "batch_size",
    "num_images_per_prompt",
    "height",
    "width",
    "sequence_length",
    "vae_tile_size",
    "torch_dtype",
)


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the flags."""
    parser.description = f"{DESCRIPTION} Its times are predictions."
    parser.usage = f"{PROG} [options]"
    # argparse prints the usage in front of each error; the parser may come from the host, so its class is not ours.
    one_line_errors(parser, PROG)
    what = parser.add_argument_group("What is planned")
    what.add_argument("-m", "--model", help="Id on the Hugging Face Hub, or folder, of a checkpoint; default: XL/2.")
    by_name = {flag.dest: flag for flag in (*flags.HARDWARE, *flags.SHAPES, *flags.COMPILER)}
    for flag in (*SOURCE, *(by_name[name] for name in _SIZES)):
        what.add_argument(*flag.names, help=flag.help, **flag.kwargs)
    what.add_argument(
        "--num_inference_steps", type=int, default=20, help="Denoising steps of an image (default: %(default)s)."
    )

    where = parser.add_argument_group("Where it runs")
    where.add_argument(
        "--instance_type",
        nargs="+",
        type=_instance_type,
        default=[ALL_INSTANCES],
        metavar="INSTANCE",
        help="Instances or families, such as inf2.48xlarge trn2, or all (default).",
    )
    where.add_argument(
        "--parallel_mode", choices=tuple(MODES), help="Only this mode; default: every one that is valid."
    )
    where.add_argument("--tensor_parallel_size", type=int, metavar="CORES", help="Only this number of ranks.")

    how = parser.add_argument_group("How it is valued")
    how.add_argument(
        "--efficiency",
        type=_efficiency,
        metavar="FRACTION",
        help="Of the hardware's peaks that transformer and VAE reach; default: what fits AWS's published numbers.",
    )
    how.add_argument(
        "--price_per_hour",
        nargs="+",
        default=[],
        metavar="PRICE",
        help="US dollars of the one instance, or of several as INSTANCE=PRICE; default: on-demand, where known.",
    )

    output = parser.add_argument_group("Output")
    output.add_argument(
        "--json",
        nargs="?",
        const=STDOUT,
        type=lambda text: text if text == STDOUT else result_file(text),
        metavar="FILE",
        help="Write everything as JSON to a file, or without one to standard output in place of the table.",
    )
    output.add_argument(
        "--plot", type=result_file, metavar="FILE", help="Draw latency and cost against cores (.png, .svg, .pdf)."
    )


def _instance_type(name: str) -> str:
    """Accept an instance, a family or `all`; argparse turns the error into its one line."""
    if name != ALL_INSTANCES:
        try:
            get_instance(name)
        except ValueError as error:
            raise ArgumentTypeError(str(error)) from None
    return name


def _efficiency(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise ArgumentTypeError(f"{text} is not above 0 and at most 1")
    return value

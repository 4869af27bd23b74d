"""The flags of `optimum-cli neuron pixart-benchmark`; imports nothing heavy."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Sequence

from .main import one_line_errors
from .result_file import result_file

PROG = "optimum-cli neuron pixart-benchmark"
DESCRIPTION = "Measure a compiled PixArt-Sigma: latency, throughput and host time."
PROMPT = "a photo of an astronaut riding a horse on mars, highly detailed"


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the flags; those of the pipeline's call are named as diffusers names them."""
    parser.description = DESCRIPTION
    parser.usage = f"{PROG} OUT [options]"
    one_line_errors(parser, PROG)
    parser.add_argument("output", metavar="OUT", help="Folder, or id on the Hugging Face Hub, of a compiled pipeline.")
    parser.add_argument(
        "--images",
        type=_count(1),
        default=10,
        help="Images to measure, rounded up to whole requests (default: %(default)s).",
    )
    parser.add_argument(
        "--warmup", type=_count(0), default=2, help="Requests before them, not measured (default: %(default)s)."
    )
    parser.add_argument(
        "--num_inference_steps", type=_count(1), default=20, help="Denoising steps (default: %(default)s)."
    )
    parser.add_argument(
        "--guidance_scale",
        type=float,
        help="Default: 4.5 as in diffusers, 1 for what was exported with --no_guidance.",
    )
    parser.add_argument("--prompt", default=PROMPT, help='Given for every image (default: "%(default)s").')
    parser.add_argument("--negative_prompt", default="", help="Likewise; default: empty.")
    parser.add_argument(
        "--batch_size",
        type=_count(1),
        help="Prompts of a request; default: as compiled, for every copy of the transformer.",
    )
    parser.add_argument("--num_images_per_prompt", type=_count(1), help="Images per prompt; default: as compiled.")
    parser.add_argument("--seed", type=int, default=0, help="Of the first request's noise (default: %(default)s).")
    parser.add_argument("--stock", action="store_true", help="Load with optimum-neuron's own class.")
    parser.add_argument(
        "--price_per_hour",
        type=_price,
        help="US dollars for the instance, instead of the known price; not on the emulator.",
    )
    parser.add_argument("--json", type=result_file, metavar="FILE", help="Write every sample and figure here.")


def parse(argv: Sequence[str]) -> Namespace:
    """Parse the flags.

    Raises:
        SystemExit: They cannot be read (status 2), or only help was asked for (status 0).
    """
    parser = ArgumentParser(prog=PROG)
    add_arguments(parser)
    return parser.parse_args(argv)


def _count(least: int) -> Callable[[str], int]:
    def count(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise ArgumentTypeError(f"{text!r} is no whole number") from None
        if number < least:
            raise ArgumentTypeError(f"{number} is below {least}")
        return number

    return count


def _price(text: str) -> float:
    try:
        price = float(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no number") from None
    if not price > 0:
        raise ArgumentTypeError(f"{text} is not above 0")
    return price

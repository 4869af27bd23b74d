"""`optimum-cli neuron pixart-plan`: its flags, and the process that plans."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field

from ..checkpoint.options import CheckpointOptions
from ..errors import InvalidExportOption
from ..hardware import INSTANCES, Instance, get_instance
from ..options import Count, Flag, any_of
from ..planner.prices import Price, own_price
from ..planner.request import Request
from .frame import run_main
from .parser import add_options, given, one_line_errors
from .result_file import ResultFile, write_result

if TYPE_CHECKING:
    from ..checkpoint.checkpoint import PixArtCheckpoint
    from ..planner.released import Released

PROG = "optimum-cli neuron pixart-plan"
DESCRIPTION = "Memory, speed and cost of PixArt on each instance, mode and number of cores; compiles nothing."

ALL_INSTANCES = "all"
STDOUT = Path("-")
PLANNED = (
    *("exchange", "no_guidance", "batch_size", "num_images_per_prompt", "height", "width", "sequence_length"),
    *("guidance", "sizes", "vae_tile_size", "torch_dtype", "num_inference_steps", "parallel_mode"),
    "tensor_parallel_size",
)
"""Options of an export that a plan depends on."""
_PLOT_FORMATS = (".png", ".svg", ".pdf")
_NARROWER = {
    "model": "default: XL/2",
    "parallel_mode": "a plan has every valid mode unless one is named",
    "tensor_parallel_size": "a plan has every valid number unless one is named",
}


def _known(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if name != ALL_INSTANCES:
            get_instance(name)
    return names


def _drawable(path: Path) -> Path:
    """Refuse before any work what would fail after it."""
    if path.suffix not in _PLOT_FORMATS:
        raise ValueError(f"the name must end in {any_of(_PLOT_FORMATS)}")
    if find_spec("matplotlib") is None:
        raise ValueError("needs matplotlib: pip install 'optimum-pixart-neuron[benchmark]'")
    return path


class PlanOptions(Request):
    """The pictures to make, where, and how that is valued and shown."""

    instance_types: Annotated[
        tuple[str, ...],
        AfterValidator(_known),
        Flag(names=("--instance_type",), nargs="+", metavar="INSTANCE", group="Where it runs"),
    ] = Field(
        (ALL_INSTANCES,), description="Instances or families, such as inf2.48xlarge trn2; default: all, a row each."
    )
    efficiency: Annotated[float | None, Flag(metavar="FRACTION", group="How it is valued")] = Field(
        None,
        gt=0,
        le=1,
        description=(
            "Of the hardware's peaks that transformer and VAE reach; default: what fits AWS's published numbers."
        ),
    )
    replicas: Annotated[Count | None, Flag(metavar="INSTANCES", group="Where it runs")] = Field(
        None, description="Also predict so many instances of each kind side by side: images/s and cost of all of them."
    )
    price_per_hour: Annotated[tuple[str, ...], Flag(nargs="+", metavar="PRICE", group="How it is valued")] = Field(
        (),
        description=(
            "US dollars of the one instance, or of several as INSTANCE=PRICE; default: on-demand, where known."
        ),
    )
    json_file: Annotated[
        ResultFile | None, Flag(names=("--json",), nargs="?", const=str(STDOUT), metavar="FILE", group="Output")
    ] = Field(
        None,
        description="Write everything as JSON to a file, or without one to standard output in place of the table.",
    )
    wide: Annotated[bool, Flag(group="Output")] = Field(
        False, description="Show every column, and every mode and number of cores of every instance."
    )
    plot: Annotated[ResultFile | None, AfterValidator(_drawable), Flag(metavar="FILE", group="Output")] = Field(
        None, description="Draw latency and cost against cores (.png, .svg, .pdf)."
    )


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the flags."""
    parser.description = f"{DESCRIPTION} Its times are predictions."
    parser.usage = f"{PROG} [options]"
    one_line_errors(parser, PROG)
    own = (name for name in PlanOptions.model_fields if name not in Request.model_fields)
    for options in (CheckpointOptions.options(), PlanOptions.options(*PLANNED), PlanOptions.options(*own)):
        add_options(parser, options, optional=_NARROWER)


def main(argv: Sequence[str]) -> int:
    """Plan, print, and return the exit status; an error of the user's is one line on stderr.

    Args:
        argv: The arguments after `optimum-cli neuron pixart-plan`.

    Raises:
        SystemExit: The arguments cannot be read (status 2), or only help was asked for (status 0).
    """
    parser = ArgumentParser(prog=PROG)
    add_arguments(parser)
    args = parser.parse_args(argv)
    return run_main(PROG, lambda: _plan(args))


def _plan(args: Namespace) -> None:
    options = PlanOptions(**given(args, PlanOptions))
    request = Request(**{name: getattr(options, name) for name in Request.model_fields})
    instances = _instances(options.instance_types)
    prices = _prices(options.price_per_hour, instances)
    checkpoint = _checkpoint(args, request)
    request = _settled(request, checkpoint, given(args, PlanOptions), given(args, CheckpointOptions))
    # Here and not above: it imports torch, which the help and refused flags do not need.
    from ..planner.prediction import plan

    rows = plan(request, checkpoint=checkpoint, instances=instances, efficiency=options.efficiency, prices=prices)
    if options.json_file:
        from ..planner.report import report

        text = json.dumps(report(rows, checkpoint, request, options.replicas), indent=2) + "\n"
        if options.json_file == STDOUT:
            sys.stdout.write(text)
        else:
            write_result("--json", options.json_file, text.encode())
    if options.json_file != STDOUT:
        from ..planner.fleet import fleets
        from ..planner.table import show
        from ..terminal.table import console, paragraph

        summary = ALL_INSTANCES in options.instance_types and not options.wide
        show(rows, checkpoint, request, console(), wide=options.wide, summary=summary)
        for fleet in fleets(rows, options.replicas) if options.replicas else ():
            paragraph(console(), fleet.describe())
    if options.plot:
        from ..planner.plot import draw

        drawn = draw(rows, checkpoint, options.plot)
        if options.json_file != STDOUT:
            print(f"wrote {options.plot}: {drawn} instance(s)")


def _settled(
    request: Request, checkpoint: PixArtCheckpoint | Released, named: Mapping[str, Any], source: Mapping[str, Any]
) -> Request:
    """With what a checkpoint decides where nobody named it: tokens, and steps and guidance of a distilled one.

    Args:
        named: what the user gave of the plan's options.
        source: what the user gave of the checkpoint's.
    """
    from ..checkpoint.few_steps import CallDefaults, CallOptions
    from ..planner.released import Released

    changed: dict[str, Any] = {"sequence_length": request.sequence_length or checkpoint.kind.tokens}
    if not isinstance(checkpoint, Released):
        call = CallDefaults.of(CallOptions(), checkpoint, source.get("lora_model_ids", ()))
        if call.steps is not None and "num_inference_steps" not in named:
            changed["num_inference_steps"] = call.steps
        if call.unguided and not {"guidance", "no_guidance"} & named.keys():
            changed["no_guidance"] = True
    return request.changed(**changed)


def _checkpoint(args: Namespace, request: Request) -> PixArtCheckpoint | Released:
    where = given(args, CheckpointOptions)
    if "model" not in where:
        from ..planner.released import Released

        return Released.nearest(*request.first_size)
    from ..checkpoint.open import open_checkpoint

    return open_checkpoint(CheckpointOptions(**where))


def _instances(names: tuple[str, ...]) -> list[Instance]:
    if ALL_INSTANCES in names:
        return list(INSTANCES.values())
    return list(dict.fromkeys(get_instance(name) for name in names))


def _prices(texts: tuple[str, ...], instances: list[Instance]) -> dict[str, Price]:
    """The user's prices by product name.

    Raises:
        InvalidExportOption: no positive number, an instance that is not planned, or none named among several.
    """
    prices = {}
    for text in texts:
        name, separator, number = text.rpartition("=")
        if separator:
            known = {instance.name for instance in instances}
            try:
                name = get_instance(name).name
            except ValueError as error:
                raise InvalidExportOption(f"--price_per_hour {text}: {error}") from None
            if name not in known:
                raise InvalidExportOption(f"--price_per_hour {text}: {name} is not among the --instance_type")
        elif len(instances) == 1:
            name = instances[0].name
        else:
            raise InvalidExportOption(
                f"--price_per_hour {text} is for one --instance_type; for several write INSTANCE={text}"
            )
        try:
            price = float(number)
        except ValueError:
            price = 0.0
        if not (price > 0 and isfinite(price)):
            raise InvalidExportOption(f"--price_per_hour {text}: {number or 'nothing'} is not a positive number")
        prices[name] = own_price(price)
    return prices


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

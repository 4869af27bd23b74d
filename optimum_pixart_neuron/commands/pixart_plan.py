"""`optimum-cli neuron pixart-plan`: its flags, and the process that plans."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
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
from .command import Command
from .parser import given
from .result_file import ResultFile, write_result

if TYPE_CHECKING:
    from ..checkpoint.checkpoint import PixArtCheckpoint
    from ..planner.released import Released

ALL_INSTANCES = "all"
STDOUT = Path("-")
PLANNED = (
    *("exchange", "no_guidance", "batch_size", "num_images_per_prompt", "height", "width", "sequence_length"),
    *("guidance", "sizes", "vae_tile_size", "torch_dtype", "num_inference_steps", "parallel_mode"),
    "tensor_parallel_size",
)
"""Options of an export that a plan depends on."""
_PLOT_FORMATS = (".png", ".svg", ".pdf")


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


class _PlanOptions(Request):
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


def _plan(words: dict[str, Any]) -> None:
    options = _PlanOptions(**given(words, _PlanOptions))
    instances = _instances(options.instance_types)
    prices = _prices(options.price_per_hour, instances)
    checkpoint, request = _checkpoint(options, words)
    from ..planner import prediction
    from ..program.memory import within_host_memory

    with within_host_memory():
        rows = prediction.plan(
            request, checkpoint=checkpoint, instances=instances, efficiency=options.efficiency, prices=prices
        )
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


def _checkpoint(options: _PlanOptions, words: Mapping[str, Any]) -> tuple[PixArtCheckpoint | Released, Request]:
    """What is planned, and the request with what that decides where nobody named it: tokens, steps and guidance."""
    request = Request(**{name: getattr(options, name) for name in Request.model_fields})
    if "model" not in words:
        from ..planner.released import Released

        released = Released.nearest(*request.first_size)
        return released, request.completed(tokens=released.kind.tokens)
    from ..checkpoint.few_steps import CallDefaults, CallOptions
    from ..checkpoint.open import open_checkpoint

    source = CheckpointOptions(**given(words, CheckpointOptions))
    checkpoint = open_checkpoint(source, weights=False)
    call = CallDefaults.of(CallOptions(), checkpoint, source.lora_model_ids)
    if call.steps is not None and "num_inference_steps" not in words:
        request = request.changed(num_inference_steps=call.steps)
    return checkpoint, request.completed(tokens=checkpoint.kind.tokens, unguided=call.unguided)


def _instances(names: tuple[str, ...]) -> list[Instance]:
    if ALL_INSTANCES in names:
        return list(INSTANCES.values())
    return list(dict.fromkeys(get_instance(name) for name in names))


def _prices(texts: tuple[str, ...], instances: list[Instance]) -> dict[str, Price]:
    """The user's prices by product name: positive numbers, of instances that are planned, and named among several."""
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


COMMAND = Command(
    prog="optimum-cli neuron pixart-plan",
    usage="[options]",
    summary="Memory, speed and cost of PixArt on each instance, mode and number of cores; compiles nothing.",
    details="Its times are predictions.",
    options=(
        *CheckpointOptions.options(),
        *_PlanOptions.options(*PLANNED),
        *_PlanOptions.options(*(name for name in _PlanOptions.model_fields if name not in Request.model_fields)),
    ),
    optional={
        "model": "default: XL/2",
        "parallel_mode": "a plan has every valid mode unless one is named",
        "tensor_parallel_size": "a plan has every valid number unless one is named",
    },
    work=_plan,
)

if __name__ == "__main__":
    sys.exit(COMMAND.main(sys.argv[1:]))

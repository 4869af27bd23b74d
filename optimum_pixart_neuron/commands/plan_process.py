"""The process of `optimum-cli neuron pixart-plan`."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import fields
from importlib.util import find_spec
from math import isfinite
from pathlib import Path

from ..errors import InvalidExportOption
from ..hardware import INSTANCES, Instance, get_instance
from ..planner.geometry import XL_2, Geometry
from ..planner.predict import plan
from ..planner.prices import Price, own_price
from ..planner.request import Request
from .main import run_main
from .plan_arguments import ALL_INSTANCES, PROG, SOURCE, STDOUT, add_arguments
from .result_file import write_result

_PLOT_FORMATS = (".png", ".svg", ".pdf")


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
    if args.plot:
        _check_plot(args.plot)
    request = Request(**{field.name: getattr(args, field.name) for field in fields(Request)})
    instances = _instances(args.instance_type)
    prices = _prices(args.price_per_hour, instances)
    geometry = _geometry(args)
    rows = plan(request, geometry=geometry, instances=instances, efficiency=args.efficiency, prices=prices)
    if args.json:
        from ..planner.report import report

        text = json.dumps(report(rows, geometry, request), indent=2) + "\n"
        if args.json == STDOUT:
            sys.stdout.write(text)
        else:
            write_result("--json", args.json, text.encode())
    if args.json != STDOUT:
        from rich.console import Console

        from ..planner.table import WIDTH, show

        show(rows, geometry, request, Console(width=None if sys.stdout.isatty() else WIDTH))
    if args.plot:
        from ..planner.plot import draw

        draw(rows, geometry, request, args.plot)


def _check_plot(path: Path) -> None:
    """Refuse before any work what would fail after it.

    Raises:
        InvalidExportOption: matplotlib is missing, or the file's name says no known format.
    """
    if path.suffix not in _PLOT_FORMATS:
        raise InvalidExportOption(f"--plot {path}: the name must end in {', '.join(_PLOT_FORMATS)}")
    if find_spec("matplotlib") is None:
        raise InvalidExportOption("--plot needs matplotlib: pip install 'optimum-pixart-neuron[benchmark]'")


def _geometry(args: Namespace) -> Geometry:
    if args.model is None:
        return XL_2
    from ..checkpoint.open import open_checkpoint
    from ..export.options import ExportOptions

    where = {flag.dest: getattr(args, flag.dest) for flag in SOURCE}
    return Geometry.of(open_checkpoint(ExportOptions(model=args.model, output=Path(), **where)))


def _instances(names: list[str]) -> list[Instance]:
    if ALL_INSTANCES in names:
        return list(INSTANCES.values())
    return list(dict.fromkeys(get_instance(name) for name in names))


def _prices(texts: list[str], instances: list[Instance]) -> dict[str, Price]:
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

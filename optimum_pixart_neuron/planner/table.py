"""A plan for the terminal: a table an instance, what it rests on, and a line of advice."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from ..hardware import GIB
from .geometry import Geometry
from .predict import PlanRow
from .published import SOURCE, fitted_efficiency
from .request import Request

# Columns of a terminal: what the tables need, used where the output is no terminal.
WIDTH = 118
_BOUNDS = {"matmul": "matmul", "softmax": "softmax", "hbm": "HBM", "link": "link"}
# Of the expected latency, from where on the VAE decoder is worth a word.
_MUCH_DECODING = 0.2


def show(rows: list[PlanRow], geometry: Geometry, request: Request, console: Console) -> None:
    """Print the tables and what a reader needs to judge them."""
    console.print(_headline(geometry, request, rows[0]), highlight=False)
    for instance, group in groupby(rows, key=lambda row: row.deployment.instance):
        console.print(_table(instance.name, list(group)))
    for line in _legend(rows):
        console.print(line, style="dim", highlight=False)
    console.print(f"\n[bold]Advice:[/bold] {advice(rows)}", highlight=False)


def _headline(geometry: Geometry, request: Request, row: PlanRow) -> str:
    height, width = request.size(geometry)
    guidance = "no guidance" if request.no_guidance else "guidance"
    return (
        f"[bold]{geometry.name}[/bold]: {width} x {height} px, {row.steps} steps, {guidance},"
        f" {request.sequence_length} tokens, {request.torch_dtype}, batch of {request.images} image(s)."
        " [bold]Times, rates and costs are predictions.[/bold]"
    )


# Title of a column and what it says of a row. Sizes are GiB of one core.
_COLUMNS: tuple[tuple[str, Callable[[PlanRow], str]], ...] = (
    ("mode", lambda row: f"{row.deployment.mode or 'one core'}{' *' if row.is_default else ''}"),
    ("ranks", lambda row: str(row.deployment.ranks)),
    ("T5\nGiB", lambda row: _gib(row.component("text_encoder").footprint.weights)),
    ("DiT\nGiB", lambda row: _gib(row.component("transformer").footprint.weights)),
    ("VAE\nGiB", lambda row: _gib(row.component("vae_decoder").footprint.weights)),
    ("act.\nGiB", lambda row: _gib(max(part.footprint.activations for part in row.components))),
    ("needed\nof HBM", lambda row: f"{_gib(row.needed_bytes)} {'fits' if row.fits else 'too big'}"),
    ("TFLOP\n/image", lambda row: f"{row.flops_per_image / 1e12:,.1f}"),
    ("MB sent\n/step", lambda row: f"{row.bytes_sent_per_step / 1e6:,.1f}"),
    ("bound\ns", lambda row: _seconds(row.lower_bound_s)),
    ("by", lambda row: _BOUNDS[row.bound_by]),
    ("expected\ns", lambda row: _seconds(row.expected_s)),
    ("images\nat once", lambda row: str(row.images)),
    ("images/s\ninstance", lambda row: f"{row.images_per_second:.3f}"),
    ("$/1000\nimages", lambda row: "-" if row.cost_per_1000 is None else f"{row.cost_per_1000:,.2f}"),
)
_TEXT_COLUMNS = ("mode", "by", "needed\nof HBM")


def _table(name: str, rows: list[PlanRow]) -> Table:
    instance, price = rows[0].deployment.instance, rows[0].price
    cost = f"${price.per_hour:,.2f}/h" if price else "no known price"
    table = Table(
        title=(
            f"{name}: {instance.logical_cores()} logical cores of {rows[0].hbm_bytes / GIB:.0f} GiB HBM,"
            f" {instance.chips} chip(s), {cost}"
        ),
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        padding=0,
        collapse_padding=True,
    )
    for title, _ in _COLUMNS:
        table.add_column(title, justify="left" if title in _TEXT_COLUMNS else "right", no_wrap=True)
    for row in rows:
        cells = [content(row) for _, content in _COLUMNS]
        table.add_row(*cells, style=None if row.fits else "red", end_section=_ends_mode(row, rows))
    return table


def _ends_mode(row: PlanRow, rows: list[PlanRow]) -> bool:
    return row is [other for other in rows if other.deployment.mode == row.deployment.mode][-1]


def _memory(row: PlanRow) -> str:
    verdict = "fits" if row.fits else "does not fit"
    return f"{_gib(row.needed_bytes)}/{row.hbm_bytes / GIB:.0f} {verdict}"


def _gib(size: float) -> str:
    return f"{size / GIB:.2f}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.3f}" if seconds < 1 else f"{seconds:,.2f}" if seconds < 100 else f"{seconds:,.0f}"


def _legend(rows: list[PlanRow]) -> list[str]:
    efficiency = rows[0].efficiency
    origin = f"fitted on {SOURCE}" if efficiency == fitted_efficiency() else "as given"
    lines = [
        "* chosen by the export. One core: the guidance pair goes to two. Data: each core has images of its own.",
        "Sizes are of one core: the weights of each program and the largest activations. Bound: no time is less.",
        f"Expected: transformer and VAE at {efficiency:.1%} of the peaks, {origin};",
        "    T5 at its bound, collectives not hidden behind computing.",
        "Images/s: as many pipelines side by side as the instance has cores for, all busy, none slowing another.",
    ]
    prices = {(row.price.source, row.price.date) for row in rows if row.price}
    lines += [f"Prices: {source}{f', {date}' if date else ''}." for source, date in sorted(prices, key=str)]
    return lines


def advice(rows: list[PlanRow]) -> str:
    """What to choose, in one line."""
    fitting = [row for row in rows if row.fits]
    if not fitting:
        smallest = min(rows, key=lambda row: row.needed_bytes / row.hbm_bytes)
        return (
            f"nothing fits; nearest is {_named(smallest)} with {_memory(smallest)}. Try a smaller --height, --width,"
            " --batch_size or --vae_tile_size."
        )
    fastest = min(fitting, key=lambda row: row.expected_s)
    text = f"lowest latency {_named(fastest)}, {_seconds(fastest.expected_s)} s"
    decoding = fastest.component("vae_decoder").expected_s(fastest.efficiency) / fastest.expected_s
    if decoding > _MUCH_DECODING:
        text += f" ({decoding:.0%} of it the VAE decoder: a smaller --vae_tile_size spreads it over the cores)"
    priced = [row for row in fitting if row.cost_per_1000 is not None]
    if priced:
        cheapest = min(priced, key=lambda row: row.cost_per_1000)
        text += f"; lowest cost {_named(cheapest)}, ${cheapest.cost_per_1000:,.2f} for 1000 images"
    return f"{text}."


def _named(row: PlanRow) -> str:
    deployment = row.deployment
    mode = f"{deployment.mode} on {deployment.ranks} ranks" if deployment.mode else "one-core programs"
    return f"{deployment.instance.name} {mode}"

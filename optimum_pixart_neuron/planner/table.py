"""A plan for the terminal: the advice, then a few rows of a few columns, or all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from ..components.component import Component
from ..components.registry import IMAGE_DECODER
from ..deployment.decisions import Configurations
from ..deployment.sides import pixels
from ..hardware import GIB
from ..terminal.table import figure, paragraph, table
from .component_plan import ComponentPlan
from .prediction import PlanRow
from .published import Efficiency
from .request import Request

# Of the expected latency, from where on decoding is worth a word.
_MUCH_DECODING = 0.2


def show(
    rows: Sequence[PlanRow],
    checkpoint: Configurations,
    request: Request,
    console: Console,
    *,
    wide: bool = False,
    summary: bool = False,
) -> None:
    """Print the advice, the tables, and what a reader needs to judge them.

    All columns if `wide`, one row an instance if `summary`.
    """
    paragraph(console, _headline(checkpoint, request, rows[0]), style="bold")
    for sentence in advice(rows):
        paragraph(console, sentence)
    console.print()
    if summary:
        console.print(_summary(rows))
    else:
        for _, group in groupby(rows, key=lambda row: row.deployment.instance):
            console.print(_table(list(group), wide=wide))
    fitting = [row for row in rows if row.fits]
    if fitting and fitting[0].others:
        console.print(_programs(lowest_latency(fitting)))
    for line in _legend(rows, summary=summary, wide=wide):
        paragraph(console, line, style="dim")


def _headline(checkpoint: Configurations, request: Request, row: PlanRow) -> str:
    deployment = row.deployment
    sizes = {each.deployment.size for each in row.others} - {deployment.size}
    more = f" and {len(sizes)} more size(s)" if sizes else ""
    guidance = "guidance" if request.pairs[0] else "no guidance"
    return (
        f"{checkpoint.source}: {pixels(deployment.size)}{more}, {row.steps} steps, {guidance},"
        f" {deployment.sequence_length} tokens, {request.torch_dtype}, batch of {deployment.images}."
        " Times, rates and costs are predictions."
    )


def advice(rows: Sequence[PlanRow]) -> list[str]:
    """What to choose, a sentence a line."""
    fitting = [row for row in rows if row.fits]
    if not fitting:
        nearest = min(rows, key=lambda row: row.needed_bytes / row.hbm_bytes)
        return [
            f"Advice: nothing fits; nearest is {_named(nearest)} with {_gib(nearest.needed_bytes)} of"
            f" {nearest.hbm_bytes / GIB:.0f} GiB a core. Try a smaller --height, --width, --batch_size or"
            " --vae_tile_size."
        ]
    fastest = lowest_latency(fitting)
    lines = [f"Lowest latency: {_named(fastest)}, {expected(fastest)} s."]
    decoding = fastest.expected_s_of(_decoder(fastest)) / fastest.expected_s
    if decoding > _MUCH_DECODING and not fastest.deployment.mode_of(IMAGE_DECODER).shares_batch:
        lines[0] += (
            f" {decoding:.0%} of it is the {IMAGE_DECODER.label}: a smaller --vae_tile_size spreads it over the cores."
        )
    cheapest = lowest_cost(fitting)
    if cheapest:
        lines.append(f"Lowest cost: {_named(cheapest)}, ${_dollars(cheapest)} for 1000 images.")
    return lines


def lowest_latency(rows: Sequence[PlanRow]) -> PlanRow:
    """Of those that fit, and of equal ones the first."""
    return min(rows, key=lambda row: row.expected_s)


def lowest_cost(rows: Sequence[PlanRow]) -> PlanRow | None:
    """None where no price is known."""
    priced = [row for row in rows if row.cost_per_1000 is not None]
    return min(priced, key=lambda row: row.cost_per_1000 or 0.0) if priced else None


def _named(row: PlanRow) -> str:
    return f"{row.deployment.instance.name}, {row.layout}"


class _Column(NamedTuple):
    """Title of a column, what it says of a row, and whether only `--wide` shows it."""

    title: str
    content: Callable[[PlanRow], str]
    wide: bool = False


def _weights(component: Component) -> _Column:
    title = f"{component.label}\nGiB"
    return _Column(title, lambda row: _gib(row.component(component.name).cost.weights), wide=True)


_FIRST = (
    _Column("mode", lambda row: f"{row.mode}{' *' if row.is_default else ''}"),
    _Column("ranks", lambda row: str(row.deployment.ranks)),
)
_OTHERS = (
    _Column("act.\nGiB", lambda row: _gib(max(part.cost.activations for part in row.components)), wide=True),
    _Column("GiB a\ncore", lambda row: _gib(row.needed_bytes)),
    _Column("fits", lambda row: "yes" if row.fits else "no"),
    _Column("TFLOP\n/image", lambda row: f"{row.flops_per_image / 1e12:,.1f}", wide=True),
    _Column("MB sent\n/step", lambda row: f"{row.bytes_sent_per_step / 1e6:,.1f}", wide=True),
    _Column("exchange", lambda row: row.deployment.mode.exchange or "-", wide=True),
    _Column("bound\ns", lambda row: figure(row.lower_bound_s)),
    _Column("by", lambda row: {"hbm": "HBM"}.get(row.bound_by, row.bound_by), wide=True),
    _Column("expected\ns", lambda row: expected(row)),
    _Column("images\nat once", lambda row: str(row.images)),
    _Column("images/s\ninstance", lambda row: f"{row.images_per_second:.3f}"),
    _Column("$/1000\nimages", lambda row: _dollars(row)),
    _Column("idle\ncores", lambda row: str(row.idle_cores), wide=True),
    _Column(f"{IMAGE_DECODER.label}\ns", lambda row: figure(row.expected_s_of(_decoder(row))), wide=True),
    _Column(f"{IMAGE_DECODER.label} act.\nGiB", lambda row: _gib(_decoder(row).cost.activations), wide=True),
)
_WORDS = ("mode", "fits", "by", "exchange")


def _decoder(row: PlanRow) -> ComponentPlan:
    return row.component(IMAGE_DECODER.name)


def _table(rows: list[PlanRow], *, wide: bool) -> Table:
    weights = [_weights(part.component) for part in rows[0].components]
    columns = [each for each in (*_FIRST, *weights, *_OTHERS) if wide or not each.wide]
    instance, price = rows[0].deployment.instance, rows[0].price
    cost = f"${price.per_hour:,.2f}/h" if price else "no known price"
    made = table(
        [[column.content(row) for column in columns] for row in rows],
        [column.title for column in columns],
        words=_WORDS,
        title=f"{instance.name}: {instance.logical_cores()} cores of {rows[0].hbm_bytes / GIB:.0f} GiB, {cost}",
    )
    last_of_modes = {row.deployment.parallel_mode: index for index, row in enumerate(rows)}.values()
    for index, row in enumerate(rows):
        made.rows[index].style = None if row.fits else "red"
        made.rows[index].end_section = index in last_of_modes and len(last_of_modes) < len(rows)
    return made


def _summary(rows: Sequence[PlanRow]) -> Table:
    cells = []
    for instance, group in groupby(rows, key=lambda row: row.deployment.instance):
        own = list(group)
        fitting = [row for row in own if row.fits]
        default = next((row for row in own if row.is_default), None)
        fastest, cheapest = lowest_latency(fitting) if fitting else None, lowest_cost(fitting)
        cells.append(
            [
                instance.name,
                *(_short(default), _latency(default)),
                *((_short(fastest), _latency(fastest)) if fastest else ("nothing fits", "-")),
                *(_short(cheapest), _dollars(cheapest) if cheapest else "-"),
            ]
        )
    titles = ("instance", "default", "s", "lowest\nlatency", " s", "lowest\ncost", "$/1000")
    return table(cells, titles, words=("instance", "default", "lowest\nlatency", "lowest\ncost"))


def _programs(row: PlanRow) -> Table:
    cells = [
        [
            f"{each.deployment.height} x {each.deployment.width}",
            "yes" if each.deployment.mode.guidance_groups == 2 else "no",
            f"{each.flops_per_image / 1e12:,.1f}",
            figure(each.lower_bound_s),
            figure(each.expected_s),
            f"{each.images_per_second:.3f}",
        ]
        for each in row.each
    ]
    titles = ("height\nx width", "guidance", "TFLOP\n/image", "bound\ns", "expected\ns", "images/s\ninstance")
    return table(cells, titles, words=titles[:2], title=f"Each program: {_named(row)}")


def _short(row: PlanRow | None) -> str:
    return f"{row.mode} {row.deployment.ranks}" if row else "-"


def _latency(row: PlanRow | None) -> str:
    return "-" if row is None else expected(row) if row.fits else "too big"


def _dollars(row: PlanRow) -> str:
    cost = row.cost_per_1000
    return "-" if cost is None else f"{cost:,.2f}" if cost >= 0.01 else figure(cost)


def _gib(size: float) -> str:
    return f"{size / GIB:.2f}"


def expected(row: PlanRow) -> str:
    """Seconds to the images; both ends of a band."""
    if not row.efficiency.is_band:
        return figure(row.expected_s)
    low, high = row.expected_range_s
    if high < 0.1:
        return f"{figure(low)}-{figure(high)}"
    places = 2 if high < 10 else 1 if high < 100 else 0
    return f"{low:.{places}f}-{high:.{places}f}"


def _origin(efficiency: Efficiency) -> str:
    if not efficiency.is_band:
        return f"{efficiency.expected:.1%} of the peaks, {efficiency.source}"
    return (
        f"{efficiency.low:.0%} to {efficiency.high:.0%} of trn2's peaks, {efficiency.source} (rates and costs at"
        f" {efficiency.expected:.1%})"
    )


def _legend(rows: Sequence[PlanRow], *, summary: bool, wide: bool) -> list[str]:
    efficiencies = list(dict.fromkeys(row.efficiency for row in rows))
    at_bound = [part.component.label for part in rows[0].components if part.component.runs_at_its_bound]
    exception = f"; {' and '.join(at_bound)} at the bound" if at_bound else ""
    lines = [
        f"Seconds from prompt to images, expected at {'; '.join(map(_origin, efficiencies))}{exception}, collectives"
        " not hidden behind computing.",
        "Cost: as many pipelines side by side as the instance has cores for, all busy, none slowing another.",
    ]
    if summary:
        lines.append(
            "The number behind a mode is its ranks; default is what an export without flags chooses. One instance in"
            " full: --instance_type NAME; everything: --wide."
        )
    else:
        lines.insert(0, "* chosen by an export without flags. Bound: no time is less, at the peaks of the hardware.")
        if not wide:
            lines.append("Every column: --wide.")
    prices = {(row.price.source, row.price.date) for row in rows if row.price}
    lines += [f"Prices: {source}{f', {date}' if date else ''}." for source, date in sorted(prices, key=str)]
    return lines

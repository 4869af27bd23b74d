"""A plan for the terminal: the advice, then a few rows of a few columns, or all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

from rich.console import Console
from rich.table import Table

from ..components.component import Component
from ..components.registry import IMAGE_DECODER
from ..hardware import GIB
from ..terminal.table import paragraph, table
from .prediction import Configurations, PlanRow
from .published import Efficiency
from .request import Request

# Of the expected latency, from where on decoding is worth a word.
_MUCH_DECODING = 0.2
_BOUNDS = {"hbm": "HBM"}
_Column = tuple[str, Callable[[PlanRow], str]]


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

    Args:
        wide: every column.
        summary: one row an instance.
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
    guidance = "guidance" if request.pairs[0] else "no guidance"
    return (
        f"{checkpoint.source}: {deployment.width} x {deployment.height} px{_more(row)}, {row.steps} steps, {guidance},"
        f" {deployment.sequence_length} tokens, {request.torch_dtype}, batch of {deployment.images}."
        " Times, rates and costs are predictions."
    )


def _more(row: PlanRow) -> str:
    sizes = {each.deployment.size for each in row.others} - {row.deployment.size}
    return f" and {len(sizes)} more size(s)" if sizes else ""


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
    decoding = fastest.expected_s_of(fastest.component(IMAGE_DECODER.name)) / fastest.expected_s
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
    deployment = row.deployment
    mode = f"{deployment.parallel_mode} on {deployment.ranks} ranks" if deployment.parallel_mode else "one core"
    return f"{deployment.instance.name}, {mode}"


def _weights(component: Component) -> _Column:
    return f"{component.label}\nGiB", lambda row: _gib(row.component(component.name).cost.weights)


# Title of a column and what it says of a row.
_MODE: _Column = ("mode", lambda row: f"{row.deployment.parallel_mode or 'one core'}{' *' if row.is_default else ''}")
_RANKS: _Column = ("ranks", lambda row: str(row.deployment.ranks))
_NEEDED: _Column = ("GiB a\ncore", lambda row: _gib(row.needed_bytes))
_FITS: _Column = ("fits", lambda row: "yes" if row.fits else "no")
_BOUND: _Column = ("bound\ns", lambda row: _seconds(row.lower_bound_s))
_BOUND_BY: _Column = ("by", lambda row: _BOUNDS.get(row.bound_by, row.bound_by))
_RESULTS: tuple[_Column, ...] = (
    ("expected\ns", lambda row: expected(row)),
    ("images\nat once", lambda row: str(row.images)),
    ("images/s\ninstance", lambda row: f"{row.images_per_second:.3f}"),
    ("$/1000\nimages", lambda row: _dollars(row)),
)
_DECODER: tuple[_Column, ...] = (
    (f"{IMAGE_DECODER.label}\ns", lambda row: _seconds(row.expected_s_of(row.component(IMAGE_DECODER.name)))),
    (f"{IMAGE_DECODER.label} act.\nGiB", lambda row: _gib(row.component(IMAGE_DECODER.name).cost.activations)),
)
_ACTIVATIONS: _Column = ("act.\nGiB", lambda row: _gib(max(part.cost.activations for part in row.components)))
_WORK: tuple[_Column, ...] = (
    ("TFLOP\n/image", lambda row: f"{row.flops_per_image / 1e12:,.1f}"),
    ("MB sent\n/step", lambda row: f"{row.bytes_sent_per_step / 1e6:,.1f}"),
    ("exchange", lambda row: row.deployment.mode.exchange or "-"),
)
_IDLE: _Column = ("idle\ncores", lambda row: str(row.idle_cores))
_WORDS = ("mode", "fits", "by", "exchange")


def _table(rows: list[PlanRow], *, wide: bool) -> Table:
    weights = [_weights(part.component) for part in rows[0].components]
    columns: list[_Column] = [_MODE, _RANKS, _NEEDED, _FITS, _BOUND, *_RESULTS]
    if wide:
        columns = [
            _MODE,
            _RANKS,
            *weights,
            _ACTIVATIONS,
            _NEEDED,
            _FITS,
            *_WORK,
            _BOUND,
            _BOUND_BY,
            *_RESULTS,
            _IDLE,
            *_DECODER,
        ]
    instance, price = rows[0].deployment.instance, rows[0].price
    cost = f"${price.per_hour:,.2f}/h" if price else "no known price"
    made = table(
        [[content(row) for _, content in columns] for row in rows],
        [title for title, _ in columns],
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
            f"{each.deployment.width} x {each.deployment.height}",
            "yes" if each.deployment.mode.guidance_groups == 2 else "no",
            f"{each.flops_per_image / 1e12:,.1f}",
            _seconds(each.lower_bound_s),
            _seconds(each.expected_s),
            f"{each.images_per_second:.3f}",
        ]
        for each in row.each
    ]
    titles = ("image", "guidance", "TFLOP\n/image", "bound\ns", "expected\ns", "images/s\ninstance")
    return table(cells, titles, words=titles[:2], title=f"Each program: {_named(row)}")


def _short(row: PlanRow | None) -> str:
    return f"{row.deployment.parallel_mode or 'one core'} {row.deployment.ranks}" if row else "-"


def _latency(row: PlanRow | None) -> str:
    return "-" if row is None else expected(row) if row.fits else "too big"


def _dollars(row: PlanRow) -> str:
    return "-" if row.cost_per_1000 is None else f"{row.cost_per_1000:,.2f}"


def _gib(size: float) -> str:
    return f"{size / GIB:.2f}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.3f}" if seconds < 1 else f"{seconds:,.2f}" if seconds < 100 else f"{seconds:,.0f}"


def expected(row: PlanRow) -> str:
    """Seconds to the images; both ends of a band."""
    if not row.efficiency.is_band:
        return _seconds(row.expected_s)
    low, high = row.expected_range_s
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

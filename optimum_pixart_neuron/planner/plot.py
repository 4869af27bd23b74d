"""Latency and cost against cores, one line a mode, one pair of panels an instance."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..deployment.decisions import Configurations
from ..deployment.sides import pixels
from ..errors import InvalidExportOption
from .prediction import PlanRow
from .table import lowest_cost, lowest_latency

# Instances side by side; more of them go below.
_MOST_COLUMNS = 5
_QUANTITIES = (("expected_s", "expected latency, s"), ("cost_per_1000", "expected cost,\n$ for 1000 images"))
_GREY = "#777777"


def draw(rows: Sequence[PlanRow], checkpoint: Configurations, path: Path) -> int:
    """Write the picture; the format is that of the name.

    Returns:
        the number of instances in it: all of them.

    Raises:
        InvalidExportOption: the file cannot be written.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    instances = list(dict.fromkeys(row.deployment.instance for row in rows))
    columns = min(len(instances), _MOST_COLUMNS)
    blocks = -(-len(instances) // columns)
    figure, panels = pyplot.subplots(
        2 * blocks,
        columns,
        figsize=(max(2.9 * columns, 7.5), 5.8 * blocks + 1.6),
        squeeze=False,
        layout="constrained",
    )
    for number in range(blocks * columns):
        block, column = divmod(number, columns)
        pair = panels[2 * block : 2 * block + 2, column]
        if number < len(instances):
            own = [row for row in rows if row.deployment.instance == instances[number]]
            _draw_instance(pair, own, first=column == 0)
        else:
            for panel in pair:
                panel.set_axis_off()
    for kind in (0, 1):  # one scale for all, so that instances compare
        _share_scale([panels[2 * block + kind, column] for block in range(blocks) for column in range(columns)])
    figure.legend(handles=_handles(rows), loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    figure.suptitle(_title(rows, checkpoint), fontsize=11)
    try:
        figure.savefig(path, dpi=130)
    except OSError as error:
        raise InvalidExportOption(f"--plot {path}: {error.strerror}") from None
    finally:
        pyplot.close(figure)
    return len(instances)


def _draw_instance(pair: Any, rows: list[PlanRow], *, first: bool) -> None:
    instance, price = rows[0].deployment.instance, rows[0].price
    cost = f"${price.per_hour:,.2f}/h" if price else "no price"
    pair[0].set_title(f"{instance.name}\n{instance.logical_cores()} cores, {cost}", fontsize=9)
    sizes = sorted({row.deployment.cores for row in rows})
    for panel, (quantity, label) in zip(pair, _QUANTITIES):
        if first:
            panel.set_ylabel(label)
        panel.grid(True, color="#e4e4e4", linewidth=0.7)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
        if all(getattr(row, quantity) is None for row in rows):
            hint = "no known price:\n--price_per_hour"
            panel.text(0.5, 0.5, hint, ha="center", color=_GREY, fontsize=8, transform=panel.transAxes)
            panel.set_xticks([])
            continue
        if len(sizes) == 1:
            _draw_modes(panel, rows, quantity)
        else:
            _draw_lines(panel, rows, quantity, sizes)
    pair[1].set_xlabel("cores of a pipeline" if len(sizes) > 1 else f"mode, on {sizes[0]} cores", fontsize=8)


def _draw_modes(panel: Any, rows: list[PlanRow], quantity: str) -> None:
    """Where all pipelines have as many cores there is nothing to draw a line along: a place for each mode."""
    for place, row in enumerate(rows):
        _draw_point(panel, place, row, quantity)
        value = getattr(row, quantity)
        _note(panel, f"{value:.2f}", (place, value), 7)
    panel.set_xticks(range(len(rows)), [row.mode for row in rows], fontsize=7)
    panel.set_xlim(-0.6, len(rows) - 0.4)


def _draw_lines(panel: Any, rows: list[PlanRow], quantity: str, sizes: list[int]) -> None:
    from matplotlib.ticker import NullFormatter, NullLocator

    panel.set_xscale("log", base=2)
    panel.set_xticks(sizes, [str(size) for size in sizes], fontsize=8)
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_minor_formatter(NullFormatter())
    by_mode: dict[str | None, list[PlanRow]] = {}
    for row in rows:
        by_mode.setdefault(row.deployment.parallel_mode, []).append(row)
    for own in by_mode.values():
        xs, ys = [row.deployment.cores for row in own], [getattr(row, quantity) for row in own]
        panel.plot(xs, ys, color=own[0].deployment.mode.colour, linewidth=1.5)
        if quantity == "expected_s" and own[0].efficiency.is_band:
            lows, highs = zip(*(row.expected_range_s for row in own))
            panel.fill_between(xs, lows, highs, color=own[0].deployment.mode.colour, alpha=0.12, linewidth=0)
        for row in own:
            _draw_point(panel, row.deployment.cores, row, quantity)
        if quantity == "expected_s":
            _explain_exchanges(panel, own)
    if quantity == "cost_per_1000":
        _explain_idle_cores(panel, rows)


def _draw_point(panel: Any, x: float, row: PlanRow, quantity: str) -> None:
    mode, value = row.deployment.mode, getattr(row, quantity)
    face = mode.colour if row.fits else "white"
    size = 5.5 if mode.name else 8.5  # one core may lie under a mode on two
    panel.plot(x, value, marker=mode.marker, color=mode.colour, markerfacecolor=face, markersize=size)
    if row.is_default:
        panel.plot(x, value, marker="o", color="black", markerfacecolor="none", markersize=11, linewidth=0)


def _note(panel: Any, text: str, point: tuple[float, float | None], above: int, **how: str) -> None:
    """Write a few words so many typographic points above a point of the panel."""
    panel.annotate(text, point, xytext=(0, above), textcoords="offset points", size=7, **{"ha": "center", **how})


def _explain_exchanges(panel: Any, rows: list[PlanRow]) -> None:
    """Latency bends where ranks have to exchange more than fewer of them do: say how they exchange from there on."""
    for before, row in pairwise(rows):
        exchange = row.deployment.mode.exchange
        if exchange != before.deployment.mode.exchange and row.bytes_sent_per_step > before.bytes_sent_per_step > 0:
            _note(panel, f"{exchange}", (row.deployment.cores, row.expected_s), -13, color=_GREY)


def _explain_idle_cores(panel: Any, rows: list[PlanRow]) -> None:
    """Cost jumps where pipelines leave cores over: say how many, once for each size."""
    for cores in sorted({row.deployment.cores for row in rows if row.idle_cores}):
        highest = max((row for row in rows if row.deployment.cores == cores), key=lambda row: row.cost_per_1000 or 0)
        side = "right" if cores == max(row.deployment.cores for row in rows) else "center"
        _note(panel, f"{highest.idle_cores} cores idle", (cores, highest.cost_per_1000), 9, ha=side, color=_GREY)


def _share_scale(panels: list[Any]) -> None:
    from matplotlib.ticker import FuncFormatter

    drawn = [panel for panel in panels if panel.axison and panel.lines]
    if not drawn:
        return
    limits = [panel.dataLim for panel in drawn]
    low, high = min(limit.y0 for limit in limits), max(limit.y1 for limit in limits)
    for panel in panels:
        panel.set_yscale("log")
        panel.set_ylim(low / 1.5, high * 1.5)
        panel.yaxis.set_major_formatter(FuncFormatter(_plain))
        panel.yaxis.set_minor_formatter(FuncFormatter(_plain))
        panel.tick_params(axis="y", which="both", labelsize=7)


def _plain(value: float, _position: int) -> str:
    """Ticks at 1, 2, 3 and 5 times a power of ten, as plain numbers."""
    return f"{value:g}" if f"{value:e}"[0] in "1235" else ""


def _handles(rows: Sequence[PlanRow]) -> list[Any]:
    from matplotlib.lines import Line2D

    modes = {row.deployment.parallel_mode: row.deployment.mode for row in rows}
    handles = [
        Line2D([], [], color=mode.colour, marker=mode.marker, linewidth=1.5 if name else 0, label=mode.label)
        for name, mode in modes.items()
    ]
    if any(row.is_default for row in rows):
        label = "what an export without flags chooses"
        handles.append(Line2D([], [], color="black", marker="o", mfc="none", markersize=11, linewidth=0, label=label))
    if any(not row.fits for row in rows):
        handles.append(Line2D([], [], color="#555555", marker="o", mfc="white", linewidth=0, label="does not fit"))
    return handles


def _title(rows: Sequence[PlanRow], checkpoint: Configurations) -> str:
    deployment = rows[0].deployment
    lines = [
        f"{checkpoint.source}, {pixels(deployment.size)}, {rows[0].steps} steps, batch of {deployment.images}",
        f"predictions at {_peaks(rows)} of the hardware's peaks, not measurements",
    ]
    fitting = [row for row in rows if row.fits]
    if fitting:
        fastest, cheapest = lowest_latency(fitting), lowest_cost(fitting)
        best = [f"lowest latency {_place(fastest)}"] + ([f"lowest cost {_place(cheapest)}"] if cheapest else [])
        lines.append("; ".join(best))
    return "\n".join(lines)


def _peaks(rows: Sequence[PlanRow]) -> str:
    used = dict.fromkeys(row.efficiency for row in rows)
    return ", ".join(
        f"{each.low:.0%} to {each.high:.0%} (trn2, line at {each.expected:.1%})"
        if each.is_band
        else f"{each.expected:.1%}"
        for each in used
    )


def _place(row: PlanRow) -> str:
    return f"{row.deployment.instance.name}, {row.mode} {row.deployment.ranks}"

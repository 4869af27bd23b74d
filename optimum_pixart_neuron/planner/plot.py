"""Latency and cost against cores, one line a mode, one column of panels an instance."""

from __future__ import annotations

from pathlib import Path

from ..errors import InvalidExportOption
from ..hardware import FAMILIES, Instance
from .geometry import Geometry
from .predict import PlanRow
from .request import Request

# Colours that stay apart for colour-blind readers (Okabe and Ito), and markers for print in grey.
_STYLES = {
    "context": ("#0072B2", "o", "context: guidance x sequence"),
    "tensor": ("#D55E00", "s", "tensor: divided weights"),
    "data": ("#009E73", "^", "data: images of its own on each core"),
    None: ("#555555", "D", "one-core programs on two cores"),
}
# Panels side by side. Of more instances the largest of each family are drawn.
_MOST_COLUMNS = 4


def draw(rows: list[PlanRow], geometry: Geometry, request: Request, path: Path) -> None:
    """Write the picture; the format is that of the name.

    Raises:
        InvalidExportOption: the file cannot be written.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

    instances = _drawn(list(dict.fromkeys(row.deployment.instance for row in rows)))
    figure, panels = pyplot.subplots(
        2,
        len(instances),
        figsize=(max(3.4 * len(instances), 6.5), 7.2),
        squeeze=False,
        sharex="col",
        sharey="row",
        layout="constrained",
    )
    quantities = (("expected_s", "expected latency, s"), ("cost_per_1000", "expected cost, $ for 1000 images"))
    for column, instance in enumerate(instances):
        own = [row for row in rows if row.deployment.instance == instance]
        for panel, (quantity, _) in zip(panels[:, column], quantities):
            _draw_lines(panel, own, quantity)
            panel.set_xscale("log", base=2)
            panel.set_yscale("log")
            panel.grid(True, which="both", axis="y", color="#e4e4e4", linewidth=0.7)
            panel.grid(True, which="major", axis="x", color="#e4e4e4", linewidth=0.7)
            panel.set_axisbelow(True)
            panel.xaxis.set_major_locator(FixedLocator(sorted({row.deployment.cores for row in own})))
            panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            for formatter in (panel.yaxis.set_major_formatter, panel.yaxis.set_minor_formatter):
                formatter(FuncFormatter(_plain))
            panel.xaxis.set_minor_formatter(NullFormatter())
            panel.spines[["top", "right"]].set_visible(False)
        price = own[0].price
        cost = f"${price.per_hour:,.2f}/h" if price else "no price"
        panels[0, column].set_title(f"{instance.name}\n{instance.logical_cores()} cores, {cost}", fontsize=10)
        if price is None:
            hint = "no known price:\n--price_per_hour"
            panels[1, column].text(0.5, 0.5, hint, ha="center", transform=panels[1, column].transAxes, color="#777777")
        panels[1, column].set_xlabel("cores of a pipeline")
    for panel, (_, label) in zip(panels[:, 0], quantities):
        panel.set_ylabel(label)
    modes = [mode for mode in _STYLES if any(row.deployment.mode == mode for row in rows)]
    handles = [_handle(pyplot, mode) for mode in modes]
    if any(not row.fits for row in rows):
        handles.append(pyplot.Line2D([], [], color="#555555", marker="o", mfc="white", ls="", label="does not fit"))
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    figure.suptitle(_title(rows, geometry, request), fontsize=11)
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise InvalidExportOption(f"--plot {path}: {error.strerror}") from None
    finally:
        pyplot.close(figure)


def _drawn(instances: list[Instance]) -> list[Instance]:
    if len(instances) <= _MOST_COLUMNS:
        return instances
    largest = [instance for instance in instances if instance.name in FAMILIES.values()]
    return (largest or instances)[:_MOST_COLUMNS]


def _draw_lines(panel, rows: list[PlanRow], quantity: str) -> None:
    for mode, (colour, marker, _) in _STYLES.items():
        points = [
            (row.deployment.cores, getattr(row, quantity), row.fits)
            for row in rows
            if row.deployment.mode == mode and getattr(row, quantity) is not None
        ]
        if not points:
            continue
        panel.plot([x for x, _, _ in points], [y for _, y, _ in points], color=colour, linewidth=1.6)
        for x, y, fits in points:
            panel.plot(x, y, marker=marker, color=colour, markerfacecolor=colour if fits else "white", markersize=6)


def _handle(pyplot, mode: str | None):
    colour, marker, label = _STYLES[mode]
    return pyplot.Line2D([], [], color=colour, marker=marker, linewidth=1.6 if mode else 0, label=label)


def _plain(value: float, _position: int) -> str:
    """Ticks at 1, 2, 3 and 5 times a power of ten, as plain numbers."""
    return f"{value:g}" if f"{value:e}"[0] in "1235" else ""


def _title(rows: list[PlanRow], geometry: Geometry, request: Request) -> str:
    height, width = request.size(geometry)
    return (
        f"{geometry.name}, {width} x {height} px, {rows[0].steps} steps, batch of {request.images}\n"
        f"predictions at {rows[0].efficiency:.1%} of the hardware's peaks, not measurements"
    )

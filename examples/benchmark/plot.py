"""The plot of one recorded run."""

from pathlib import Path
from statistics import median

COLORS = {"dense": "#8d99ae", "tensor": "#e9a03b", "context": "#2a7f62", "peer": "#7b5ea7"}


def draw(run: dict, path: Path) -> bool:
    """Time and memory: bars of the medians, each round as a stroke; False where matplotlib is not installed."""
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("Agg")
    from matplotlib import pyplot

    variants, problem = run["variants"], run["problem"]
    size = (10, 0.6 * len(variants) + 1.5)
    figure, (time, memory) = pyplot.subplots(
        1, 2, figsize=size, sharey=True, layout="constrained", width_ratios=(3, 2)
    )
    dense = median(variants["dense"]["seconds"])
    for position, (name, variant) in enumerate(variants.items()):
        seconds, peak = variant["seconds"], max(variant["peak_bytes"]) / 2**20
        style = {"color": COLORS[name.rstrip("*")], "height": 0.6, "alpha": 0.45 if name.endswith("*") else 0.85}
        time.barh(position, median(seconds), **style)
        time.plot(seconds, [position] * len(seconds), "|", color="black", markersize=11, alpha=0.6)
        label = f" {median(seconds):.2f} s ({median(seconds) / dense:.2f} x dense)"
        time.text(max(seconds), position, label, va="center", fontsize=9)
        memory.barh(position, peak, **style)
        memory.text(peak, position, f" {peak:.0f} MiB", va="center", fontsize=9)
    time.set_yticks(range(len(variants)), [variant["title"] for variant in variants.values()])
    time.invert_yaxis()
    time.set_xlim(0, 1.6 * max(max(variant["seconds"]) for variant in variants.values()))
    memory.set_xlim(0, 1.3 * max(max(variant["peak_bytes"]) for variant in variants.values()) / 2**20)
    time.set_xlabel("seconds, median (bar) and rounds (strokes)")
    memory.set_xlabel("peak memory of one rank or process, MiB")
    figure.suptitle(
        f"One guided step, {problem['blocks']} blocks of XL/2, {problem['size']} px, {problem['dtype']}, on"
        f" {run['machine']['cores']} CPU cores, {run['date']}; lower is better; says nothing of NeuronCores",
        fontsize=10,
    )
    for axes in (time, memory):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    return True

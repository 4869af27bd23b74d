"""The plot of one recorded run."""

from pathlib import Path
from statistics import median

COLORS = {"dense": "#8d99ae", "tensor": "#e9a03b", "context": "#2a7f62", "peer": "#7b5ea7"}


def draw(run: dict, path: Path) -> bool:
    """Bars of the medians, each round as a point; False where matplotlib is not installed."""
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("Agg")
    from matplotlib import pyplot

    variants, problem = run["variants"], run["problem"]
    figure, axes = pyplot.subplots(figsize=(7, 0.75 * len(variants) + 1.5), layout="constrained")
    slowest = max(max(variant["seconds"]) for variant in variants.values())
    for position, (name, variant) in enumerate(variants.items()):
        seconds = variant["seconds"]
        axes.barh(
            position,
            median(seconds),
            color=COLORS[name.rstrip("*")],
            height=0.6,
            alpha=0.45 if name.endswith("*") else 0.85,
        )
        axes.plot(seconds, [position] * len(seconds), "|", color="black", markersize=11, alpha=0.6)
        ratio = median(seconds) / median(variants["dense"]["seconds"])
        axes.text(1.02 * slowest, position, f"{median(seconds):.2f} s ({ratio:.2f} x dense)", va="center")
    axes.set_yticks(range(len(variants)), [variant["title"] for variant in variants.values()])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.4 * slowest)
    axes.set_xlabel("seconds, median (bar) and rounds (strokes); lower is better")
    axes.set_title(
        f"One guided step, {problem['blocks']} blocks of XL/2, {problem['size']} px, {problem['dtype']}\n"
        f"on {run['machine']['cores']} CPU cores: says nothing of NeuronCores",
        fontsize=10,
    )
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
    return True

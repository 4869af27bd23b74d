"""The walk-throughs have the plan's own figures."""

import re
from pathlib import Path

import pytest

from optimum_pixart_neuron.hardware import GIB
from optimum_pixart_neuron.planner import PlanRow, Request, predict
from optimum_pixart_neuron.planner.table import expected

DOCS = Path(__file__).resolve().parents[2] / "docs"
TABLE = (
    "| mode | ranks | T5, DiT, VAE GiB | GiB a core | MB sent /step | expected s | images at once"
    " | images/s instance |"
)


def line(row: PlanRow) -> str:
    """What a walk-through says of a row of the plan."""
    weights = ", ".join(f"{part.cost.weights / GIB:.2f}" for part in row.components)
    cells = (
        row.deployment.parallel_mode or "one core",
        row.deployment.ranks,
        weights,
        f"{row.needed_bytes / GIB:.2f}",
        f"{row.bytes_sent_per_step / 1e6:,.1f}",
        expected(row),
        row.images,
        f"{row.images_per_second:.3f}",
    )
    return f"| {' | '.join(map(str, cells))} |"


@pytest.mark.seconds
@pytest.mark.parametrize(("page", "instance"), [("trn2", "trn2.48xlarge"), ("inf2", "inf2.xlarge")])
def test_the_tables_are_the_plans(page, instance):
    text = (DOCS / f"walkthrough-{page}.md").read_text()
    told = re.findall(r"^\| (context|tensor|data) \| (\d+) \|.*$", text.partition(TABLE)[2], re.MULTILINE)
    assert len(told) >= 2
    for mode, ranks in told:
        row = predict(Request(parallel_mode=mode, tensor_parallel_size=int(ranks)), instance)
        assert line(row) in text

"""What a person reads: everything within 80 columns, the advice first, no number cut short."""

import re

import pytest

from optimum_pixart_neuron.components.registry import IMAGE_DECODER
from optimum_pixart_neuron.planner import Released, Request, plan
from optimum_pixart_neuron.planner.table import advice, show
from optimum_pixart_neuron.terminal.table import WIDTH, console, duration, figure

pytestmark = pytest.mark.seconds

SOME = ("inf2.xlarge", "inf2.48xlarge", "trn2.48xlarge")


@pytest.fixture(autouse=True)
def eighty_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", str(WIDTH))


@pytest.fixture(scope="module")
def rows():
    return plan(instances=SOME)


def shown(capsys, rows, request=None, **how) -> list[str]:
    show(rows, Released(), request or Request(), console(), **how)
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


def test_a_summary_has_the_advice_and_a_row_an_instance(rows, capsys):
    lines = shown(capsys, rows, summary=True)
    assert max(map(len, lines)) <= WIDTH and len(lines) < 30
    assert "predictions" in " ".join(lines[:2])
    text, table = "\n".join(lines[:6]), [line for line in lines if line.lstrip().startswith(SOME)]
    assert text.index("Lowest latency: trn2.48xlarge, context on 64 ranks") < text.index("Lowest cost: inf2.xlarge")
    assert [line.split()[0] for line in table] == list(SOME)
    assert table[1].split() == ["inf2.48xlarge", "context", "8", "2.74", "context", "16", "1.45", "data", "2", "3.04"]
    assert table[2].split()[-2:] == ["-", "-"], "no known price"


def test_one_table_an_instance(rows, capsys):
    lines = shown(capsys, rows)
    assert max(map(len, lines)) <= WIDTH
    titles = [line for line in lines if re.match(r"\S+: \d+ cores of", line)]
    assert titles == [
        "inf2.xlarge: 2 cores of 16 GiB, $0.76/h",
        "inf2.48xlarge: 24 cores of 16 GiB, $12.98/h",
        "trn2.48xlarge: 64 cores of 24 GiB, no known price",
    ]
    assert sum(line.lstrip().startswith(("one core", "context", "tensor", "data")) for line in lines) == len(rows)
    assert sum(" *" in line for line in lines if line.lstrip().startswith(("one core", "context"))) == len(SOME)


@pytest.mark.parametrize("how", [{}, {"wide": True}, {"summary": True}], ids=str)
@pytest.mark.parametrize("columns", [40, 80, 300])
def test_no_number_is_cut_short(rows, capsys, monkeypatch, how, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    assert "…" not in "\n".join(shown(capsys, rows, **how))


def test_wide_has_every_figure(rows, capsys):
    lines = shown(capsys, [row for row in rows if row.deployment.instance.name == "trn2.48xlarge"], wide=True)
    (row,) = [line.split() for line in lines if line.lstrip().startswith("context *")]
    weights = ["2.40", "1.14", "0.09"]
    assert row[3:] == [*weights, "0.88", "4.51", "yes", "283.5", "264.6", "gather", "0.479", "matmul", *row[14:]]


def test_what_does_not_fit_says_so(capsys):
    request = Request(torch_dtype="float32", tensor_parallel_size=1)
    rows = plan(request, instances=["inf2.xlarge"])
    assert " no " in "\n".join(shown(capsys, rows, request))
    assert " nothing fits " in "\n".join(shown(capsys, rows, request, summary=True))
    (sentence,) = advice(rows)
    assert sentence.startswith("Advice: nothing fits; nearest is inf2.xlarge, one core with ")


def test_the_advice_names_the_lowest_of_what_fits(rows):
    latency, cost = advice(rows)
    fastest = min(rows, key=lambda row: row.expected_s)
    cheapest = min((row for row in rows if row.cost_per_1000), key=lambda row: row.cost_per_1000)
    assert f"{fastest.deployment.instance.name}, {fastest.deployment.parallel_mode}" in latency
    assert IMAGE_DECODER.label not in latency  # its rows are on all cores
    assert f"{cheapest.deployment.instance.name}, {cheapest.deployment.parallel_mode}" in cost
    assert f"${cheapest.cost_per_1000:.2f} for 1000 images" in cost


def test_the_advice_names_a_long_decoding_on_one_core():
    (latency, *_) = advice(plan(Request(parallel_mode="context", vae_parallel="one"), instances=["trn2.48xlarge"]))
    assert f"% of it is the {IMAGE_DECODER.label}" in latency and "--vae_tile_size" in latency


def test_no_figure_is_rounded_to_nothing():
    numbers = (0, 0.0000123, 0.00123, 0.0123, 0.7721, 12.345, 1345.6)
    assert " ".join(map(figure, numbers)) == "0.000 0.000012 0.0012 0.012 0.772 12.35 1,346"


def test_durations_have_three_digits():
    seconds = (0.0000123, 0.01425, 0.7721, 12.345, 345.6)
    assert ", ".join(map(duration, seconds)) == "0.0123 ms, 14.2 ms, 0.772 s, 12.35 s, 346 s"

"""The picture of a plan: every instance that was asked for, the default marked, jumps explained."""

import pytest

from optimum_pixart_neuron.planner import Released, plan
from optimum_pixart_neuron.planner.plot import draw

pytest.importorskip("matplotlib")


@pytest.fixture
def figures(monkeypatch):
    """Figures that were drawn, still open."""
    from matplotlib import pyplot

    kept = []
    monkeypatch.setattr(pyplot, "close", kept.append)
    yield kept
    monkeypatch.undo()
    pyplot.close("all")


@pytest.mark.soak
def test_every_instance_is_drawn(figures, tmp_path):
    from PIL import Image

    rows = plan()
    assert draw(rows, Released(), tmp_path / "plan.png") == 10
    with Image.open(tmp_path / "plan.png") as picture:
        assert min(picture.size) > 600
    (figure,) = figures
    titles = [axes.get_title().splitlines()[0] for axes in figure.axes if axes.get_title()]
    assert sorted(titles) == sorted({row.deployment.instance.name for row in rows})
    assert "lowest latency trn2.48xlarge, context 64; lowest cost inf2.xlarge, data 2" in figure.get_suptitle()


@pytest.mark.seconds
def test_defaults_are_marked_and_idle_cores_explain_jumps(figures, tmp_path):
    draw(plan(instances=["inf2.48xlarge"]), Released(), tmp_path / "plan.svg")
    latency, cost = figures[0].axes
    rings = [line for line in latency.lines if line.get_markersize() == 11]
    assert [list(ring.get_xdata()) for ring in rings] == [[8]]
    assert [text.get_text() for text in cost.texts] == ["8 cores idle"]
    legend = [text.get_text() for text in figures[0].legends[0].get_texts()]
    assert "what an export without flags chooses" in legend


@pytest.mark.seconds
def test_modes_have_places_of_their_own_on_an_instance_of_two_cores(figures, tmp_path):
    draw(plan(instances=["inf2.xlarge"]), Released(), tmp_path / "plan.pdf")
    latency, cost = figures[0].axes
    assert [label.get_text() for label in latency.get_xticklabels()] == ["one core", "context", "tensor", "data"]
    places = {line.get_xdata()[0] for line in cost.lines}
    assert places == {0, 1, 2, 3}

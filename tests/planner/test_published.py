"""The one fitted figure, and what it predicts."""

from math import prod

import pytest

from optimum_pixart_neuron.components.registry import PROMPT_ENCODER
from optimum_pixart_neuron.planner import PlanRow, Request, predict
from optimum_pixart_neuron.planner.published import EFFICIENCY, INSTANCE, PUBLISHED, Published

NAMED = pytest.mark.parametrize("published", PUBLISHED, ids=lambda each: f"{each.model} {each.side}")


def planned(published: Published) -> PlanRow:
    request = Request(
        height=published.side, width=published.side, sequence_length=published.tokens, tensor_parallel_size=1
    )
    return predict(request, INSTANCE)


def fitting_efficiency(published: Published) -> float:
    """At which the prediction is the measurement."""
    row = planned(published)
    text = row.component(PROMPT_ENCODER.name).lower_bound_s
    return (row.lower_bound_s - text) / (published.measured_s - text)


def test_the_efficiency_is_fitted_on_alpha_only():
    assert [each.model for each in PUBLISHED if each.fitted] == ["PixArt-Alpha"] * 2
    low, high = sorted(fitting_efficiency(each) for each in PUBLISHED if each.fitted)
    assert 0 < low < EFFICIENCY < high < 1
    assert prod((low, high)) ** 0.5 == pytest.approx(EFFICIENCY, abs=5e-5)


@NAMED
def test_predictions_are_within_15_percent(published):
    assert abs(planned(published).expected_s / published.measured_s - 1) < 0.15


@NAMED
def test_no_measurement_is_below_its_lower_bound(published):
    assert planned(published).lower_bound_s < published.measured_s

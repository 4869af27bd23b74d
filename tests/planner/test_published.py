"""The one fitted figure, and what it predicts."""

from math import prod

import pytest

from optimum_pixart_neuron.components.registry import PROMPT_ENCODER
from optimum_pixart_neuron.hardware import INSTANCES
from optimum_pixart_neuron.planner import PlanRow, Request, predict
from optimum_pixart_neuron.planner.published import FITTED, INSTANCE, PUBLISHED, TRN2, Published, efficiency_of


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


@pytest.mark.seconds
def test_the_efficiency_is_fitted_on_alpha_only():
    assert [each.model for each in PUBLISHED if each.fitted] == ["PixArt-Alpha"] * 2
    low, high = sorted(fitting_efficiency(each) for each in PUBLISHED if each.fitted)
    assert 0 < low < FITTED.expected < high < 1
    assert prod((low, high)) ** 0.5 == pytest.approx(FITTED.expected, abs=5e-5)


@pytest.mark.seconds
@pytest.mark.parametrize("published", PUBLISHED, ids=lambda each: f"{each.model} {each.side}")
def test_measurements_are_within_15_percent_of_what_is_expected_and_above_the_lower_bound(published):
    row = planned(published)
    assert abs(row.expected_s / published.measured_s - 1) < 0.15
    assert row.lower_bound_s < published.measured_s


def test_trn2_has_a_band_and_the_others_the_fitted_figure():
    assert {name: efficiency_of(each) for name, each in INSTANCES.items()} == {
        name: TRN2 if name.startswith("trn2") else FITTED for name in INSTANCES
    }
    assert (TRN2.low, TRN2.high, TRN2.is_band, FITTED.is_band) == (0.13, 0.43, True, False)
    assert prod((TRN2.low, TRN2.high)) ** 0.5 == pytest.approx(TRN2.expected, abs=5e-5)


@pytest.mark.seconds
def test_both_ends_of_the_band_bound_what_is_expected():
    row = predict(Request(), "trn2.48xlarge")
    text, *image = row.components
    low, high = row.expected_range_s
    assert low < row.expected_s < high
    exact = text.bound.unhidden_seconds * text.runs
    assert (high - exact) / (low - exact) == pytest.approx(0.43 / 0.13)
    assert predict(Request(), "trn2.48xlarge", efficiency=0.2).expected_range_s == pytest.approx(
        (exact + sum(part.bound.unhidden_seconds * part.runs for part in image) / 0.2,) * 2
    )

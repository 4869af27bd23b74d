"""The one fitted figure, and what it predicts."""

import pytest

from optimum_pixart_neuron.planner.published import PUBLISHED, fitted_efficiency


def test_the_fit_uses_alpha_only():
    assert [each.model for each in PUBLISHED if each.fitted] == ["PixArt-Alpha"] * 2
    low, high = sorted(each.efficiency for each in PUBLISHED if each.fitted)
    assert 0 < low < fitted_efficiency() < high < 1


@pytest.mark.parametrize("published", PUBLISHED, ids=lambda each: f"{each.model} {each.side}")
def test_predictions_are_within_15_percent(published):
    assert abs(published.error) < 0.15


@pytest.mark.parametrize("published", PUBLISHED, ids=lambda each: f"{each.model} {each.side}")
def test_no_measurement_is_below_its_lower_bound(published):
    assert published.lower_bound_s < published.measured_s

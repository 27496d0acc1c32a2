"""Events and extremes by hand arithmetic on small fields."""

from itertools import product

import numpy as np
import pytest

from fourcastnet_afno.evaluation.config import EvaluationConfig
from fourcastnet_afno.evaluation.evaluate import evaluate
from fourcastnet_afno.evaluation.metrics import METRICS
from fourcastnet_afno.evaluation.metrics.events import (
    cell_seeps,
    event_statistics,
    neighborhood_mean,
    relative_quantile_error,
    reliability,
)
from fourcastnet_afno.evaluation.statistics.averages import Averager
from tests.builders.evaluation_fixtures import (
    GRID,
    make_coefficients,
    make_forecast,
    make_truth,
)

# Weights with sum 1 on a 2 x 3 grid: each cell of the first row counts three times.
ROWS = np.array([[3.0, 3, 3], [1, 1, 1]]) / 12


SMALL = Averager(ROWS[None])


TRUTH = make_truth()


COEFFICIENTS = make_coefficients(TRUTH)


FORECAST = make_forecast(TRUTH, num_members=2)


def test_brier_and_fraction_skill() -> None:
    members = np.array([[[[1.0, 0, 0], [0, 0, 0]], [[1.0, 1, 0], [0, 0, 0]]]])
    truth = np.array([[[1.0, 1, 0], [0, 0, 1]]])
    found = event_statistics(members, truth, np.full((1, 2, 3), 0.5), [1, 3], SMALL)
    # probabilities 1, 1/2, 0 | 0, 0, 0 of the events 1, 1, 0 | 0, 0, 1
    assert found["brier"].item() == pytest.approx((3 * 0.25 + 1) / 12)
    np.testing.assert_allclose(found["fraction_error"][0, 0, 0], found["brier"][0, 0])
    # Squares of three cells, periodic in longitude, are the sums of the row over nine and of the
    # other row: means of p are 1.5 / 9 everywhere, those of the events 3 / 9.
    means = {name: found[name][0, 0, 1] for name in ("fraction_error", "fraction_reference")}
    assert means["fraction_error"].item() == pytest.approx((1.5 / 9) ** 2)
    expected = 1 - (1.5 / 9) ** 2 / ((1.5 / 9) ** 2 + (3 / 9) ** 2)
    score = METRICS["fraction_skill_score"].combine(*means.values())
    assert score.item() == pytest.approx(expected)


def test_neighborhoods_are_periodic_in_longitude_alone() -> None:
    field = np.zeros((4, 6))
    field[0, 0] = 9.0
    found = neighborhood_mean(field, 3)
    assert found.sum() == pytest.approx(6)  # the row beyond the pole is lost
    assert found[0, 5] == found[1, 1] == pytest.approx(1)
    assert found[3].tolist() == [0] * 6


def test_reliability_counts_events_by_probability() -> None:
    members = np.array([[[[1.0, 0, 0], [0, 0, 0]], [[1.0, 1, 0], [0, 0, 0]]]])
    truth = np.array([[[1.0, 1, 0], [0, 0, 1]]])
    weight, probability, events = reliability(members, truth, np.full((1, 2, 3), 0.5), ROWS)[0, 0]
    np.testing.assert_allclose(12 * weight[[0, 5, 10]], [6, 3, 3])
    np.testing.assert_allclose(12 * probability[[0, 5, 10]], [0, 1.5, 3])
    np.testing.assert_allclose(12 * events[[0, 5, 10]], [1, 3, 3])


def test_extremes_half_as_strong() -> None:
    truth = np.random.default_rng(0).gamma(2.0, size=(3, 6, 12))
    found = relative_quantile_error(0.5 * truth, truth, GRID.area_weights()[None])
    np.testing.assert_allclose(found, -0.5)


def test_seeps_by_the_matrix() -> None:
    p = np.array([[0.5, 0.5, 0.5], [0.5, 0.5, 0.05]])
    forecast = np.array([[0.0, 0.0, 1.0], [1.0, 5.0, 0.0]])
    truth = np.array([[0.0, 1.0, 5.0], [0.0, 0.0, 5.0]])
    found = cell_seeps(forecast, truth, p, np.full((2, 3), 4.0), 0.25)
    expected = 0.5 * np.array([[0, 2, 6], [2, 2 + 3 / 2.5, np.nan]])
    np.testing.assert_allclose(found, expected)


def test_seeps_leaves_out_cells_without_threshold_or_probability() -> None:
    p, heavy = np.array([[0.5, np.nan, 0.5]]), np.array([[np.nan, 4.0, np.inf]])
    found = cell_seeps(np.full((1, 3), 9.0), np.zeros((1, 3)), p, heavy, 0.25)
    # Above an infinite threshold there is nothing heavy: light for dry is 1 / (2 p).
    np.testing.assert_allclose(found, [[np.nan, np.nan, 1.0]])


def test_events_of_a_perfect_forecast_and_of_the_climatology() -> None:
    valid = FORECAST["init_time"] + FORECAST["lead_time"]
    perfect = TRUTH.sel(time=valid).drop_vars("time")
    config = EvaluationConfig(
        num_resamples=0, quantiles=[0.5, 0.9], extremes=True, neighborhoods=[1, 3]
    )
    scores = evaluate({"m": perfect}, TRUTH, COEFFICIENTS, config, training=TRUTH)
    ours = scores.sel(forecast="m")
    np.testing.assert_array_equal(ours["brier_score"], 0)
    np.testing.assert_allclose(ours["fraction_skill_score"], 1)
    np.testing.assert_array_equal(ours["relative_quantile_error"], 0)
    # A forecast of the mean never exceeds the 0.9 quantile: it misses a tenth of the cells.
    missed = scores["brier_score"].sel(forecast="climatology", quantile=0.9)
    np.testing.assert_allclose(missed, 0.1, atol=0.04)
    weight = ours["reliability_weight"].isel(quantile=1)
    np.testing.assert_allclose(weight.sum("probability_bin"), 1)
    np.testing.assert_allclose(weight.isel(probability_bin=-1), 0.1, atol=0.04)


def test_seeps_of_precipitation() -> None:
    rng = np.random.default_rng(0)
    truth = TRUTH[["2m_temperature"]].rename({"2m_temperature": "total_precipitation_24hr"})
    rain = np.maximum(rng.standard_normal(truth["total_precipitation_24hr"].shape), 0) * 1e-2
    truth["total_precipitation_24hr"] = truth["total_precipitation_24hr"].copy(data=rain)
    truth["total_precipitation_24hr"].attrs["units"] = "m"
    valid = FORECAST["init_time"] + FORECAST["lead_time"]
    perfect = truth.sel(time=valid).drop_vars("time")
    dry = perfect.copy()
    dry["total_precipitation_24hr"] = 0 * perfect["total_precipitation_24hr"]
    config = EvaluationConfig(num_resamples=0, baselines=[])
    forecasts = {"perfect": perfect, "dry": dry}
    scores = evaluate(forecasts, truth, make_coefficients(truth), config, training=truth)
    np.testing.assert_array_equal(scores["seeps"].sel(forecast="perfect"), 0)
    # A third of the wet half is heavy: p 0 + 2/3 (1 - p) 1/2 /(1 - p) + 1/3 (1 - p) 2 / (1 - p)
    np.testing.assert_allclose(scores["seeps"].sel(forecast="dry"), 1, atol=0.06)


def brute_fractions(events: np.ndarray, width: int) -> np.ndarray:
    """Shares of n x n squares of the cells with an event, on a globe: Roberts and Lean, eq. 2."""
    rows, columns = events.shape
    found, reach = np.zeros(events.shape), range(-(width // 2), width // 2 + 1)
    for y, x, dy, dx in product(range(rows), range(columns), reach, reach):
        if 0 <= y + dy < rows:  # not beyond a pole
            found[y, x] += events[y + dy, (x + dx) % columns] / width**2
    return found


def test_cells_that_are_missing_have_no_event_in_forecast_and_truth() -> None:
    rng = np.random.default_rng(0)
    truth, forecast = rng.random((2, 6, 8))
    thresholds = np.full((1, 6, 8), 0.6)
    truth[2:4, 1:4], forecast[0, 6], thresholds[0, 5, 5] = np.nan, np.nan, np.nan
    known = np.isfinite(truth + forecast + thresholds[0])
    weights = GRID.area_weights()[:, :8] / GRID.area_weights()[:, :8].sum()
    found = event_statistics(forecast[None, None], truth[None], thresholds, [1, 3, 5],
                             Averager(weights[None]))  # fmt: skip
    area = np.where(known, weights, 0) / weights[known].sum()
    p, o = ((known & (field > 0.6)).astype(float) for field in (forecast, truth))
    assert found["brier"].item() == pytest.approx((area * (p - o) ** 2).sum())
    for index, width in enumerate((1, 3, 5)):
        ours, theirs = brute_fractions(p, width), brute_fractions(o, width)
        error, reference = (found[f"fraction_{n}"][0, 0, index, 0] for n in ("error", "reference"))
        assert error == pytest.approx((area * (ours - theirs) ** 2).sum())
        assert reference == pytest.approx((area * (ours**2 + theirs**2)).sum())


def test_a_perfect_forecast_has_full_fraction_skill_over_the_sea() -> None:
    """Truth is missing on land, where the forecast has values."""
    valid = FORECAST["init_time"] + FORECAST["lead_time"]
    perfect = TRUTH.sel(time=valid).drop_vars("time")
    sea = TRUTH.where((TRUTH["longitude"] < 100) | (TRUTH["latitude"] > 20))
    config = EvaluationConfig(
        num_resamples=0, quantiles=[0.8], neighborhoods=[1, 3, 5], baselines=[], channels=["t2m"]
    )
    scores = evaluate(
        {"m": perfect}, sea.transpose("time", ...), COEFFICIENTS, config, training=TRUTH
    )
    np.testing.assert_array_equal(scores["fraction_skill_score"], 1)
    np.testing.assert_array_equal(scores["brier_score"], 0)


def test_neighborhoods_end_where_the_grid_does_not_close() -> None:
    """Events at both sides of a region meet on the globe, and on a torus those above and below."""
    field = np.zeros((6, 6))
    field[0, 0] = 9.0
    assert neighborhood_mean(field, 3, closed=(False, False)).sum() == pytest.approx(4)
    assert neighborhood_mean(field, 3, closed=(True, True)).sum() == pytest.approx(9)
    region = {"longitude": slice(0, 4)}
    truth, forecast = TRUTH.isel(region), FORECAST.isel(region)
    config = EvaluationConfig(
        num_resamples=0, quantiles=[0.5], neighborhoods=[3], baselines=[], channels=["t2m"]
    )
    coefficients = make_coefficients(truth)
    scores = evaluate({"m": forecast}, truth, coefficients, config, training=truth)
    # The same columns of a globe whose other columns have no values.
    globe = TRUTH.where(TRUTH["longitude"] < 120).transpose("time", ...)
    alone = evaluate({"m": FORECAST}, globe, COEFFICIENTS, config, training=TRUTH)
    np.testing.assert_allclose(
        scores["fraction_skill_score"], alone["fraction_skill_score"], rtol=1e-12
    )

"""Events, extremes and precipitation against their definitions."""

import math

import numpy as np
import pytest
import xarray as xr

from fourcastnet_afno.evaluation.config import EvaluationConfig
from fourcastnet_afno.evaluation.evaluate import evaluate
from fourcastnet_afno.evaluation.events import (
    event_statistics,
    neighborhood_mean,
    relative_quantile_error,
    reliability,
    seeps,
)
from fourcastnet_afno.evaluation.statistics import Averager
from tests.fourcastnet_afno.evaluation.builders import (
    GRID,
    HOUR,
    START,
    make_climatology,
    make_forecast,
    make_truth,
)

WEIGHTS = GRID.area_weights() / GRID.area_weights().sum()


def test_neighborhoods_close_in_longitude_and_end_at_the_poles() -> None:
    fields = np.random.default_rng(0).random((2, 5, 6))
    found = neighborhood_mean(fields, 3)
    for field, i, j in np.ndindex(*fields.shape):
        total = 0.0
        for di in (-1, 0, 1):
            for dj in (-1, 0, 1):
                if 0 <= i + di < 5:
                    total += fields[field, i + di, (j + dj) % 6]
        assert found[field, i, j] == pytest.approx(total / 9)


def test_brier_and_fraction_skill_by_hand() -> None:
    """Two cells of equal weight: both members exceed in the first, one in the second."""
    members = np.array([[[[1.0, 1.0]], [[1.0, -1.0]]]])
    truth = np.array([[[1.0, -1.0]]])
    averager = Averager(np.full((1, 1, 2), 0.5))
    found = event_statistics(members, truth, np.zeros((1, 1, 2)), [1], averager)
    # p = (1, 1/2), event = (1, 0): the mean of 0 and 1/4.
    assert found["brier"].item() == pytest.approx(0.125)
    assert found["fraction_error"].item() == pytest.approx(0.125)
    assert found["fraction_reference"].item() == pytest.approx((1 + 0.25) / 2 + 0.5)
    bins = reliability(members, truth, np.zeros((1, 1, 2)), np.full((1, 2), 0.5))[0, 0]
    assert bins[0, 10] == bins[0, 5] == 0.5
    assert (bins[2, 10], bins[2, 5]) == (0.5, 0)


def test_perfect_and_constant_forecasts_of_events() -> None:
    truth = make_truth()
    perfect = make_forecast(truth, noise=0.0)
    config = EvaluationConfig(quantiles=[0.5, 0.9], neighborhoods=[1, 3], baselines=["climatology"])
    scores = evaluate({"ours": perfect}, truth, make_climatology(truth), config, training=truth)
    ours = scores.sel(forecast="ours")
    np.testing.assert_array_equal(ours["brier_score"], 0)
    np.testing.assert_allclose(ours["fraction_skill_score"], 1, rtol=1e-12)
    assert ours["brier_score"].dims == ("lead_time", "channel", "quantile")
    assert ours["fraction_skill_score"].dims[-2:] == ("quantile", "neighborhood")
    # The climatology is near the median: it never exceeds the 0.9 quantile, truth in a tenth.
    never = scores["brier_score"].sel(forecast="climatology", quantile=0.9)
    np.testing.assert_allclose(never.mean(), 0.1, atol=0.02)
    weight = scores["reliability_weight"].sel(forecast="ours")
    np.testing.assert_allclose(weight.sum("probability_bin"), 1, rtol=1e-12)
    certain = scores["reliability_frequency"].sel(forecast="ours")
    np.testing.assert_array_equal(certain.isel(probability_bin=0), 0)
    np.testing.assert_array_equal(certain.isel(probability_bin=10), 1)


def test_a_forecast_with_weak_extremes_has_a_negative_quantile_error() -> None:
    truth = np.random.default_rng(0).random((3, 40, 50)) + 1
    regions = np.full((1, 40, 50), 1 / 2000)
    found = relative_quantile_error(0.9 * truth, truth, regions)
    np.testing.assert_allclose(found, -0.1, rtol=1e-9)
    q = 1 - np.logspace(-1, -4, 50)
    ours, theirs = np.quantile(truth[0] ** 2, q), np.quantile(truth[0], q)
    expected = np.mean((ours - theirs) / theirs)
    found = relative_quantile_error(truth[:1] ** 2, truth[:1], regions)
    assert found.item() == pytest.approx(expected, rel=1e-12)


def test_seeps_by_hand() -> None:
    """The matrix of Rodwell et al. for p = 1/2, and cells that are always dry left out."""
    values = {"dry": 0.0, "light": 1.0, "heavy": 5.0}
    expected = {
        ("dry", "dry"): 0, ("dry", "light"): 1, ("dry", "heavy"): 4,
        ("light", "dry"): 1, ("light", "light"): 0, ("light", "heavy"): 3,
        ("heavy", "dry"): 1.6, ("heavy", "light"): 0.6, ("heavy", "heavy"): 0,
    }  # fmt: skip
    half, heavy = np.full((1, 1), 0.5), np.full((1, 1), 3.0)
    for (forecast, truth), score in expected.items():
        fields = (np.full((1, 1, 1), values[name]) for name in (forecast, truth))
        assert seeps(*fields, half, heavy, 0.25).item() == pytest.approx(score)
    dry = seeps(np.zeros((1, 1, 1)), np.zeros((1, 1, 1)), np.full((1, 1), 0.9), heavy, 0.25)
    assert np.isnan(dry).all()


def test_seeps_does_not_reward_constant_forecasts() -> None:
    """Equitable: with the climatological frequencies a constant category has the score 1."""
    p = 0.4
    truth = np.repeat([0.0, 1.0, 5.0], [4, 4, 2]).reshape(10, 1, 1)
    for value in (0.0, 1.0, 5.0):
        forecast = np.full((10, 1, 1), value)
        scores = seeps(forecast, truth, np.full((1, 1), p), np.full((1, 1), 3.0), 0.25)
        assert scores.mean() == pytest.approx(1)


def make_rain(num_times: int) -> xr.Dataset:
    rng = np.random.default_rng(3)
    wet = rng.random((num_times, *GRID.shape)) < 0.5
    values = 1e-2 * wet * rng.exponential(size=wet.shape)
    dims = ("time", "latitude", "longitude")
    times = START + np.arange(num_times) * 6 * HOUR
    data = {"total_precipitation_24hr": (dims, values.astype("f4"), {"units": "m"})}
    return xr.Dataset(data, coords={"time": times, **GRID.coords})


def test_seeps_of_an_evaluation_from_training_years_and_from_tables() -> None:
    truth = make_rain(200)
    forecast = make_forecast(truth, noise=1e-3)
    config = EvaluationConfig(baselines=["climatology"])
    mean = make_climatology(truth)
    scores = evaluate({"ours": forecast}, truth, mean, config, training=truth)
    found = scores["seeps"].sel(forecast="ours").squeeze()
    name = "total_precipitation_24hr"
    rain = truth[name].values.astype(float)
    dry = 1 - (rain > 0.25e-3).mean(axis=0)
    heavy = np.nanquantile(np.where(rain > 0.25e-3, rain, np.nan), 2 / 3, axis=0)
    valid = forecast["init_time"] + forecast["lead_time"]
    actual = truth[name].sel(time=valid).values.astype(float)
    cells = seeps(forecast[name].values, actual, dry, heavy, 0.25e-3)
    weights = WEIGHTS * np.isfinite(cells)
    expected = np.nansum(weights * cells, axis=(-2, -1)) / weights.sum(axis=(-2, -1))
    np.testing.assert_allclose(found, expected.mean(axis=0), rtol=1e-9)
    assert (scores["seeps"].sel(forecast="climatology") > found).all()
    # The same from WeatherBench 2's variables, by day of year and hour.
    from fourcastnet_afno.evaluation.climatologies import from_table

    axes = {"hour": [0, 6, 12, 18], "dayofyear": np.arange(1, 367)}
    ones = xr.DataArray(np.ones((4, 366)), coords=axes, dims=("hour", "dayofyear"))
    fields = {f"{name}_seeps_dry_fraction": dry, f"{name}_seeps_threshold": heavy}
    fields[name] = rain.mean(axis=0)
    space = ("latitude", "longitude")
    table = xr.Dataset(
        {n: ones * xr.DataArray(v, coords=GRID.coords, dims=space) for n, v in fields.items()}
    )
    again = evaluate({"ours": forecast}, truth, from_table(table), config)
    np.testing.assert_allclose(again["seeps"].sel(forecast="ours").squeeze(), found, rtol=1e-9)
    assert math.isfinite(float(again["acc"].mean()))

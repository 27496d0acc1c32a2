"""Missing and infinite values of a task."""

import numpy as np
import pytest
import xarray as xr

from fourcastnet_afno.evaluation.config import EvaluationConfig
from fourcastnet_afno.evaluation.evaluate import evaluate
from tests.builders.errors import rejects
from tests.builders.forecasts import GRID, make_climatology, make_forecast, make_truth

CONFIG = EvaluationConfig(baselines=["persistence", "climatology"])


@pytest.fixture(scope="module")
def truth() -> xr.Dataset:
    return make_truth()


def score(
    truth: xr.Dataset, config: EvaluationConfig = CONFIG, **forecasts: xr.Dataset
) -> xr.Dataset:
    return evaluate(forecasts, truth, make_climatology(make_truth()), config)


def test_missing_values_are_masked_and_counted(truth: xr.Dataset) -> None:
    forecast = make_forecast(truth)
    holes = forecast.copy(deep=True)
    name = "2m_temperature"
    holes[name][2, 1, 0, :3] = np.nan
    holes[name][4, 1] = np.nan
    scores = score(truth, ours=holes).sel(forecast="ours", channel=name)
    missing = scores["missing_values"].values
    np.testing.assert_array_equal(missing, [0, 3, 0, 0])
    np.testing.assert_array_equal(scores["num_init_times"], [12, 11, 12, 12])
    error = (forecast[name] - _truth_of(truth, forecast, name)).values[:, 1].astype(float)
    weights = np.broadcast_to(GRID.area_weights(), error.shape).copy()
    weights[2, 0, :3] = 0
    squares = [(w * e**2).sum() / w.sum() for w, e in zip(weights, error, strict=True)]
    expected = np.sqrt(np.mean([s for i, s in enumerate(squares) if i != 4]))
    np.testing.assert_allclose(scores["rmse"][1], expected, rtol=1e-7)


def _truth_of(truth: xr.Dataset, forecast: xr.Dataset, name: str) -> xr.DataArray:
    valid = forecast["init_time"] + forecast["lead_time"]
    return truth[name].sel(time=valid).drop_vars("time").transpose("init_time", "lead_time", ...)


def test_missing_truth_is_masked(truth: xr.Dataset) -> None:
    """As a sea-surface temperature over land: the same cells are missing everywhere."""
    forecast = make_forecast(truth)
    land = np.zeros(GRID.shape, bool)
    land[2:4, 1:5] = True
    sea = truth.copy(deep=True)
    sea["2m_temperature"].values[:, land] = np.nan
    scores = score(sea, EvaluationConfig(baselines=[]), ours=forecast)
    found = scores["rmse"].isel(forecast=0).sel(channel="2m_temperature")
    error = (forecast - sea.pipe(lambda d: _all_truth(d, forecast)))["2m_temperature"].values
    weights = GRID.area_weights() * ~land
    squares = np.nansum(weights * error.astype(float) ** 2, axis=(-2, -1)) / weights.sum()
    np.testing.assert_allclose(found, np.sqrt(squares.mean(axis=0)), rtol=1e-6)


def _all_truth(truth: xr.Dataset, forecast: xr.Dataset) -> xr.Dataset:
    valid = forecast["init_time"] + forecast["lead_time"]
    return truth.sel(time=valid).drop_vars("time")


def test_a_forecast_that_blew_up_is_named(truth: xr.Dataset) -> None:
    broken = make_forecast(truth).copy(deep=True)
    broken["geopotential"][3, 2, 0, 0, 0] = np.inf
    named = ("ours", "geopotential_500", "2001-01-02T12:00", "18 h", "2001-01-03T06:00")
    with rejects("not-finite", *named):
        score(truth, ours=broken)
    infinite = truth.copy(deep=True)
    infinite["geopotential"][9, 0, 0, 0] = -np.inf
    with rejects("not-finite", "truth", "geopotential_500", "2001-01-03T06:00"):
        score(infinite, ours=make_forecast(truth))

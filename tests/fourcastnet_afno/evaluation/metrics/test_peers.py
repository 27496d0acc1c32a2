"""Scores beside those of xskillscore, scores and properscoring, where they define the same."""

import warnings

import numpy as np
import properscoring
import pytest
import xarray as xr

from fourcastnet_afno.evaluation.config import EvaluationConfig
from fourcastnet_afno.evaluation.evaluate import evaluate
from tests.builders.evaluation_fixtures import (
    GRID,
    LEADS,
    make_coefficients,
    make_forecast,
    make_truth,
)

with warnings.catch_warnings():  # of their own imports
    warnings.simplefilter("ignore")
    import scores as scores_package
    import xskillscore


SPACE = ["latitude", "longitude"]


TRUTH = make_truth()


COEFFICIENTS = make_coefficients(TRUTH)


FORECAST = make_forecast(TRUTH, num_members=4)


FAST = EvaluationConfig(num_resamples=0, maps=False, baselines=[])


CHANNEL = "2m_temperature"


@pytest.fixture(scope="module")
def ours() -> xr.Dataset:
    scores = evaluate({"m": FORECAST}, TRUTH, COEFFICIENTS, FAST)
    return scores.sel(forecast="m", channel=CHANNEL)


@pytest.fixture(scope="module")
def fields() -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
    """Forecast, truth at the valid times, and weights of the cells."""
    valid = FORECAST["init_time"] + FORECAST["lead_time"]
    truth = TRUTH[CHANNEL].sel(time=valid).drop_vars("time")
    weights = xr.DataArray(GRID.area_weights(), dims=SPACE, coords=GRID.coords)
    return FORECAST[CHANNEL], truth, weights


def test_xskillscore(ours: xr.Dataset, fields: tuple) -> None:
    forecast, truth, weights = fields
    mean = forecast.mean("realization")
    given = {"dim": SPACE, "weights": weights}
    found = {
        "mse": xskillscore.mse(mean, truth, **given).mean("init_time"),
        "mae": xskillscore.mae(mean, truth, **given).mean("init_time"),
        "bias": xskillscore.me(mean, truth, **given).mean("init_time"),
        "correlation": xskillscore.pearson_r(mean, truth, **given).mean("init_time"),
        "crps_biased": xskillscore.crps_ensemble(
            truth, forecast, member_dim="realization", dim=SPACE, weights=weights
        ).mean("init_time"),
    }  # fmt: skip
    for name, values in found.items():
        np.testing.assert_allclose(ours[name], values, rtol=1e-10, err_msg=name)


def test_scores(ours: xr.Dataset, fields: tuple) -> None:
    forecast, truth, weights = fields
    mean = forecast.mean("realization")
    dims = ["init_time", *SPACE]
    given = {"reduce_dims": dims, "weights": weights}
    found = {
        "rmse": scores_package.continuous.rmse(mean, truth, **given),
        "mae": scores_package.continuous.mae(mean, truth, **given),
    }
    for method, name in {"ecdf": "crps_biased", "fair": "crps"}.items():
        found[name] = scores_package.probability.crps_for_ensemble(
            forecast, truth, "realization", method=method, **given
        )
    for name, values in found.items():
        np.testing.assert_allclose(ours[name], values, rtol=1e-10, err_msg=name)


def test_properscoring(ours: xr.Dataset, fields: tuple) -> None:
    forecast, truth, weights = fields
    members = forecast.transpose("init_time", "lead_time", *SPACE, "realization").values
    found = properscoring.crps_ensemble(truth.values, members)
    expected = (found * weights.values).mean(axis=(0, 2, 3))
    assert len(expected) == len(LEADS)
    np.testing.assert_allclose(ours["crps_biased"], expected, rtol=1e-10)

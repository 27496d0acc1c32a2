"""Forecasts whose scores are known, baselines, and what evaluate leaves out."""

import numpy as np
import xarray as xr

from fourcastnet_afno.evaluation.config import EvaluationConfig
from fourcastnet_afno.evaluation.evaluate import evaluate
from tests.builders import baselines
from tests.builders.errors import rejects

DAY = np.timedelta64(1, "D").astype("timedelta64[ns]")
LEADS = DAY * np.arange(1, 4)


def perfect(truth: xr.Dataset, inits: np.ndarray) -> xr.Dataset:
    return baselines.at_valid_times(lambda times: truth.sel(time=times), inits, LEADS)


def test_perfect_forecast_and_climatology(
    truth: xr.Dataset, coefficients: xr.Dataset, inits: np.ndarray
) -> None:
    forecasts = {
        "model": perfect(truth, inits),
        "climatology": baselines.climatology(coefficients, inits, LEADS),
    }
    scores = evaluate(forecasts, truth, coefficients)
    model, climatology = scores.sel(forecast="model"), scores.sel(forecast="climatology")
    np.testing.assert_array_equal(model["rmse"], 0)
    np.testing.assert_allclose(model["acc"], 1, rtol=1e-12)
    np.testing.assert_array_equal(climatology["acc"], 0)
    spectrum = scores["spectrum"]
    xr.testing.assert_equal(
        spectrum.sel(source="model", drop=True), spectrum.sel(source="truth", drop=True)
    )


def test_constant_error_is_rmse_and_bias(
    truth: xr.Dataset, coefficients: xr.Dataset, inits: np.ndarray
) -> None:
    warm = perfect(truth, inits) + 2.0
    scores = evaluate({"model": warm}, truth, coefficients)
    scores = scores.sel(forecast="model", channel="2m_temperature")
    np.testing.assert_allclose(scores["rmse"], 2, rtol=1e-6)
    np.testing.assert_allclose(scores["bias"], 2, rtol=1e-6)


def test_a_checkerboard_of_patches_of_two(
    truth: xr.Dataset, coefficients: xr.Dataset, inits: np.ndarray
) -> None:
    rows, columns = np.indices([truth.sizes[name] for name in ("latitude", "longitude")])
    board = xr.DataArray((-1.0) ** (rows + columns), dims=("latitude", "longitude"))
    growth = xr.DataArray([7.0, 14.0, 21.0], {"lead_time": LEADS})
    with xr.set_options(keep_attrs=True):
        truth, coefficients = 0 * truth + 280 + board, 0 * coefficients + 280
        forecast = perfect(truth, inits)
        forecast = (forecast + growth * board).transpose(*forecast["2m_temperature"].dims, ...)
    forecasts = {"model": forecast.assign_attrs(patch_size="2 x 2"), "of no patches": forecast}
    scores = evaluate(forecasts, truth, coefficients)
    ratios = scores["patch_energy_ratio"].sel(channel="2m_temperature")
    # Truth's checkerboard has the amplitude 1, those of the forecast 8, 15 and 22.
    np.testing.assert_allclose(ratios.sel(forecast="model"), [64, 225, 484], rtol=1e-5)
    assert ratios.drop_sel(forecast="model").isnull().all()
    assert "patch_energy_ratio" not in evaluate({"model": forecast}, truth, coefficients)


def test_valid_times_without_truth_are_counted(truth: xr.Dataset, coefficients: xr.Dataset) -> None:
    late = truth["time"].values[-2:]
    forecast = baselines.persistence(truth, late, LEADS)
    scores = evaluate({"model": forecast}, truth, coefficients).sel(forecast="model")
    assert "5 of 6 pairs of initial and lead time are left out" in scores.attrs["notes"]
    assert scores["num_init_times"].isel(channel=0).values.tolist() == [1, 0, 0]
    assert np.isnan(scores["rmse"].isel(lead_time=slice(1, None))).all()


def test_a_reference_that_is_not_scored(
    truth: xr.Dataset, coefficients: xr.Dataset, inits: np.ndarray
) -> None:
    forecasts = {"model": perfect(truth, inits)}
    with rejects("unknown-name", "evaluation.reference", "'modle'", "model, persistence"):
        evaluate(forecasts, truth, coefficients, EvaluationConfig(reference="modle"))
    with rejects("unknown-name", "evaluation.reference", "no baseline linear", "training years"):
        evaluate(forecasts, truth, coefficients, EvaluationConfig(reference="linear"))


def test_the_perfect_model_is_a_baseline_but_not_the_reference(
    truth: xr.Dataset, coefficients: xr.Dataset, inits: np.ndarray
) -> None:
    """It is given as a forecast: there is no simulator to run here."""
    config = EvaluationConfig(baselines=["perfect_model", "persistence"], spectra=False)
    forecasts = {"perfect_model": perfect(truth, inits), "model": perfect(truth, inits) + 1}
    scores = evaluate(forecasts, truth, coefficients, config)
    assert scores["forecast"].values.tolist() == ["model", "persistence", "perfect_model"]
    assert scores.attrs["reference"] == "persistence"
    del forecasts["perfect_model"]
    with rejects("no-simulator", "evaluation.baselines", "--forecast"):
        evaluate(forecasts, truth, coefficients, config)

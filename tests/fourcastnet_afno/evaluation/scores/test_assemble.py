"""One dataset of scores: cuts, groups of initial times, wind vectors, missing values."""

import numpy as np
import pytest
import xarray as xr

from fourcastnet_afno.evaluation.config import EvaluationConfig
from fourcastnet_afno.evaluation.evaluate import evaluate
from fourcastnet_afno.evaluation.scores.assemble import mean_over_inits
from tests.builders.evaluation_fixtures import (
    DAY,
    LEADS,
    make_coefficients,
    make_forecast,
    make_truth,
)

TRUTH = make_truth()


COEFFICIENTS = make_coefficients(TRUTH)


FAST = {"num_resamples": 0, "maps": False, "baselines": ["climatology"]}


@pytest.mark.parametrize("block_bytes", [1, 3000, 20_000])
@pytest.mark.parametrize("num_members", [1, 3])
def test_results_do_not_depend_on_the_cut(block_bytes: int, num_members: int) -> None:
    forecast = make_forecast(TRUTH, num_members=num_members)
    config = EvaluationConfig(**(FAST | {"maps": True, "num_threads": 3}))
    whole = evaluate({"model": forecast}, TRUTH, COEFFICIENTS, config)
    cut = evaluate({"model": forecast}, TRUTH, COEFFICIENTS, config, block_bytes=block_bytes)
    for name, array in whole.data_vars.items():
        np.testing.assert_allclose(cut[name], array, rtol=1e-12, atol=1e-12, err_msg=str(name))


def test_the_rank_histogram_of_a_reliable_ensemble_is_flat() -> None:
    rng = np.random.default_rng(0)
    forecast = make_forecast(TRUTH, num_members=3)
    center = make_forecast(TRUTH)
    for name, array in forecast.data_vars.items():
        noise = xr.DataArray(rng.standard_normal(array.shape), dims=array.dims)
        valid = center["init_time"] + center["lead_time"]
        base = TRUTH[name].sel(time=valid).drop_vars("time")
        truth_noise = xr.DataArray(rng.standard_normal(center[name].shape), dims=center[name].dims)
        forecast[name] = (base + noise + truth_noise).transpose(*array.dims)
    scores = evaluate({"m": forecast}, TRUTH, COEFFICIENTS, EvaluationConfig(**FAST))
    ranks = scores["rank_histogram_m"].mean(("lead_time", "channel")).values
    assert ranks.sum() == pytest.approx(1)
    # truth lies at distance N(0, 1) from the center of the members, as each member does
    np.testing.assert_allclose(ranks, 0.25, atol=0.02)


def test_wind_vectors_add_the_squares_of_both_components() -> None:
    names = {"temperature": "u_component_of_wind"}
    other = {"temperature": "v_component_of_wind"}
    parts = ["temperature"]
    truth = xr.merge([TRUTH[parts].rename(names), make_truth(seed=5)[parts].rename(other)])
    for name in truth.data_vars:
        truth[name].attrs["units"] = "m s-1"
    forecast = make_forecast(truth)
    coefficients = make_coefficients(truth)
    for wanted in ([], ["acc"]):
        config = EvaluationConfig(**FAST, metrics=wanted)
        scores = evaluate({"model": forecast}, truth, coefficients, config)
        winds = scores["wind_vector_rmse"].sel(forecast="model")
        assert winds["wind"].values.tolist() == ["wind_vector_500", "wind_vector_850"]
    rmse = evaluate({"model": forecast}, truth, coefficients, EvaluationConfig(**FAST))["rmse"]
    rmse = rmse.sel(forecast="model")
    u, v = (rmse.sel(channel=f"{c}_component_of_wind_850") for c in "uv")
    np.testing.assert_allclose(winds.sel(wind="wind_vector_850"), np.hypot(u, v), rtol=1e-12)


FORECAST = make_forecast(TRUTH, num_members=2)


def test_seasons_and_hours_are_scores_of_their_initial_times() -> None:
    inits = FORECAST["init_time"] + 45 * DAY  # 20 February to 11 March
    truth = TRUTH.assign_coords(time=TRUTH["time"] + 45 * DAY)
    forecast = FORECAST.assign_coords(init_time=inits)
    config = EvaluationConfig(num_resamples=0, by_season=True, by_init_hour=True, baselines=[])
    scores = evaluate({"m": forecast}, truth, COEFFICIENTS, config)
    in_march = inits.dt.month.values == 3
    for season, chosen in {"DJF": ~in_march, "MAM": in_march}.items():
        part = evaluate({"m": forecast.isel(init_time=chosen)}, truth, COEFFICIENTS, config)
        found = scores["rmse_by_season"].sel(season=season)
        np.testing.assert_allclose(found, part["rmse"], rtol=1e-12)
    assert scores["rmse_by_season"].sel(season="JJA").isnull().all()
    np.testing.assert_allclose(scores["rmse_by_init_hour"].sel(init_hour=0), scores["rmse"])


def test_what_is_missing_changes_no_score_of_the_rest() -> None:
    """Scores with times without truth and masked columns are those of the rest alone."""
    config = EvaluationConfig(
        num_resamples=0, maps=False, spectra=False, quantiles=[0.8], neighborhoods=[1],
        extremes=True, baselines=["persistence", "climatology"],
    )  # fmt: skip
    short = TRUTH.isel(time=slice(26))
    given = (COEFFICIENTS, config)
    found = evaluate({"m": FORECAST}, short, *given, training=TRUTH)
    complete = FORECAST["init_time"].values + LEADS[2] <= short["time"].values[-1]
    assert not complete.all()
    rest = evaluate({"m": FORECAST.isel(init_time=complete)}, short, *given, training=TRUTH)
    names = {str(n) for n, a in rest.data_vars.items() if {"forecast", "lead_time"} <= set(a.dims)}
    for name in names - {"num_init_times"}:
        ours, theirs = (s[name].isel(lead_time=-1) for s in (found, rest))
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12, err_msg=name)
    west = xr.where(FORECAST["longitude"] < 180, FORECAST, np.nan, keep_attrs=True)
    west = west.transpose("init_time", "lead_time", "realization", ...)
    masked = evaluate({"m": west}, TRUTH, *given, training=TRUTH).sel(forecast="m")
    half = {"longitude": slice(6)}
    truth, forecast = TRUTH.isel(half), FORECAST.isel(half)
    alone = evaluate({"m": forecast}, truth, make_coefficients(truth), config, training=truth)
    alone = alone.sel(forecast="m")
    for name in names - {"missing_values", "num_init_times"}:
        np.testing.assert_allclose(masked[name], alone[name], rtol=1e-9, err_msg=name)


def test_missing_initial_times_are_left_out_of_the_mean() -> None:
    series = np.array([[1.0, 2.0], [3.0, np.nan], [8.0, 4.0]])
    weights = np.array([[1.0, 1.0, 1.0], [2.0, 1.0, 0.0]])
    found = mean_over_inits(series, weights)
    np.testing.assert_allclose(found, [[4, 3], [5 / 3, 2]])
    assert np.isnan(mean_over_inits(series, np.array([[0.0, 1, 0]]))[0, 1])


def test_masked_cells_are_counted_and_reported() -> None:
    """A third of the columns is missing in truth, and a half in one of two forecasts."""
    sea = TRUTH.where(TRUTH["longitude"] < 240).transpose("time", ...)
    half = FORECAST.where(FORECAST["longitude"] < 180).transpose("init_time", "lead_time", ...)
    config = EvaluationConfig(num_resamples=0, maps=False, baselines=[], channels=["t2m"])
    scores = evaluate({"full": FORECAST, "half": half}, sea, COEFFICIENTS, config)
    np.testing.assert_allclose(scores["valid_share"].sel(channel="2m_temperature"), [2 / 3, 0.5])
    assert (
        "2m_temperature: of the cells 66.7% for full, 50.0% for half are scored"
        in (scores.attrs["notes"])
    )
    assert np.isnan(scores["spectrum"]).all()
    assert np.isnan(scores["effective_wavenumber"]).all()
    assert evaluate({"full": FORECAST}, TRUTH, COEFFICIENTS, config).attrs["notes"] == ""

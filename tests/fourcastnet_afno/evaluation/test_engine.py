"""Resuming, other executors, baselines, climatologies, groups and events of the whole engine."""

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from data_pipeline.channels import Channel
from data_pipeline.errors import InputError
from fourcastnet_afno.evaluation.config import EvaluationConfig
from fourcastnet_afno.evaluation.evaluate import evaluate
from fourcastnet_afno.evaluation.inputs import baselines
from fourcastnet_afno.evaluation.inputs.climatologies import Climatology, from_table, weekly_mean
from tests.builders.evaluation_fixtures import (
    DAY,
    GRID,
    LEADS,
    make_coefficients,
    make_forecast,
    make_truth,
)

TRUTH = make_truth()
COEFFICIENTS = make_coefficients(TRUTH)
FORECAST = make_forecast(TRUTH, num_members=2)
SURFACE = Channel(name="2m_temperature", units="K")


class StoppingExecutor(Executor):
    """Runs tasks at once, and stops before one of them."""

    def __init__(self, stop: int = 10**9) -> None:
        self.left = stop

    def submit(self, fn: Callable, /, *args: Any, **kwargs: Any) -> Future:  # noqa: ANN401
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        future: Future = Future()
        future.set_result(fn(*args, **kwargs))
        return future


@pytest.mark.parametrize("stop", [5, 25])
def test_a_resumed_evaluation_is_the_uninterrupted_one_bit_for_bit(
    tmp_path: Path, stop: int
) -> None:
    settings: dict = {"block_bytes": 3000, "state": tmp_path / "state.npz"}
    config = EvaluationConfig(num_resamples=20)
    given = ({"m": FORECAST}, TRUTH, COEFFICIENTS, config)
    whole = evaluate(*given, block_bytes=3000)
    with pytest.raises(KeyboardInterrupt):
        evaluate(*given, executor=StoppingExecutor(stop), **settings)
    assert settings["state"].exists()
    again = StoppingExecutor(10**6)
    xr.testing.assert_identical(evaluate(*given, executor=again, **settings), whole)
    all_of_them = StoppingExecutor(10**6)
    evaluate(*given, executor=all_of_them, block_bytes=3000)
    assert 10**6 - again.left < 10**6 - all_of_them.left
    assert not settings["state"].exists()


def test_the_state_of_another_evaluation_is_not_taken_up(tmp_path: Path) -> None:
    state = tmp_path / "state.npz"
    config = EvaluationConfig(num_resamples=0, spectra=False)
    with pytest.raises(KeyboardInterrupt):
        evaluate(
            {"m": FORECAST}, TRUTH, COEFFICIENTS, config,
            executor=StoppingExecutor(30), state=state, block_bytes=3000,
        )  # fmt: skip
    other = EvaluationConfig(num_resamples=0, regions=["tropics"], spectra=False)
    found = evaluate({"m": FORECAST}, TRUTH, COEFFICIENTS, other, state=state, block_bytes=3000)
    expected = evaluate({"m": FORECAST}, TRUTH, COEFFICIENTS, other, block_bytes=3000)
    xr.testing.assert_identical(found, expected)


# In a process of its own, as functions that the tests' type checker has wrapped cannot be sent.
_FAR_AWAY = """
from concurrent.futures import Executor, Future
import cloudpickle, xarray
from fourcastnet_afno.evaluation.config import EvaluationConfig
from fourcastnet_afno.evaluation.evaluate import evaluate
from tests.builders.evaluation_fixtures import make_coefficients, make_forecast, make_truth

class Journey(Executor):
    def submit(self, fn, /, *args):
        future = Future()
        function, arguments = cloudpickle.loads(cloudpickle.dumps((fn, args)))
        future.set_result(function(*arguments))
        return future

names = ["persistence", "climatology", "weekly_climatology", "linear"]
truth = make_truth()
for convention in ("weatherbench2", "weatherbench1", "fourcastnet"):
    config = EvaluationConfig(baselines=names, convention=convention, num_resamples=0)
    given = ({"m": make_forecast(truth)}, truth, make_coefficients(truth), config)
    far = evaluate(*given, training=truth, executor=Journey())
    assert far["forecast"].values.tolist() == ["m", *names]
    xarray.testing.assert_identical(far, evaluate(*given, training=truth))
"""


def test_every_baseline_travels_to_other_processes() -> None:
    subprocess.run([sys.executable, "-c", _FAR_AWAY], check=True)


def test_baselines_are_those_given_as_forecasts() -> None:
    inits = FORECAST["init_time"].values
    config = EvaluationConfig(num_resamples=0, baselines=["persistence", "climatology"])
    own = evaluate({"m": FORECAST}, TRUTH, COEFFICIENTS, config)
    given = {
        "a": baselines.persistence(TRUTH, inits, LEADS),
        "b": baselines.climatology(COEFFICIENTS, inits, LEADS),
    }
    scores = evaluate(given, TRUTH, COEFFICIENTS, config)
    for name, other in {"persistence": "a", "climatology": "b"}.items():
        for metric in ("rmse", "acc", "mae", "activity", "correlation"):
            np.testing.assert_allclose(
                own[metric].sel(forecast=name), scores[metric].sel(forecast=other), atol=1e-9
            )


def test_the_linear_baseline_finds_a_linear_world() -> None:
    """A rotation by a cell a day is linear: it is forecast from its principal components."""
    times = np.datetime64("2001-01-01", "ns") + np.arange(120) * DAY
    waves = np.stack([np.cos(2 * np.pi * k * (np.arange(12) - t) / 12) for t in range(120)
                      for k in (1, 2)]).reshape(120, 2, 12).sum(axis=1)  # fmt: skip
    fields = 280 + np.broadcast_to(waves[:, None], (120, *GRID.shape))
    dims = ("time", "latitude", "longitude")
    truth = xr.Dataset(
        {"2m_temperature": (dims, fields.copy(), {"units": "K"})},
        coords={"time": times, **GRID.coords},
    )
    forecast = baselines.persistence(truth, times[90:110], LEADS)
    config = EvaluationConfig(num_resamples=0, baselines=["linear", "persistence"])
    scores = evaluate(
        {"m": forecast}, truth, make_coefficients(truth), config,
        training=truth.isel(time=slice(80)),
    )  # fmt: skip
    rmse = scores["rmse"].isel(channel=0)
    assert (rmse.sel(forecast="linear") < 1e-3).all()
    assert (rmse.sel(forecast="persistence") > 0.1).all()


def test_no_linear_baseline_without_training_years() -> None:
    scores = evaluate({"m": FORECAST}, TRUTH, COEFFICIENTS, EvaluationConfig(num_resamples=0))
    assert "linear" not in scores["forecast"]
    assert "no baseline linear" in scores.attrs["notes"]


def yearly_table() -> xr.Dataset:
    """Day of the year plus the hour of day over 100."""
    days, hours = np.arange(1, 367), np.array([0, 12])
    values = days[None, :, None, None] + hours[:, None, None, None] / 100
    dims = ("hour", "dayofyear", "latitude", "longitude")
    return xr.Dataset(
        {"2m_temperature": (dims, values * np.ones((1, 1, *GRID.shape)))},
        coords={"hour": hours, "dayofyear": days, **GRID.coords},
    )


def test_a_table_is_looked_up_by_day_and_hour() -> None:
    climatology = from_table(yearly_table())
    times = np.array(["2001-01-01", "2001-12-31T12", "2004-12-31"], "datetime64[ns]")
    found = climatology.at(SURFACE, times)
    np.testing.assert_allclose(found[:, 0, 0], [1, 365.12, 366])
    np.testing.assert_allclose(climatology.mean(SURFACE), 183.5 + 0.06)
    with pytest.raises(InputError, match=r"hours of day \[0, 12\], asked for are \[6\]"):
        climatology.at(SURFACE, np.array(["2001-01-01T06"], "datetime64[ns]"))
    with pytest.raises(InputError, match="the climatology lacks 10m_wind_speed"):
        climatology.at(Channel(name="10m_wind_speed"), times)


def test_a_week_has_one_climatology() -> None:
    at = weekly_mean(from_table(yearly_table()))
    times = np.array(["2001-01-01", "2001-01-07", "2001-01-08"], "datetime64[ns]")
    # The first week holds the days 1 to 7, the second 8 to 14; the hours add 0.06.
    np.testing.assert_allclose(at(SURFACE, times)[:, 0, 0], [4.06, 4.06, 11.06])


def test_a_climatology_of_scored_years_is_warned_of() -> None:
    given = from_table(yearly_table())
    inside = Climatology(
        given.at, given.mean, "test", (np.datetime64("2001-01-10"), np.datetime64("2001-01-12"))
    )
    config = EvaluationConfig(num_resamples=0, channels=["2m_temperature"])
    scores = evaluate({"m": FORECAST}, TRUTH, inside, config)
    assert "includes 3 of the 22 valid times" in scores.attrs["notes"]


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

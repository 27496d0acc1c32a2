"""Baselines: the same as given forecasts, and a linear world."""

import numpy as np
import xarray as xr

from fourcastnet_afno.evaluation.config import EvaluationConfig
from fourcastnet_afno.evaluation.evaluate import evaluate
from tests.builders import baselines
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


def test_persistence_repeats_the_initial_state() -> None:
    forecast = baselines.persistence(TRUTH, TRUTH["time"].values[5:30], LEADS)
    for lead in LEADS:
        repeated = forecast["2m_temperature"].sel(lead_time=lead).values
        np.testing.assert_array_equal(repeated, TRUTH["2m_temperature"].values[5:30])

"""Baselines: the same as given forecasts, and a linear world."""

from itertools import product

import numpy as np
import xarray as xr

from data_pipeline.channels import Channels
from fourcastnet_afno.evaluation.config import EvaluationConfig
from fourcastnet_afno.evaluation.evaluate import evaluate, evaluate_with_baselines
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


def test_fields_are_those_that_are_scored_block_by_block() -> None:
    """RMSE by hand over all pairs that truth has equals the scores, in blocks of any length."""
    config = EvaluationConfig(
        num_resamples=0,
        baselines=["persistence", "climatology", "weekly_climatology", "linear"],
    )
    late = baselines.persistence(TRUTH, TRUTH["time"].values[[20, 30, -2]], LEADS)
    training = make_truth(60, seed=3).assign_coords(time=TRUTH["time"].values[0] - 60 * DAY
        + np.arange(60) * DAY)  # fmt: skip
    found = evaluate_with_baselines({"m": late}, TRUTH, COEFFICIENTS, config, training=training)
    assert list(found.baselines.sources) == config.baselines
    weights, inits = GRID.area_weights(), late["init_time"].values
    for name, channel in product(config.baselines, found.baselines.channels):
        actual = TRUTH[channel.name]
        actual = actual if channel.level is None else actual.sel(level=channel.level)
        squares: dict[int, list[float]] = {0: [], 1: [], 2: []}
        for init, length in product(inits, (1, 2, 100)):
            max_bytes = 8 * GRID.shape[0] * GRID.shape[1] * length
            blocks = found.baselines.blocks(name, channel, init, LEADS, max_bytes=max_bytes)
            for positions, fields in blocks:
                assert len(positions) <= length
                error = fields - actual.sel(time=init + LEADS[positions]).values
                for lead, square in zip(positions, (error**2 * weights).mean((1, 2)), strict=True):
                    squares[lead].append(square)
        assert [len(each) for each in squares.values()] == [9, 6, 6]
        scores = found.scores["rmse"].sel(forecast=name, channel=channel.label)
        by_hand = [np.sqrt(np.mean(each)) for each in squares.values()]
        np.testing.assert_allclose(scores, by_hand, rtol=1e-6)


def test_there_are_no_fields_of_what_is_not_scored() -> None:
    config = EvaluationConfig(num_resamples=0, channels=["t2m"])
    found = evaluate_with_baselines({"m": FORECAST}, TRUTH, COEFFICIENTS, config).baselines
    (channel,), (init, *_) = found.channels, FORECAST["init_time"].values
    upper = Channels.from_dataset(TRUTH, ["temperature"]).channels[0]
    assert list(found.blocks("climatology", upper, init, LEADS)) == []
    assert list(found.blocks("climatology", channel, init - DAY, LEADS)) == []
    ((positions, _),) = found.blocks("climatology", channel, init, np.array([DAY / 2, 2 * DAY]))
    assert positions.tolist() == [1]


def test_no_linear_baseline_without_training_years() -> None:
    scores = evaluate({"m": FORECAST}, TRUTH, COEFFICIENTS, EvaluationConfig(num_resamples=0))
    assert "linear" not in scores["forecast"]
    assert "no baseline linear" in scores.attrs["notes"]


def test_persistence_repeats_the_initial_state() -> None:
    forecast = baselines.persistence(TRUTH, TRUTH["time"].values[5:30], LEADS)
    for lead in LEADS:
        repeated = forecast["2m_temperature"].sel(lead_time=lead).values
        np.testing.assert_array_equal(repeated, TRUTH["2m_temperature"].values[5:30])

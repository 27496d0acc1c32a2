"""Intervals and verdicts: known answers, and what chance gives."""

import numpy as np
import pytest
import xarray as xr

from fourcastnet_afno.evaluation.config import EvaluationConfig
from fourcastnet_afno.evaluation.evaluate import evaluate
from fourcastnet_afno.evaluation.scores.assemble import mean_over_inits
from fourcastnet_afno.evaluation.scores.significance import (
    block_length,
    interval,
    resample_counts,
    verdicts,
)
from tests.builders.forecasts import make_climatology, make_forecast, make_truth


def autoregressive(count: int, r: float, series: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal((count, series))
    values = np.empty_like(noise)
    values[0] = noise[0]
    for i in range(1, count):
        values[i] = r * values[i - 1] + np.sqrt(1 - r**2) * noise[i]
    return values


def test_block_length_grows_with_the_autocorrelation() -> None:
    assert block_length(autoregressive(1000, 0.0, 50)) <= 2
    found = [block_length(autoregressive(1000, r, 50)) for r in (0.5, 0.8, 0.9)]
    expected = [(2 * r / (1 - r**2)) ** (2 / 3) * 10 for r in (0.5, 0.8, 0.9)]
    np.testing.assert_allclose(found, expected, rtol=0.15)
    assert block_length(np.zeros((5, 2))) == 1
    assert block_length(np.zeros((50, 2))) == 1


def test_resamples_are_circular_blocks_of_all_times() -> None:
    counts = resample_counts(10, 500, 4, np.random.default_rng(0))
    np.testing.assert_array_equal(counts.sum(axis=1), 10)
    assert (counts == np.round(counts)).all()
    np.testing.assert_allclose(counts.mean(axis=0), 1, atol=0.15)  # no time is favored
    neighbors = np.corrcoef(counts[:, 3], counts[:, 4])[0, 1]
    far = np.corrcoef(counts[:, 0], counts[:, 5])[0, 1]
    assert neighbors > 0.3 > far


def test_intervals_of_independent_values_are_those_of_the_mean() -> None:
    values = np.random.default_rng(0).standard_normal((400, 30))
    counts = resample_counts(400, 2000, 1, np.random.default_rng(1))
    low, high = interval(mean_over_inits(values, counts), 0.95)
    width = 2 * 1.96 * values.std(axis=0) / 20
    np.testing.assert_allclose(high - low, width, rtol=0.1)


@pytest.mark.parametrize("r", [0.0, 0.7])
def test_intervals_cover_the_truth_as_often_as_they_say(r: float) -> None:
    """Series of mean 0: in about 90 of 100 the interval of 90 % holds 0, correlated or not."""
    values = autoregressive(400, r, 200)
    counts = resample_counts(400, 500, block_length(values), np.random.default_rng(2))
    low, high = interval(mean_over_inits(values, counts), 0.9)
    covered = ((low <= 0) & (high >= 0)).mean()
    assert 0.8 <= covered <= 0.97


def test_verdicts_by_hand() -> None:
    bounds = np.array([[-2.0, -1.0, 0.5, np.nan], [-1.0, 1.0, 2.0, np.nan]])
    np.testing.assert_array_equal(verdicts(bounds), [-1, 0, 1, 0])


def test_better_worse_and_the_same_forecast() -> None:
    truth = make_truth(200)
    forecasts = {
        "reference": make_forecast(truth, 80, noise=3.0),
        "better": make_forecast(truth, 80, noise=2.5, seed=2),
        "worse": make_forecast(truth, 80, noise=3.5, seed=3),
        "same": make_forecast(truth, 80, noise=3.0, seed=4),
    }
    config = EvaluationConfig(reference="reference", baselines=["climatology"], num_resamples=300)
    scores = evaluate(forecasts, truth, make_climatology(truth), config)
    assert scores.attrs["reference"] == "reference"
    for metric in ("rmse", "mae", "acc"):
        verdict = scores[f"{metric}_verdict"]
        assert (verdict.sel(forecast="better") == -1).all()
        assert (verdict.sel(forecast="worse") == 1).all()
        assert (verdict.sel(forecast="same") == 0).mean() > 0.7
        assert (verdict.sel(forecast="reference") == 0).all()
        low, high = scores[f"{metric}_interval"].transpose("bound", ...)
        assert ((low <= scores[metric]) & (scores[metric] <= high)).mean() > 0.9
    again = evaluate(forecasts, truth, make_climatology(truth), config)
    xr.testing.assert_identical(again, scores)  # the seed is part of the settings


def test_pairing_tells_apart_what_hard_weather_would_hide() -> None:
    """Errors vary much from time to time, but one forecast is always a little better."""
    truth = make_truth(200)
    base = make_forecast(truth, 80, noise=0.0)
    rng = np.random.default_rng(0)
    hard = rng.exponential(size=(80, 1, 1, 1, 1)) * 5
    noise = rng.standard_normal((80, 4, 2, 6, 8))

    def with_error(factor: float) -> xr.Dataset:
        values = base["geopotential"].values + factor * hard * noise
        return xr.Dataset(
            {"geopotential": (base["geopotential"].dims, values.astype("f4"), {"units": "m2 s-2"})},
            coords=base.coords,
        )

    forecasts = {"theirs": with_error(1.0), "ours": with_error(0.98)}
    config = EvaluationConfig(reference="theirs", baselines=[])
    scores = evaluate(forecasts, truth, make_climatology(truth), config)
    low, high = scores["rmse_interval"].sel(forecast="theirs").transpose("bound", ...)
    ours = scores["rmse"].sel(forecast="ours")
    assert ((low < ours) & (ours < high)).all()  # the intervals overlap
    assert (scores["rmse_verdict"].sel(forecast="ours") == -1).all()  # the differences do not


TRUTH = make_truth()


FORECAST = make_forecast(TRUTH)


def test_few_initial_times_have_no_intervals() -> None:
    truth = make_truth()
    scores = evaluate({"ours": make_forecast(truth, 5)}, truth, make_climatology(truth))
    assert "rmse_interval" not in scores

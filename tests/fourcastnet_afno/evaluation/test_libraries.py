"""The same numbers as xskillscore, scores and properscoring, where they define the same thing."""

import numpy as np
import properscoring
import pytest
import scores as scores_library
import xarray as xr
import xskillscore
from scores.spatial import fss_2d_single_field

from fourcastnet_afno.evaluation.config import EvaluationConfig
from fourcastnet_afno.evaluation.ensembles import crps, rank_histogram
from fourcastnet_afno.evaluation.evaluate import evaluate
from fourcastnet_afno.evaluation.events import event_statistics, neighborhood_mean
from fourcastnet_afno.evaluation.statistics import Averager
from tests.fourcastnet_afno.evaluation.builders import (
    GRID,
    make_climatology,
    make_forecast,
    make_truth,
)

SPACE = ["latitude", "longitude"]


@pytest.fixture(scope="module")
def truth() -> xr.Dataset:
    return make_truth()


@pytest.fixture(scope="module")
def pair(truth: xr.Dataset) -> tuple[xr.DataArray, xr.DataArray]:
    """A forecast of temperature and truth, both (init_time, lead_time, latitude, longitude)."""
    forecast = make_forecast(truth)["2m_temperature"].astype(float)
    valid = forecast["init_time"] + forecast["lead_time"]
    return forecast, truth["2m_temperature"].sel(time=valid).drop_vars("time").astype(float)


@pytest.fixture(scope="module")
def found(truth: xr.Dataset) -> xr.Dataset:
    config = EvaluationConfig(baselines=[], channels=["t2m"])
    scores = evaluate({"ours": make_forecast(truth)}, truth, make_climatology(truth), config)
    return scores.squeeze()


def weights() -> xr.DataArray:
    return xr.DataArray(GRID.area_weights(), coords=GRID.coords, dims=SPACE)


def test_deterministic_scores_of_xskillscore(
    pair: tuple[xr.DataArray, xr.DataArray], found: xr.Dataset
) -> None:
    area = weights()
    mean_square = xskillscore.mse(*pair, dim=SPACE, weights=area)
    np.testing.assert_allclose(found["mse"], mean_square.mean("init_time"), rtol=1e-10)
    absolute = xskillscore.mae(*pair, dim=SPACE, weights=area).mean("init_time")
    np.testing.assert_allclose(found["mae"], absolute, rtol=1e-10)
    correlation = xskillscore.pearson_r(*pair, dim=SPACE, weights=area).mean("init_time")
    np.testing.assert_allclose(found["correlation"], correlation, rtol=1e-10)


def test_deterministic_scores_of_scores(
    pair: tuple[xr.DataArray, xr.DataArray], found: xr.Dataset
) -> None:
    options = {"weights": weights(), "preserve_dims": ["lead_time"]}
    expected = scores_library.continuous.rmse(*pair, **options)
    np.testing.assert_allclose(found["rmse"], expected, rtol=1e-10)
    expected = scores_library.continuous.additive_bias(*pair, **options)
    np.testing.assert_allclose(found["bias"], expected, rtol=1e-8)


def test_mean_of_roots_of_xskillscore(
    truth: xr.Dataset, pair: tuple[xr.DataArray, xr.DataArray]
) -> None:
    config = EvaluationConfig(convention="weatherbench1", baselines=[], channels=["t2m"])
    scores = evaluate({"ours": make_forecast(truth)}, truth, make_climatology(truth), config)
    cosines = np.cos(np.deg2rad(pair[0]["latitude"])) * xr.ones_like(pair[0]["longitude"])
    root = xskillscore.rmse(*pair, dim=SPACE, weights=cosines).mean("init_time")
    np.testing.assert_allclose(scores["rmse"].squeeze(), root, rtol=1e-10)


@pytest.fixture(scope="module")
def ensemble() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((5, 6, *GRID.shape)), rng.standard_normal((5, *GRID.shape))


def test_crps_of_three_libraries(ensemble: tuple[np.ndarray, np.ndarray]) -> None:
    members, truth = ensemble
    expected = properscoring.crps_ensemble(truth, np.moveaxis(members, 1, -1))
    np.testing.assert_allclose(crps(members, truth, "biased"), expected, rtol=1e-10)
    f = xr.DataArray(members, dims=["time", "member", *SPACE])
    o = xr.DataArray(truth, dims=["time", *SPACE])
    for ours, theirs in (("biased", "ecdf"), ("fair", "fair")):
        expected = scores_library.probability.crps_for_ensemble(
            f, o, "member", method=theirs, preserve_dims="all"
        )
        np.testing.assert_allclose(crps(members, truth, ours), expected, rtol=1e-10)
    expected = xskillscore.crps_ensemble(o, f, dim=[])
    np.testing.assert_allclose(crps(members, truth, "biased"), expected, rtol=1e-10)


def test_brier_score_of_xskillscore_and_properscoring(
    ensemble: tuple[np.ndarray, np.ndarray],
) -> None:
    members, truth = ensemble
    averager = Averager(weights().values[None] / weights().values.sum())
    found = event_statistics(members, truth, np.full((1, *GRID.shape), 0.5), [1], averager)
    probability = (members > 0.5).mean(axis=1)
    p = xr.DataArray(probability, dims=["time", *SPACE])
    o = xr.DataArray(truth > 0.5, dims=["time", *SPACE])
    area = weights().drop_vars(SPACE)
    expected = xskillscore.brier_score(o, p, dim=SPACE, weights=area)
    np.testing.assert_allclose(found["brier"][:, 0, 0], expected, rtol=1e-10)
    cells = properscoring.threshold_brier_score(truth, np.moveaxis(members, 1, -1), threshold=0.5)
    expected = (cells * averager.weights[0]).sum(axis=(1, 2))
    np.testing.assert_allclose(found["brier"][:, 0, 0], expected, rtol=1e-10)


def test_rank_histogram_of_xskillscore(ensemble: tuple[np.ndarray, np.ndarray]) -> None:
    members, truth = ensemble
    f = xr.DataArray(members, dims=["time", "member", *SPACE])
    o = xr.DataArray(truth, dims=["time", *SPACE])
    counts = xskillscore.rank_histogram(o, f, dim=["time", *SPACE])
    cells = np.full(GRID.shape, 1 / np.prod(GRID.shape))
    found = rank_histogram(members, truth, cells).sum(axis=0) * np.prod(GRID.shape)
    np.testing.assert_allclose(found, counts, rtol=1e-10)


@pytest.mark.parametrize("width", [1, 3])
def test_fraction_skill_of_scores(width: int) -> None:
    """Without cells beyond the edges, which the libraries treat otherwise than a sphere."""
    rng = np.random.default_rng(0)
    f, o = rng.random((2, 12, 14))
    expected = fss_2d_single_field(f, o, event_threshold=0.6, window_size=(width, width))
    inner = slice(width // 2, 12 - width // 2), slice(width // 2, 14 - width // 2)
    ours, theirs = (neighborhood_mean((x > 0.6).astype(float), width)[inner] for x in (f, o))
    error = ((ours - theirs) ** 2).sum()
    assert 1 - error / ((ours**2).sum() + (theirs**2).sum()) == pytest.approx(expected, rel=1e-10)

"""Events and ranks beside those of xskillscore, scores and properscoring."""

import numpy as np
import properscoring
import pytest
import xarray as xr
import xskillscore
from scores.categorical import seeps
from scores.spatial import fss_2d_single_field

from fourcastnet_afno.evaluation.metrics.ensembles import rank_histogram
from fourcastnet_afno.evaluation.metrics.events import (
    cell_seeps,
    event_statistics,
    neighborhood_mean,
)
from fourcastnet_afno.evaluation.statistics.averages import Averager
from tests.builders.forecasts import GRID

SPACE = ["latitude", "longitude"]


def weights() -> xr.DataArray:
    return xr.DataArray(GRID.area_weights(), coords=GRID.coords, dims=SPACE)


@pytest.fixture(scope="module")
def ensemble() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((5, 6, *GRID.shape)), rng.standard_normal((5, *GRID.shape))


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


@pytest.mark.parametrize("width", [1, 3, 5])
def test_fraction_skill_of_scores_on_a_region_with_edges(width: int) -> None:
    """Cells beyond the edges have no event, as if zeros surrounded the region."""
    f, o = np.random.default_rng(0).random((2, 12, 14))
    padded = [np.pad(field, width // 2) for field in (f, o)]
    expected = fss_2d_single_field(*padded, event_threshold=0.6, window_size=(width, width))
    ours, theirs = (
        neighborhood_mean((x > 0.6).astype(float), width, closed=(False, False)) for x in (f, o)
    )
    found = 1 - ((ours - theirs) ** 2).sum() / (ours**2 + theirs**2).sum()
    assert found == pytest.approx(expected, rel=1e-10)


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


def test_seeps_of_scores_with_thresholds_that_are_missing() -> None:
    rng = np.random.default_rng(0)
    forecast, truth = rng.gamma(0.4, 8.0, (2, 20, *GRID.shape))
    dry_fraction, heavy = rng.uniform(0, 1, GRID.shape), rng.uniform(3, 9, GRID.shape)
    dry_fraction[0, :3], heavy[1, :3] = np.nan, np.nan
    found = cell_seeps(forecast, truth, dry_fraction, heavy, 0.25)
    dims = ("time", "row", "column")
    expected = seeps(
        *(xr.DataArray(values, dims=dims) for values in (forecast, truth)),
        *(xr.DataArray(values, dims=dims[1:]) for values in (dry_fraction, heavy)),
        dry_light_threshold=0.25,
        lower_masked_value=0.1,
        upper_masked_value=0.85,
        reduce_dims=[],
    )
    assert np.isnan(found).sum() == np.isnan(expected).sum() > 6 * 20
    np.testing.assert_allclose(found, expected, rtol=1e-12)

"""Scores against an independent reading of their definitions, in loops over numbers."""

import math

import numpy as np
import pytest
import xarray as xr

from data_pipeline.grids.grid import LatLonGrid
from fourcastnet_afno.evaluation.config import EvaluationConfig
from fourcastnet_afno.evaluation.evaluate import evaluate
from fourcastnet_afno.evaluation.metrics.deterministic import correlation_time, mean_patch_ratio
from fourcastnet_afno.evaluation.regions import REGIONS
from tests.builders.forecasts import (
    GRID,
    make_climatology,
    make_forecast,
    make_truth,
    stacked,
    truth_at,
)

REGION_NAMES = ["global", "tropics", "europe", "extratropics"]


@pytest.fixture(scope="module")
def truth() -> xr.Dataset:
    return make_truth()


@pytest.fixture(scope="module")
def forecast(truth: xr.Dataset) -> xr.Dataset:
    return make_forecast(truth)


def cell_areas(grid: LatLonGrid) -> list[list[float]]:
    """Areas from the sines of the bounds, written anew for rows half a cell from the poles."""
    rows, columns = grid.shape
    step = 180 / rows
    return [
        [
            math.sin(math.radians(90 - step * row)) - math.sin(math.radians(90 - step * (row + 1)))
            for _ in range(columns)
        ]
        for row in range(rows)
    ]


def weighted_mean(values: np.ndarray, weights: list[list[float]]) -> float:
    rows, columns = values.shape
    total = math.fsum(
        weights[i][j] * float(values[i, j]) for i in range(rows) for j in range(columns)
    )
    return total / math.fsum(w for row in weights for w in row)


def climatology_at(truth: xr.Dataset, forecast: xr.Dataset) -> np.ndarray:
    """The mean of each hour of day at the valid times, in float32 as stores hold it."""
    means = np.stack(
        [
            stacked(truth.isel(time=slice(i, None, 4)).mean("time", keep_attrs=True))
            for i in range(4)
        ]
    ).astype(np.float32)
    valid = forecast["init_time"].values[:, None] + forecast["lead_time"].values
    return means[valid.astype("datetime64[h]").astype(int) % 24 // 6].astype(np.float64)


def test_scores_are_those_of_loops_over_numbers(truth: xr.Dataset, forecast: xr.Dataset) -> None:
    config = EvaluationConfig(regions=REGION_NAMES, baselines=[])
    scores = evaluate({"ours": forecast}, truth, make_climatology(truth), config).isel(forecast=0)
    f, o, c = stacked(forecast), truth_at(truth, forecast), climatology_at(truth, forecast)
    inits = range(len(f))
    for region in REGION_NAMES:
        inside = REGIONS[region].mask(GRID)
        areas = cell_areas(GRID)
        weights = [
            [a * bool(m) for a, m in zip(*rows, strict=True)]
            for rows in zip(areas, inside, strict=True)
        ]

        def mean(values: np.ndarray, weights: list = weights) -> float:
            return weighted_mean(values, weights)

        for lead, channel in ((0, 0), (3, 5), (2, 6)):
            cells = (slice(None), lead, channel)
            ff, oo, cc = f[cells], o[cells], c[cells]
            found = scores.sel(region=region).isel(lead_time=lead, channel=channel)
            squares = [mean((ff[i] - oo[i]) ** 2) for i in inits]
            expected = {
                "mse": np.mean(squares),
                "rmse": math.sqrt(np.mean(squares)),
                "mae": np.mean([mean(abs(ff[i] - oo[i])) for i in inits]),
                "bias": np.mean([mean(ff[i] - oo[i]) for i in inits]),
                "acc": np.mean(
                    [
                        mean((ff[i] - cc[i]) * (oo[i] - cc[i]))
                        / math.sqrt(mean((ff[i] - cc[i]) ** 2) * mean((oo[i] - cc[i]) ** 2))
                        for i in inits
                    ]
                ),
                "activity": math.sqrt(
                    np.mean([mean((ff[i] - cc[i] - mean(ff[i] - cc[i])) ** 2) for i in inits])
                ),
                "correlation": np.mean(
                    [
                        mean((ff[i] - mean(ff[i])) * (oo[i] - mean(oo[i])))
                        / math.sqrt(
                            mean((ff[i] - mean(ff[i])) ** 2) * mean((oo[i] - mean(oo[i])) ** 2)
                        )
                        for i in inits
                    ]
                ),
                "relative_l2": np.mean([math.sqrt(squares[i] / mean(oo[i] ** 2)) for i in inits]),
                "nrmse": math.sqrt(np.mean(squares) / np.mean([mean(oo[i] ** 2) for i in inits])),
                "vrmse": np.mean(
                    [math.sqrt(squares[i] / mean((oo[i] - mean(oo[i])) ** 2)) for i in inits]
                ),
            }
            for name, value in expected.items():
                assert float(found[name]) == pytest.approx(value, rel=1e-10), (name, region)


@pytest.mark.parametrize("convention", ["weatherbench2", "weatherbench1", "fourcastnet"])
def test_perfect_and_biased_forecasts(truth: xr.Dataset, convention: str) -> None:
    perfect = make_forecast(truth, noise=0.0)
    warm = (perfect + 2).assign(
        {n: (perfect[n] + 2).assign_attrs(perfect[n].attrs) for n in perfect}
    )
    config = EvaluationConfig(convention=convention)  # type: ignore[arg-type]
    scores = evaluate({"perfect": perfect, "warm": warm}, truth, make_climatology(truth), config)
    ours = scores.sel(forecast="perfect")
    for name in ("rmse", "mse", "mae", "bias", "relative_l2", "nrmse", "vrmse"):
        np.testing.assert_array_equal(ours[name], 0)
    for name in ("acc", "correlation", "standard_deviation_ratio"):
        np.testing.assert_allclose(ours[name], 1, rtol=1e-12)
    np.testing.assert_array_equal(ours["effective_wavenumber"], 4)
    for name in ("rmse", "mae", "bias"):
        np.testing.assert_allclose(scores[name].sel(forecast="warm"), 2, rtol=1e-6)
    np.testing.assert_allclose(scores["mse"].sel(forecast="warm"), 4, rtol=1e-6)
    if convention == "weatherbench2":
        np.testing.assert_array_equal(scores["acc"].sel(forecast="climatology"), 0)
    assert np.isnan(ours["correlation_time_hours"]).all()


def test_neither_axis_hides_the_edges_along_the_other() -> None:
    x, ox = np.array([[30, 1], [0, 0], [8, 2], [1, 0]], float).T  # energies along rows, of truth
    y, oy = np.array([[1000, 1000], [6, 2], [0, 0], [1, 0]], float).T
    np.testing.assert_array_equal(mean_patch_ratio(x, y, ox, oy), [15.5, 3, 4, np.nan])


def test_correlation_time_lies_between_lead_times() -> None:
    values = np.array([[1.0, 0.7, 0.9], [0.9, 0.6, 0.9], [0.7, 0.5, 0.85]])
    found = correlation_time(values, np.array([6.0, 12, 18]))
    np.testing.assert_allclose(found, [15, 0, np.nan])


def test_correlation_time_of_missing_lead_times() -> None:
    """It is between those that have a correlation; unknown if nothing before the fall is known."""
    nan = np.nan
    values = np.array([[0.9, 0.9, nan, nan], [nan, nan, 0.5, nan], [0.7, nan, 0.5, nan]])
    found = correlation_time(values, np.array([6.0, 12, 18]))
    np.testing.assert_allclose(found, [12, nan, nan, nan])

"""Scores against an independent reading of their definitions, in loops over numbers."""

import math

import numpy as np
import pytest
import xarray as xr

from data_pipeline.grids.grid import LatLonGrid
from fourcastnet_afno.evaluation.config import EvaluationConfig
from fourcastnet_afno.evaluation.evaluate import evaluate
from fourcastnet_afno.evaluation.regions import REGIONS, region_weights
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


def test_wind_vectors_add_the_squares_of_their_components(
    truth: xr.Dataset, forecast: xr.Dataset
) -> None:
    config = EvaluationConfig(baselines=[])
    scores = evaluate({"ours": forecast}, truth, make_climatology(truth), config).isel(forecast=0)
    assert scores["wind"].values.tolist() == ["wind_vector_500", "wind_vector_850"]
    error = stacked(forecast) - truth_at(truth, forecast)  # channels: z, z, u, u, v, v, t
    squares = error[:, :, 2:4] ** 2 + error[:, :, 4:6] ** 2
    expected = np.sqrt((GRID.area_weights() * squares).mean(axis=(-2, -1)).mean(axis=0))
    np.testing.assert_allclose(scores["wind_vector_rmse"].values, expected, rtol=1e-12)


def test_conventions_on_two_by_three_by_hand() -> None:
    """Two initial times, rows at 30 and -60 degrees: areas and cosines differ."""
    grid = LatLonGrid(latitude=(30.0, -60.0), longitude=(0.0, 120.0, 240.0))
    day = np.timedelta64(24, "h").astype("timedelta64[ns]")
    times = np.datetime64("2001-01-01", "ns") + np.arange(3) * day
    o = np.array([[[9, 9, 9], [9, 9, 9]], [[1, 2, 3], [0, 1, -1]], [[2, 0, 1], [1, 1, 4]]], float)
    f = o[1:] + np.array([[[1, 0, 0], [0, 2, 0]], [[0, 0, 3], [1, 0, 0]]])
    dims, attrs = ("time", "latitude", "longitude"), {"units": "K"}
    truth = xr.Dataset({"2m_temperature": (dims, o, attrs)}, {"time": times, **grid.coords})
    forecast = xr.Dataset(
        {"2m_temperature": (("init_time", "lead_time", *dims[1:]), f[:, None], attrs)},
        {"init_time": times[:2], "lead_time": [day], **grid.coords},
    )
    constant = xr.Dataset(
        {"2m_temperature": (("hour", "harmonic", *dims[1:]), np.ones((1, 1, 2, 3)), attrs)},
        {"hour": [0], "harmonic": [0], **grid.coords},
    )

    def score(convention: str) -> xr.Dataset:
        config = EvaluationConfig(convention=convention, baselines=[])  # type: ignore[arg-type]
        return evaluate({"ours": forecast}, truth, constant, config).squeeze()

    # Bounds of the rows: 75, -15 and -90 (clipped from -105).
    north = math.sin(math.radians(75)) + math.sin(math.radians(15))
    south = 1 - math.sin(math.radians(15))
    total = 3 * (north + south)
    squares = [(north * 1 + south * 4) / total, (north * 9 + south * 1) / total]
    found = score("weatherbench2")
    assert float(found["rmse"]) == pytest.approx(math.sqrt(sum(squares) / 2), rel=1e-12)
    correlations = []
    for a, b in zip(f - 1, o[1:] - 1, strict=True):
        sums = [(north * x[0] + south * x[1]).sum() for x in (a * b, a * a, b * b)]
        correlations.append(sums[0] / math.sqrt(sums[1] * sums[2]))
    assert float(found["acc"]) == pytest.approx(sum(correlations) / 2, rel=1e-12)

    # Cosines of 30 and -60 degrees: their sum over the cells is 3 (0.866 + 0.5).
    north, south = math.cos(math.radians(30)), math.cos(math.radians(60))
    total = 3 * (north + south)
    squares = [(north * 1 + south * 4) / total, (north * 9 + south * 1) / total]
    expected = (math.sqrt(squares[0]) + math.sqrt(squares[1])) / 2
    for name in ("weatherbench1", "fourcastnet"):
        assert float(score(name)["rmse"]) == pytest.approx(expected, rel=1e-12)
    # WeatherBench 1: anomalies from the mean of the scored truth, centered without weights, pooled.
    mean = o[1:].mean(axis=0)
    a, b = f - mean, o[1:] - mean
    a, b = a - a.mean(), b - b.mean()
    sums = [(north * x[:, 0] + south * x[:, 1]).sum() for x in (a * b, a * a, b * b)]
    expected = sums[0] / math.sqrt(sums[1] * sums[2])
    assert float(score("weatherbench1")["acc"]) == pytest.approx(expected, rel=1e-12)


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


def test_boxes_of_regions_are_those_of_weatherbench2() -> None:
    grid = LatLonGrid.equiangular(181, 360, poles=True)
    latitude, longitude = grid.coords["latitude"][:, None], grid.coords["longitude"][None, :]
    east = longitude <= 42.5
    expected = {
        "tropics": (abs(latitude) <= 20) & (longitude >= 0),
        "extratropics": (abs(latitude) >= 20) & (longitude >= 0),
        "europe": (latitude >= 35) & (latitude <= 75) & (east | (longitude >= 347.5)),
        "north_pacific": (latitude >= 25)
        & (latitude <= 60)
        & (longitude >= 145)
        & (longitude <= 230),
    }
    for name, mask in expected.items():
        np.testing.assert_array_equal(REGIONS[name].mask(grid), mask)
    weights = region_weights(list(REGIONS), grid, grid.area_weights())
    np.testing.assert_allclose(weights.sum(axis=(1, 2)), 1, rtol=1e-12)
    # Half the sphere lies within 30 degrees of the equator; sin(20 degrees) of it within 20.
    inside = (grid.area_weights() * REGIONS["tropics"].mask(grid)).mean()
    assert inside == pytest.approx(math.sin(math.radians(20.5)), rel=1e-12)


def test_regions_without_longitudes_centered_on_greenwich() -> None:
    east = LatLonGrid.equiangular(36, 72)
    centered = LatLonGrid(latitude=east.latitude, longitude=tuple(x - 180 for x in east.longitude))
    mask = REGIONS["europe"].mask(east)
    np.testing.assert_array_equal(REGIONS["europe"].mask(centered), np.roll(mask, 36, axis=1))


def test_land_and_sea_share_the_globe() -> None:
    land = np.random.default_rng(0).random(GRID.shape)
    areas = GRID.area_weights()
    weights = region_weights(["global_land", "global_sea", "tropics_land"], GRID, areas, land)
    fields = np.random.default_rng(1).random(GRID.shape)
    means = (weights * fields).sum(axis=(1, 2))
    share = (areas * land).mean()
    assert share * means[0] + (1 - share) * means[1] == pytest.approx((areas * fields).mean())
    tropics = REGIONS["tropics"].mask(GRID)
    expected = (areas * land * tropics * fields).sum() / (areas * land * tropics).sum()
    assert means[2] == pytest.approx(expected)

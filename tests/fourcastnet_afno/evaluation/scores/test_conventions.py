"""Conventions of other benchmarks on a field small enough to follow by hand."""

import math

import numpy as np
import pytest
import xarray as xr

from data_pipeline.grids.grid import LatLonGrid
from data_pipeline.grids.plane import PlaneGrid
from data_pipeline.trajectory_times import TrajectoryTimes
from fourcastnet_afno.evaluation.config import EvaluationConfig
from fourcastnet_afno.evaluation.evaluate import evaluate
from fourcastnet_afno.evaluation.scores.conventions import CONVENTIONS


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
    assert float(score("fourcastnet")["rmse"]) == pytest.approx(expected, rel=1e-12)
    # WeatherBench 1's score.py averages over all dimensions before the root.
    expected = math.sqrt((squares[0] + squares[1]) / 2)
    assert float(score("weatherbench1")["rmse"]) == pytest.approx(expected, rel=1e-12)
    # Its anomalies are from the mean of the scored truth, centered without weights, pooled.
    mean = o[1:].mean(axis=0)
    a, b = f - mean, o[1:] - mean
    a, b = a - a.mean(), b - b.mean()
    sums = [(north * x[:, 0] + south * x[:, 1]).sum() for x in (a * b, a * a, b * b)]
    expected = sums[0] / math.sqrt(sums[1] * sums[2])
    assert float(score("weatherbench1")["acc"]) == pytest.approx(expected, rel=1e-12)


def test_trajectories_on_a_plane_have_no_latitudes_and_no_days_of_the_year() -> None:
    convention, plane = CONVENTIONS["weatherbench2"], PlaneGrid.regular(8, 8)
    texts = convention.describe(plane, TrajectoryTimes(num_states=9))
    assert texts["area_weights"] == "cells of equal area"
    assert texts["acc"].endswith("climatology by step of a trajectory")
    dated = convention.describe(LatLonGrid.equiangular(4, 8), None)
    assert "latitude" in dated["area_weights"]
    assert "day of the year" in dated["acc"]

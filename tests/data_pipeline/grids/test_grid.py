import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.grids.grid import LatLonGrid, same_coordinates
from tests.builders.errors import rejects


@given(st.integers(2, 40), st.integers(2, 40), st.booleans())
def test_areas_are_those_of_the_sphere(rows: int, columns: int, poles: bool) -> None:
    weights = LatLonGrid.equiangular(rows, columns, poles).area_weights()
    assert weights.mean() == pytest.approx(1)
    edges = np.linspace(90, -90, rows + 1)
    if poles:
        edges = np.clip(90 - 180 * (np.arange(rows + 1) - 0.5) / (rows - 1), -90, 90)
    exact = -np.diff(np.sin(np.deg2rad(edges))) * rows / 2
    np.testing.assert_allclose(weights, np.repeat(exact[:, None], columns, 1), rtol=1e-12)


@pytest.mark.parametrize("digits", [2, 3, 15])
@pytest.mark.parametrize("rows", [2, 3, 8, 64, 160, 320])
def test_cells_of_gaussian_rows_reach_the_poles(rows: int, digits: int) -> None:
    """So that they add up to the sphere, and are near the weights of Gauss and Legendre."""
    sines, weights = np.polynomial.legendre.leggauss(rows)
    latitude = np.round(np.rad2deg(np.arcsin(sines[::-1])), digits)
    grid = LatLonGrid(latitude=tuple(latitude.tolist()), longitude=tuple(np.arange(0, 360, 90.0)))
    assert grid.bounds("latitude")[[0, -1]].tolist() == [90, -90]
    np.testing.assert_allclose(grid.area_weights()[:, 0], weights * rows / 2, rtol=0.07)


def test_half_a_gaussian_grid_reaches_one_pole() -> None:
    latitude = np.rad2deg(np.arcsin(np.polynomial.legendre.leggauss(64)[0][:31:-1]))
    grid = LatLonGrid(latitude=tuple(latitude.tolist()), longitude=(0.0, 1.0))
    north, south = grid.bounds("latitude")[[0, -1]]
    assert north == 90
    assert south == pytest.approx(latitude[-1] - (latitude[-2] - latitude[-1]) / 2)


@pytest.mark.parametrize(
    ("latitude", "ends"),
    [
        ((89.25, 88.25, 87.25), (89.75, 86.75)),  # three quarters of a cell are not Gauss's
        ((89.0, 88.0, 87.0), (89.5, 86.5)),
        ((90.0, 30.0, -30.0), (90.0, -60.0)),  # as FourCastNet's rows, without the south pole
        ((89.719, 89.156, 88.594), (90.0, 88.313)),  # rounded
        ((60.0, 50.0, 40.0), (65.0, 35.0)),
    ],
)
def test_other_rows_end_half_a_spacing_further(
    latitude: tuple[float, ...], ends: tuple[float, float]
) -> None:
    bounds = LatLonGrid(latitude=latitude, longitude=(0.0, 1.0)).bounds("latitude")
    assert bounds[[0, -1]] == pytest.approx(ends)


def test_areas_of_an_uneven_region_by_hand() -> None:
    grid = LatLonGrid(latitude=(30.0, 10.0, -10.0), longitude=(0.0, 10.0, 30.0))
    heights = np.sin(np.deg2rad([40, 20, 0])) - np.sin(np.deg2rad([20, 0, -20]))
    areas = heights[:, None] * np.array([10.0, 15.0, 20.0])
    np.testing.assert_allclose(grid.area_weights(), areas / areas.mean(), rtol=1e-12)


def test_periodic_only_where_the_circle_closes() -> None:
    assert LatLonGrid.equiangular(4, 8).is_periodic
    assert not LatLonGrid(latitude=(1.0, 0.0), longitude=(0.0, 10.0, 20.0)).is_periodic


@pytest.mark.parametrize(
    ("latitude", "longitude", "named"),
    [
        ((0.0, 10.0), (0.0, 10.0), "latitude"),
        ((10.0, 0.0), (10.0, 0.0), "longitude"),
        ((100.0, 0.0), (0.0, 10.0), "-90..90"),
        ((10.0, 0.0), (0.0, 180.0, 360.0), "360"),
        ((10.0,), (0.0, 10.0), "got 1 values"),
    ],
)
def test_bad_axes_are_rejected(
    latitude: tuple[float, ...], longitude: tuple[float, ...], named: str
) -> None:
    with rejects("bad-grid", named):
        LatLonGrid(latitude=latitude, longitude=longitude)


def rounded(grid: LatLonGrid, digits: int) -> LatLonGrid:
    latitude, longitude = (tuple(np.round(grid.coords[a], digits).tolist()) for a in grid.dims)
    return LatLonGrid(latitude=latitude, longitude=longitude)


@pytest.mark.parametrize("columns", [128, 512, 1280, 3600])
def test_rounded_coordinates_are_the_same_grid_and_close(columns: int) -> None:
    """GRIB 1 rounds to thousandths of a degree."""
    grid = LatLonGrid.equiangular(columns // 2, columns)
    assert rounded(grid, 3).is_same(grid)
    assert rounded(grid, 3).periodic_axes == ("longitude",)


def test_other_grids_are_not_the_same() -> None:
    grid = LatLonGrid.equiangular(181, 360, poles=True)
    shifted = LatLonGrid(latitude=grid.latitude, longitude=tuple(x + 0.5 for x in grid.longitude))
    for other in (shifted, LatLonGrid.equiangular(181, 360), LatLonGrid.equiangular(180, 360)):
        assert not grid.is_same(other)
        with rejects("grid-mismatch", str(other)):
            grid.require_same(other, "a checkpoint")


def test_coordinates_may_differ_by_a_hundredth_of_a_cell() -> None:
    values = np.arange(10.0)
    assert same_coordinates(values, values + 0.009)
    assert not same_coordinates(values, values + 0.011)
    assert same_coordinates(values, values + 0.05, cell=10.0)
    assert not same_coordinates(values, values[:-1])

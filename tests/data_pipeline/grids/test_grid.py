import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.grids.grid import LatLonGrid
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

"""Weights of the zone in which a limited area is relaxed to driving fields."""

import numpy as np
import pytest

from data_pipeline.grids.grid import LatLonGrid
from data_pipeline.grids.plane import PlaneGrid
from data_pipeline.grids.relaxation import open_edges, relaxation_weights, zone_mask
from tests.builders.errors import rejects

AREA = LatLonGrid(
    latitude=tuple(50.0 - i for i in range(9)), longitude=tuple(10.0 + i for i in range(8))
)
GLOBAL = LatLonGrid.equiangular(8, 16)


def test_weights_are_1_at_the_edge_and_fall_to_0_inside() -> None:
    weights = relaxation_weights(AREA, 3)
    along = [1, 0.75, 0.25, 0, 0, 0, 0.25, 0.75, 1]  # cos^2 of 0, 30 and 60 degrees
    np.testing.assert_allclose(weights[:, 4], along, atol=1e-15)
    np.testing.assert_allclose(weights[4], [1, 0.75, 0.25, 0, 0, 0.25, 0.75, 1], atol=1e-15)
    ring = np.ones(AREA.shape, bool)
    ring[1:-1, 1:-1] = False
    assert (weights[ring] == 1).all()
    assert (weights[~ring] < 1).all()
    assert (weights[3:-3, 3:-3] == 0).all()
    np.testing.assert_array_equal(zone_mask(AREA, 3, "width"), weights > 0)
    assert relaxation_weights(AREA, 1).sum() == ring.sum()


def test_poles_circles_and_lines_have_no_open_edge() -> None:
    cap = LatLonGrid(latitude=GLOBAL.latitude[:4], longitude=GLOBAL.longitude)
    assert open_edges(cap) == {"latitude": (False, True), "longitude": (False, False)}
    np.testing.assert_allclose(relaxation_weights(cap, 2)[:, 0], [0, 0, 0.5, 1], atol=1e-15)
    line = PlaneGrid.regular(1, 8, periodic=())
    np.testing.assert_array_equal(relaxation_weights(line, 1)[0], [1, 0, 0, 0, 0, 0, 0, 1])
    assert not zone_mask(GLOBAL, 0, "evaluation.margin").any()


@pytest.mark.parametrize(("grid", "width"), [(GLOBAL, 2), (AREA, 4)])
def test_a_zone_needs_an_edge_and_leaves_an_inside(grid: LatLonGrid, width: int) -> None:
    with rejects("boundary-mismatch", f"data.boundary.width={width}", str(grid)):
        relaxation_weights(grid, width)
    with rejects("boundary-mismatch", f"evaluation.margin={width}"):
        zone_mask(grid, width, "evaluation.margin")

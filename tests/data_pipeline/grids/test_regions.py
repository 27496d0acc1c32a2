"""Fields of a region out of those of a larger grid."""

import numpy as np
import pytest
import xarray as xr

from data_pipeline.grids.grid import LatLonGrid
from data_pipeline.grids.plane import PlaneGrid, grid_of
from data_pipeline.grids.regions import RegionFields, cut_out
from data_pipeline.store.cropping import CropConfig
from tests.builders.errors import rejects

GLOBAL = LatLonGrid.equiangular(18, 36)
BOX = CropConfig(north=70.0, south=20.0, west=-40.0, east=40.0).apply(GLOBAL)[0]


def make_fields(grid: LatLonGrid) -> xr.Dataset:
    """A field that is linear in latitude and, east and west of Greenwich, in longitude."""
    latitude, longitude = grid.coords["latitude"][:, None], grid.coords["longitude"][None, :]
    east = (longitude + 180) % 360 - 180
    return xr.Dataset({"f": (("latitude", "longitude"), latitude + 2 * east)}, grid.coords)


@pytest.mark.parametrize("turn", [0, 180])
def test_a_region_is_cut_out_across_any_meridian(turn: int) -> None:
    data = make_fields(GLOBAL)
    shifted = data.assign_coords(longitude=data["longitude"] - turn)  # other values, the same law
    whole = make_fields(grid_of(shifted))
    cut = cut_out(whole, grid_of(whole), BOX)
    assert grid_of(cut) == BOX
    np.testing.assert_array_equal(cut["f"], make_fields(BOX)["f"])


def test_between_points_fields_are_interpolated_linearly() -> None:
    region = LatLonGrid(latitude=(33.0, 30.0, 27.5), longitude=(-7.0, -2.5, 0.0, 4.0))
    mapped = RegionFields(GLOBAL, region, "--boundary")
    assert not mapped.is_cut
    needed = mapped.select(make_fields(GLOBAL))
    assert needed.sizes == {"latitude": 2, "longitude": 3}
    found = mapped(needed["f"].values)
    np.testing.assert_allclose(found, make_fields(region)["f"], rtol=1e-6)
    assert cut_out(make_fields(GLOBAL), GLOBAL, region).sizes == GLOBAL_SIZES


GLOBAL_SIZES = {"latitude": 18, "longitude": 36}


def test_a_grid_must_cover_the_region() -> None:
    west = LatLonGrid(latitude=GLOBAL.latitude, longitude=GLOBAL.longitude[:18])
    plane = PlaneGrid.regular(6, 6)
    for grid in (west, LatLonGrid(latitude=GLOBAL.latitude[9:], longitude=GLOBAL.longitude), plane):
        with rejects("grid-mismatch", "--boundary", str(grid), str(BOX)):
            RegionFields(grid, BOX, "--boundary")
    south = LatLonGrid(latitude=(-86.0, -88.0), longitude=(0.0, 10.0))  # beyond the last row
    with rejects("grid-mismatch"):
        RegionFields(GLOBAL, south, "--boundary")

"""Regional grids and stores."""

from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr

from data_pipeline.grids.grid import LatLonGrid
from data_pipeline.loading.loader import Loader
from data_pipeline.loading.windows import WindowDataset
from data_pipeline.periods import Period
from data_pipeline.store.cropping import CropConfig
from data_pipeline.store.packing import StorageConfig
from data_pipeline.store.reader import PreparedStore
from tests.builders.errors import rejects
from tests.builders.stores import KINDS, kind_of

BOXES = [
    CropConfig(north=40.0, south=-80.0, west=30.0, east=200.0),
    CropConfig(north=90.0, south=0.0, west=-70.0, east=70.0),
    CropConfig(north=90.0, south=0.0, west=290.0, east=70.0),
    CropConfig(south=-60.0),
]


@pytest.mark.parametrize("storage", [KINDS[0], KINDS[7]], ids=kind_of)
@pytest.mark.parametrize("crop", BOXES)
def test_a_crop_is_a_part_of_everything(
    crop: CropConfig,
    storage: StorageConfig,
    store_of_kind: Callable[[StorageConfig], PreparedStore],
) -> None:
    whole = store_of_kind(storage)
    store = PreparedStore(whole.path, crop)
    grid = store.grid
    assert crop.south <= grid.latitude[-1] < grid.latitude[0] <= crop.north
    columns = {axis: xr.DataArray(v, dims=axis) for axis, v in grid.coords.items()}
    chosen = {"latitude": columns["latitude"], "longitude": columns["longitude"] % 360}
    for ours, theirs in (
        (store.dataset(), whole.dataset()),
        (store.climatology(), whole.climatology()),
    ):
        expected = theirs.sel(chosen, method="nearest")
        np.testing.assert_array_equal(ours["2m_temperature"], expected["2m_temperature"])
    assert store.normalized_static().shape[1:] == grid.shape
    windows = WindowDataset(store, Period(start="2001-01-01", end="2001-03-01"), 1, 1)
    sample = next(Loader(windows, 5, seed=0, shuffle=False).epoch(0))
    expected = store.channels.stack(store.dataset().isel(time=slice(0, 5))).values
    np.testing.assert_array_equal(sample.state[:, 0], expected)


def test_a_crop_across_the_prime_meridian_increases_eastward() -> None:
    grid, region = CropConfig(west=-70.0, east=70.0).apply(LatLonGrid.equiangular(6, 12))
    assert grid.longitude == (-60, -30, 0, 30, 60)
    assert region.columns == (slice(10, 12), slice(0, 3))
    assert CropConfig(west=290.0, east=430.0).apply(LatLonGrid.equiangular(6, 12)) == (grid, region)


def test_a_crop_must_leave_a_grid() -> None:
    with rejects("bad-grid", "data.crop", "1 columns"):
        CropConfig(west=29.0, east=31.0).apply(LatLonGrid.equiangular(6, 12))
    with pytest.raises(ValueError, match="-90 <= south < north <= 90"):
        CropConfig(north=10.0, south=20.0)

"""Horizontal axes of any convention become the canonical ones."""

from pathlib import Path

import numpy as np
import pytest

from tests.builders.era5 import assert_same, make_era5, read_source


@pytest.mark.parametrize(
    "longitude",
    [
        np.arange(0, 360, 30),
        np.arange(0, 361, 30),
        np.arange(-180, 180, 30),
        np.arange(-180, 181, 30),
        np.roll(np.arange(0, 360, 30), 5),
    ],
    ids=["0..330", "0..360", "-180..150", "-180..180", "150..120"],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
def test_longitudes_of_any_convention(tmp_path: Path, longitude: np.ndarray, dtype: type) -> None:
    surface = make_era5()[["2m_temperature"]]
    turned = surface.sel(longitude=longitude % 360).assign_coords(longitude=longitude.astype(dtype))
    turned.isel(latitude=slice(None, None, -1)).to_netcdf(tmp_path / "data.nc")
    assert_same(read_source(tmp_path / "data.nc"), surface)

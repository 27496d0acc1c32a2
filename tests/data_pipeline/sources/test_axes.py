"""Horizontal axes of any convention become the canonical ones."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from data_pipeline.sources.axes import with_canonical_coordinates
from tests.builders.era5 import assert_same, make_era5, read_source
from tests.builders.errors import rejects


@pytest.mark.parametrize("axis", ["latitude", "longitude"])
def test_radians_are_not_degrees(tmp_path: Path, axis: str) -> None:
    surface = make_era5()[["2m_temperature"]]
    radians = np.deg2rad(surface[axis]).assign_attrs(units="radians")
    surface.assign_coords({axis: radians}).to_netcdf(tmp_path / "data.nc")
    with rejects("units-mismatch", axis, "radians", "degrees"):
        read_source(tmp_path / "data.nc")


@pytest.mark.parametrize(
    ("dims", "named"),
    [(("values",), ["72 values", "reduced"]), (("j", "i"), ["6 j x 12 i", "curvilinear"])],
)
def test_grids_without_rows_and_columns_are_named(
    tmp_path: Path, dims: tuple[str, ...], named: list[str]
) -> None:
    surface = make_era5()[["2m_temperature"]]
    sizes = (6, 12) if len(dims) == 2 else (72,)
    points = np.arange(72.0).reshape(sizes)
    values = np.zeros((surface.sizes["time"], *sizes), np.float32)
    data = {"t2m": (("time", *dims), values, {"units": "K"})}
    places = {"latitude": (dims, points), "longitude": (dims, points)}
    xr.Dataset(data, {"time": surface["time"], **places}).to_netcdf(tmp_path / "data.nc")
    with rejects("bad-grid", "data.nc", *named):
        read_source(tmp_path / "data.nc")


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


def canonical_longitudes(longitude: np.ndarray) -> np.ndarray:
    dataset = xr.Dataset(coords={"latitude": [45.0, -45.0], "longitude": longitude})
    return with_canonical_coordinates(dataset)["longitude"].values


@pytest.mark.parametrize(
    ("longitude", "count"),
    [
        (np.arange(-180, 180, 0.1), 3600),
        (np.linspace(-180, 179.9, 3600), 3600),
        (np.arange(-180, 180, 0.1).astype(np.float32), 3600),
        (np.linspace(0, 357.188, 128), 128),
        (np.linspace(0, 359.9999, 361), 360),
        (np.append(-2.8e-14, np.arange(1, 360)), 360),
        (np.append(np.arange(0.25, 360, 0.25), 359.9999), 1440),
    ],
)
def test_rounded_longitudes_start_at_the_same_meridian(longitude: np.ndarray, count: int) -> None:
    expected = 360 * np.arange(count) / count
    found = canonical_longitudes(longitude)
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.01 * 360 / count)
    assert found[0] >= 0


def test_files_with_rounded_coordinates_are_joined_on_those_of_the_first(tmp_path: Path) -> None:
    surface = make_era5()[["2m_temperature"]]
    surface.isel(time=slice(4)).to_netcdf(tmp_path / "0.nc")
    rest = surface.isel(time=slice(4, None))
    west = (rest["longitude"].values + 180) % 360 - 180
    west[0] = -2.8e-14
    rest.assign_coords(longitude=west).sortby("longitude").to_netcdf(tmp_path / "1.nc")
    off = make_era5()[["temperature"]]
    off = off.assign_coords(latitude=off["latitude"] + 0.001, longitude=off["longitude"] + 0.001)
    off.to_netcdf(tmp_path / "2.nc")
    assert_same(read_source(tmp_path), make_era5()[["2m_temperature", "temperature"]])

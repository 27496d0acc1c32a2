"""Every layout in use is read as the same canonical dataset, or rejected by name."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from data_pipeline.channels import Channels
from data_pipeline.preparation.prepare import prepare
from tests.builders.era5 import assert_same, make_era5, make_grib, read_source
from tests.builders.errors import rejects
from tests.builders.experiments import make_data_config, make_dataset

NAME = "2m_temperature"


@pytest.fixture
def era5() -> xr.Dataset:
    return make_era5()


def weatherbench2(dataset: xr.Dataset) -> xr.Dataset:
    """Longitude before latitude, latitude from south to north, int64 levels and nanoseconds."""
    turned = dataset.isel(latitude=slice(None, None, -1))
    return turned.transpose("time", "level", "longitude", "latitude", missing_dims="ignore")


# zarr v3 has no consolidated metadata in its specification.
@pytest.mark.parametrize(("zarr_format", "consolidated"), [(2, True), (2, False), (3, False)])
def test_weatherbench2(
    era5: xr.Dataset, tmp_path: Path, zarr_format: int, consolidated: bool
) -> None:
    weatherbench2(era5).chunk(time=1).to_zarr(
        tmp_path / "era5.zarr",
        zarr_format=zarr_format,  # type: ignore[arg-type]
        consolidated=consolidated,
    )
    assert_same(read_source(tmp_path / "era5.zarr"), era5)


def test_arco_era5(era5: xr.Dataset, tmp_path: Path) -> None:
    """Hourly, 37 levels in ascending order, one time and all levels in a chunk."""
    era5.chunk(time=1).to_zarr(tmp_path / "arco.zarr", zarr_format=3, consolidated=False)
    assert_same(read_source(tmp_path / "arco.zarr"), era5)


SHORT = {"geopotential": "z", "temperature": "t", "2m_temperature": "t2m"}


def cds(dataset: xr.Dataset, *, new: bool) -> tuple[xr.Dataset, xr.Dataset]:
    """Files of pressure levels and of single levels as the Climate Data Store hands them out."""
    names = {old: short for old, short in SHORT.items() if old in dataset}
    renamed = dataset.drop_vars("geopotential_at_surface").rename(names)
    for short, units in (("z", "m**2 s**-2"), ("t", "K"), ("t2m", "K")):
        renamed[short].attrs = {"units": units}
    if new:
        renamed = renamed.rename(time="valid_time", level="pressure_level")
        renamed = renamed.assign_coords(pressure_level=renamed["pressure_level"].astype(float))
        renamed = renamed.assign_coords(number=0, expver=("valid_time", ["0001"] * 8))
        renamed = renamed.isel(pressure_level=slice(None, None, -1))
    surface = renamed[["t2m"]]
    time = "valid_time" if new else "time"
    orography = dataset["geopotential_at_surface"].expand_dims({time: renamed[time].values})
    surface["z"] = orography.assign_attrs(units="m**2 s**-2")
    return renamed[["z", "t"]], surface


@pytest.mark.parametrize("new", [False, True])
def test_cds_files_of_levels_and_surface_are_merged(
    era5: xr.Dataset, tmp_path: Path, new: bool
) -> None:
    levels, surface = cds(era5, new=new)
    levels.to_netcdf(tmp_path / "pressure-levels.nc")
    surface.to_netcdf(tmp_path / "single-levels.nc")
    found = read_source(tmp_path)
    assert_same(found, era5.drop_vars("geopotential_at_surface"))
    assert found["geopotential_at_surface"].dims == ("time", "latitude", "longitude")


def test_preliminary_months_complete_the_final_ones(era5: xr.Dataset, tmp_path: Path) -> None:
    surface = era5[["2m_temperature"]].rename({"2m_temperature": "t2m"})
    final = surface.where(surface["time"] < surface["time"][5])
    preliminary = surface.where(surface["time"] >= surface["time"][5])
    both = xr.concat([final, preliminary], xr.Variable("expver", [1, 5]))
    both["t2m"].attrs["units"] = "K"
    both.to_netcdf(tmp_path / "t2m.nc")
    assert_same(read_source(tmp_path / "t2m.nc"), era5[["2m_temperature"]])


def test_cf_names_pascals_and_longitudes_around_greenwich(era5: xr.Dataset, tmp_path: Path) -> None:
    other = era5.rename(temperature="T", geopotential="PHI", **{"2m_temperature": "TREFHT"})
    other = other.drop_vars("geopotential_at_surface").rename(level="plev")
    for name, standard in (
        ("T", "air_temperature"),
        ("PHI", "geopotential"),
        ("TREFHT", "air_temperature"),
    ):
        other[name].attrs["standard_name"] = standard
    other = other.assign_coords(height=((), 2.0, {"units": "m", "standard_name": "height"}))
    other = other.assign_coords(plev=("plev", [50000.0, 85000.0], {"units": "Pa"}))
    other = other.assign_coords(longitude=(other["longitude"] + 180) % 360 - 180)
    other = other.sortby("longitude").isel(plev=slice(None, None, -1))
    other.rename(latitude="lat", longitude="lon").to_netcdf(tmp_path / "cmip.nc")
    assert_same(read_source(tmp_path / "cmip.nc"), era5.drop_vars("geopotential_at_surface"))


@pytest.mark.parametrize("file_format", ["NETCDF3_64BIT", "NETCDF4", "NETCDF4_CLASSIC"])
def test_packed_integers_float64_and_a_repeated_meridian(
    era5: xr.Dataset, tmp_path: Path, file_format: str
) -> None:
    surface = era5[["2m_temperature"]]
    repeated = surface.isel(longitude=[0]).assign_coords(longitude=[360.0])
    closed = xr.concat([surface, repeated], "longitude")
    packing = {"dtype": "i2", "scale_factor": 0.001, "add_offset": 290.0, "_FillValue": -32767}
    closed.to_netcdf(
        tmp_path / "packed.nc",
        format=file_format,  # type: ignore[arg-type]
        encoding={"2m_temperature": packing},
    )
    found = read_source(tmp_path / "packed.nc")
    assert found.sizes["longitude"] == 12
    np.testing.assert_allclose(found["2m_temperature"], era5["2m_temperature"], atol=6e-4)


def test_grib(era5: xr.Dataset, tmp_path: Path) -> None:
    names = {"t": "temperature", "2t": "2m_temperature"}
    for short, name in names.items():
        make_grib(era5[name], short, tmp_path / f"{short}.grib")
    found = read_source(tmp_path)
    for name in names.values():
        np.testing.assert_allclose(found[name], era5[name], rtol=1e-6)
        assert found[name].dims == era5[name].dims
        np.testing.assert_array_equal(found[name]["time"], era5["time"])


def test_float64_becomes_the_same_store(tmp_path: Path) -> None:
    double = make_dataset().astype(float)
    for name, array in make_dataset().data_vars.items():
        double[name].attrs = array.attrs
    double.to_netcdf(tmp_path / "double.nc")
    config = make_data_config(tmp_path / "double.nc")
    found = prepare(config, tmp_path / "data.zarr").dataset()
    assert found["2m_temperature"].dtype == np.float32
    np.testing.assert_array_equal(found["2m_temperature"], make_dataset()["2m_temperature"])


@pytest.mark.parametrize("dtype", ["c8", "U8", "M8[ns]"])
def test_values_that_are_no_real_numbers_are_left_out(tmp_path: Path, dtype: str) -> None:
    data = make_dataset(4)
    data[NAME] = data[NAME].astype(dtype).drop_attrs()
    data.to_zarr(tmp_path / "data.zarr", zarr_format=2)
    found = read_source(tmp_path / "data.zarr")
    assert NAME not in found
    with rejects("missing-variable", str(np.dtype(dtype)), "real numbers", "data.zarr"):
        Channels.from_dataset(found, [NAME])

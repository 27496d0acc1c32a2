"""Every layout in use is read as the same canonical dataset, or rejected by name."""

from pathlib import Path

import eccodes
import numpy as np
import pytest
import xarray as xr

from data_pipeline.preparation.prepare import prepare
from tests.builders.era5 import ERA5_GRID, assert_same, make_era5, make_grib, read_source
from tests.builders.experiments import make_data_config, make_dataset


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


def test_calendars_without_leap_days_leave_them_out(tmp_path: Path) -> None:
    times = xr.date_range("2004-02-27", periods=4, calendar="noleap", use_cftime=True)
    values = np.arange(4.0)[:, None, None] + np.zeros(ERA5_GRID.shape)
    dataset = xr.Dataset({"t2m": (("time", "latitude", "longitude"), values)})
    dataset = dataset.assign_coords(time=times, **ERA5_GRID.coords)
    dataset["t2m"].attrs["units"] = "K"
    dataset.to_netcdf(tmp_path / "model.nc")
    found = read_source(tmp_path / "model.nc")
    days = found["time"].values.astype("datetime64[D]").astype(str).tolist()
    assert days == ["2004-02-27", "2004-02-28", "2004-03-01", "2004-03-02"]
    assert found["2m_temperature"].values[:, 0, 0].tolist() == [0, 1, 2, 3]


def test_grib(era5: xr.Dataset, tmp_path: Path) -> None:
    names = {"t": "temperature", "2t": "2m_temperature"}
    for short, name in names.items():
        make_grib(era5[name], short, tmp_path / f"{short}.grib")
    found = read_source(tmp_path)
    for name in names.values():
        np.testing.assert_allclose(found[name], era5[name], rtol=1e-6)
        assert found[name].dims == era5[name].dims
        np.testing.assert_array_equal(found[name]["time"], era5["time"])


@pytest.mark.parametrize("edition", [1, 2])
def test_grib_accumulations_have_one_time(tmp_path: Path, edition: int) -> None:
    """ERA5's precipitation: forecasts from 06 and 18 UTC, each of twelve single hours."""
    values = np.random.default_rng(0).random((24, 84))
    steps = [(start, step) for start in (6, 18) for step in range(1, 13)]
    with (tmp_path / "tp.grib").open("wb") as file:
        for (start, step), field in zip(steps, values, strict=True):
            message = eccodes.codes_grib_new_from_samples(f"regular_ll_sfc_grib{edition}")
            keys = {"Ni": 12, "Nj": 7, "longitudeOfLastGridPointInDegrees": 330}
            keys |= {"latitudeOfFirstGridPointInDegrees": 90}
            keys |= {"latitudeOfLastGridPointInDegrees": -90}
            keys |= {f"{axis}DirectionIncrementInDegrees": 30 for axis in "ij"}
            keys |= {"dataDate": 20010101, "dataTime": 100 * start}
            keys |= {"productDefinitionTemplateNumber": 8} if edition == 2 else {}
            keys |= {"shortName": "tp", "stepType": "accum", "stepRange": f"{step - 1}-{step}"}
            keys |= {"bitsPerValue": 24}
            for key, value in keys.items():
                eccodes.codes_set(message, key, value)
            eccodes.codes_set_values(message, field)
            eccodes.codes_write(message, file)
            eccodes.codes_release(message)
    found = read_source(tmp_path / "tp.grib", units={"total_precipitation": "m"})[
        "total_precipitation"
    ]
    assert found.dims == ("time", "latitude", "longitude")
    expected = np.datetime64("2001-01-01T07", "ns") + np.arange(24) * np.timedelta64(1, "h")
    np.testing.assert_array_equal(found["time"], expected)
    np.testing.assert_allclose(found.values.reshape(24, -1), values, atol=1e-6)


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
def test_longitudes_of_any_convention(
    era5: xr.Dataset, tmp_path: Path, longitude: np.ndarray, dtype: type
) -> None:
    surface = era5[["2m_temperature"]]
    turned = surface.sel(longitude=longitude % 360).assign_coords(longitude=longitude.astype(dtype))
    turned.isel(latitude=slice(None, None, -1)).to_netcdf(tmp_path / "data.nc")
    assert_same(read_source(tmp_path / "data.nc"), surface)


@pytest.mark.parametrize(
    ("levels", "units"),
    [
        ([500, 850], "millibars"),
        ([850.0, 500.0], "hPa"),
        ([50000.0, 85000.0], "Pa"),
        ([85000, 50000], ""),
    ],
)
def test_levels_of_any_convention(
    era5: xr.Dataset, tmp_path: Path, levels: list[float], units: str
) -> None:
    profile = era5[["temperature"]]
    hectopascals = [int(level if level < 2000 else level / 100) for level in levels]
    turned = profile.sel(level=hectopascals).assign_coords(level=("level", levels))
    turned["level"].attrs["units"] = units
    turned.to_netcdf(tmp_path / "data.nc")
    assert_same(read_source(tmp_path / "data.nc"), profile)


def test_float64_becomes_the_same_store(tmp_path: Path) -> None:
    double = make_dataset().astype(float)
    for name, array in make_dataset().data_vars.items():
        double[name].attrs = array.attrs
    double.to_netcdf(tmp_path / "double.nc")
    config = make_data_config(tmp_path / "double.nc")
    found = prepare(config, tmp_path / "data.zarr").dataset()
    assert found["2m_temperature"].dtype == np.float32
    np.testing.assert_array_equal(found["2m_temperature"], make_dataset()["2m_temperature"])


def test_times_that_arco_has_not_filled_are_left_out(era5: xr.Dataset, tmp_path: Path) -> None:
    """Its axis continues to 2050; times that are not filled read as NaN."""
    filled = era5.where(era5["time"] < np.datetime64("2001-01-02"))
    era5["2m_temperature"].values[:] = filled["2m_temperature"]
    era5.attrs = {"valid_time_start": "2001-01-01", "valid_time_stop": "2001-01-01"}
    era5.to_zarr(tmp_path / "arco.zarr", zarr_format=2, consolidated=True)
    found = read_source(tmp_path / "arco.zarr")
    assert [str(time)[:13] for time in found["time"].values[[0, -1]]] == [
        "2001-01-01T00",
        "2001-01-01T18",
    ]
    assert found["2m_temperature"].notnull().all()

"""Files are joined along time and merged on common times, or rejected by name."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import xarray as xr

from data_pipeline.channels import Channels
from tests.builders.era5 import assert_same, make_era5, read_source
from tests.builders.errors import rejects

NAME = "2m_temperature"


@pytest.fixture
def era5() -> xr.Dataset:
    return make_era5()


def test_variables_and_years_in_files_of_their_own(tmp_path: Path) -> None:
    first, second = make_era5(8, "2001-12-30"), make_era5(8, "2002-01-01")
    for year, dataset in ((2001, first), (2002, second)):
        for name in ("2m_temperature", "temperature"):
            dataset[[name]].to_netcdf(tmp_path / f"{name}_{year}.nc")
    first[["geopotential_at_surface"]].to_netcdf(tmp_path / "invariant.nc")
    expected = xr.concat([d[["2m_temperature", "temperature"]] for d in (first, second)], "time")
    expected["geopotential_at_surface"] = first["geopotential_at_surface"]
    assert_same(read_source(tmp_path), expected)
    listed = [tmp_path / f"2m_temperature_{year}.nc" for year in (2002, 2001)]
    assert_same(read_source(listed), expected[["2m_temperature"]])


def halves(dataset: xr.Dataset) -> tuple[xr.Dataset, xr.Dataset]:
    surface = dataset[["2m_temperature"]]
    return surface.isel(time=slice(0, 4)), surface.isel(time=slice(4, None))


def other_grid(first: xr.Dataset, second: xr.Dataset) -> xr.Dataset:
    return second.isel(latitude=slice(0, 5))


def other_units(first: xr.Dataset, second: xr.Dataset) -> xr.Dataset:
    return second.assign({"2m_temperature": second["2m_temperature"].assign_attrs(units="degC")})


def same_times(first: xr.Dataset, second: xr.Dataset) -> xr.Dataset:
    return first


@pytest.mark.parametrize(
    ("change", "code", "named"),
    [
        (other_grid, "grid-mismatch", ["b.nc", "latitude 90..-30 (5)", "a.nc", "90..-90 (7)"]),
        (other_units, "units-mismatch", ["b.nc", "2m_temperature", "'degC'", "'K'"]),
        (same_times, "unordered-times", ["4 times"]),
    ],
)
def test_files_that_differ_are_rejected(
    era5: xr.Dataset,
    tmp_path: Path,
    change: Callable[[xr.Dataset, xr.Dataset], xr.Dataset],
    code: str,
    named: list[str],
) -> None:
    first, second = halves(era5)
    first.to_netcdf(tmp_path / "a.nc")
    change(first, second).to_netcdf(tmp_path / "b.nc")
    with rejects(code, *named):
        read_source(tmp_path)


def test_unknown_units_that_differ_are_rejected(era5: xr.Dataset, tmp_path: Path) -> None:
    for part, units in zip(halves(era5), ("mm", "m"), strict=True):
        part = part.rename({"2m_temperature": "snow"})
        part["snow"].attrs["units"] = units
        part.to_netcdf(tmp_path / f"{units}.nc")
    with rejects("units-mismatch", "snow", "'mm' in", "mm.nc", "'m' in"):
        read_source(tmp_path)


def test_periods_without_common_times_are_named(tmp_path: Path) -> None:
    make_era5(4, "2001-01-01")[["2m_temperature"]].to_netcdf(tmp_path / "a.nc")
    make_era5(4, "2002-01-01")[["temperature"]].to_netcdf(tmp_path / "b.nc")
    with rejects("no-common-times", "2001-01-01", "2002-01-01"):
        read_source(tmp_path)


def test_a_file_twice(tmp_path: Path) -> None:
    make_era5()[[NAME]].to_netcdf(tmp_path / "a.nc")
    shutil.copy(tmp_path / "a.nc", tmp_path / "a copy.nc")
    with rejects("unordered-times", "a copy.nc", "a.nc", "8 times", "data.source.path"):
        read_source(tmp_path)


def test_periods_that_overlap(tmp_path: Path) -> None:
    dataset = make_era5()[[NAME]]
    dataset.isel(time=slice(0, 5)).to_netcdf(tmp_path / "a.nc")
    dataset.isel(time=slice(3, 8)).to_netcdf(tmp_path / "b.nc")
    with rejects("unordered-times", "a.nc", "b.nc"):
        read_source(tmp_path)


def test_a_level_that_some_files_lack(tmp_path: Path) -> None:
    first, second = make_era5(4, "2001-01-01"), make_era5(4, "2001-01-02")
    first[["temperature"]].to_netcdf(tmp_path / "a.nc")
    second[["temperature"]].sel(level=[500]).to_netcdf(tmp_path / "b.nc")
    levels = "['temperature'] at [500, 850] hPa", "['temperature'] at [500] hPa"
    with rejects("no-common-times", *levels):
        read_source(tmp_path)


def test_levels_in_files_of_their_own_are_one_axis(tmp_path: Path) -> None:
    """WeatherBench 1 has a folder for each level, in which the level is a scalar."""
    era5 = make_era5()
    for level in (850, 500):
        part = era5[["temperature"]].sel(level=level).assign_coords(level=level)
        part.to_netcdf(tmp_path / f"temperature_{level}.nc")
    era5[["geopotential"]].sel(level=[500]).to_netcdf(tmp_path / "z.nc")
    found = read_source(tmp_path)
    assert_same(found, era5[["temperature"]])
    assert found["geopotential"].attrs["levels"] == [500]
    with rejects("missing-level", "850", "[500]"):
        Channels.from_dataset(found, ["z850"])


def test_a_level_in_two_files(tmp_path: Path) -> None:
    era5 = make_era5()
    era5[["temperature", "geopotential"]].to_netcdf(tmp_path / "a.nc")
    era5[["temperature"]].sel(level=[500]).to_netcdf(tmp_path / "b.nc")
    with rejects("duplicate-name", "a.nc", "b.nc", "temperature at [500] hPa", "8 times"):
        read_source(tmp_path)


STATIC = "geopotential_at_surface"


@pytest.mark.parametrize("with_time", [False, True])
def test_contradictory_static_files(tmp_path: Path, with_time: bool) -> None:
    era5 = make_era5()
    era5[[NAME]].to_netcdf(tmp_path / "t2m.nc")
    for index, file in enumerate(("a.nc", "b.nc")):
        part = (era5[[STATIC]] + index * 7).assign_attrs(era5.attrs)
        part[STATIC].attrs["units"] = "m2 s-2"
        if with_time:
            part = part.expand_dims(time=era5["time"].values[index : index + 1])
        part.to_netcdf(tmp_path / file)
    with rejects("files-differ", "a.nc", "b.nc", STATIC, "by up to 7"):
        read_source(tmp_path)


def test_static_fields_of_two_files_may_be_equal(tmp_path: Path) -> None:
    era5 = make_era5()
    era5[[NAME, STATIC]].to_netcdf(tmp_path / "a.nc")
    era5[[STATIC]].to_netcdf(tmp_path / "b.nc")
    era5[[STATIC]].to_netcdf(tmp_path / "c.nc")
    assert_same(read_source(tmp_path), era5[[NAME, STATIC]])


def test_static_fields_of_a_series_are_compared(tmp_path: Path) -> None:
    for index, part in enumerate(halves(make_era5())):
        fixed = make_era5()[STATIC] + index
        fixed.attrs["units"] = "m2 s-2"
        part.assign({STATIC: fixed}).to_netcdf(tmp_path / f"{index}.nc")
    with rejects("files-differ", "0.nc", "1.nc", STATIC):
        read_source(tmp_path)

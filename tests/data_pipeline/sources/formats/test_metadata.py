"""Metadata of damaged and foreign files: errors that name the file and the variable."""

import json
from collections.abc import Callable
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import xarray as xr

from data_pipeline.sources.canonical import open_source
from data_pipeline.sources.config import SourceConfig
from data_pipeline.sources.files import file_fingerprints
from data_pipeline.sources.formats.metadata import check_axes, check_decoding
from tests.builders.errors import rejects
from tests.builders.experiments import make_dataset

DATA = make_dataset(8)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[("scale_factor", value) for value in ("x", "", 0.0, np.nan, [1.0, 2.0])],
        *[("add_offset", value) for value in ("x", np.inf)],
    ],
)
def test_a_scale_is_one_finite_number(key: str, value: object, tmp_path: Path) -> None:
    DATA.to_netcdf(tmp_path / "data.nc")
    with netCDF4.Dataset(tmp_path / "data.nc", "a") as file:
        file["2m_temperature"].setncattr(key, value)
    with rejects("unreadable-file", str(tmp_path / "data.nc")):
        open_source(SourceConfig(path=str(tmp_path / "data.nc")))


def test_numbers_that_pack_are_accepted() -> None:
    packed = xr.Dataset({"t": ("x", [1], {"scale_factor": np.float32(0.1), "add_offset": 0})})
    check_decoding(packed, "data.nc")
    packed["t"].attrs["scale_factor"] = "a tenth"
    with rejects("unreadable-file", "data.nc", "t", "scale_factor", "a tenth"):
        check_decoding(packed, "data.nc")


def test_text_that_ends_early_for_a_library_gives_no_times() -> None:
    times = {"units": "days since 2001\x0001-01"}
    with rejects("unreadable-file", "data.nc", "time", "units"):
        check_decoding(xr.Dataset({"time": ("time", [1], times)}), "data.nc")
    check_decoding(xr.Dataset({"t": ("x", [1], {"units": "K\0\n"})}), "data.nc")


@pytest.mark.parametrize("version", [2, 3])
def test_an_axis_without_end_is_not_read(version: int, tmp_path: Path) -> None:
    path = tmp_path / "data.zarr"
    DATA.to_zarr(path, zarr_format=version, consolidated=False)
    file = path / "time" / {2: ".zarray", 3: "zarr.json"}[version]
    file.write_text(json.dumps(json.loads(file.read_text()) | {"shape": [2**40]}))
    with rejects("too-large", str(path), "time", str(2**40)):
        open_source(SourceConfig(path=str(path)))


def test_an_axis_of_a_file_without_end_is_not_read(tmp_path: Path) -> None:
    with netCDF4.Dataset(tmp_path / "data.nc", "w") as file:
        file.createDimension("time", 2**40)
        file.createVariable("time", "f8", ("time",), chunksizes=(1024,))
    with rejects("too-large", "data.nc", "time"):
        open_source(SourceConfig(path=str(tmp_path / "data.nc")))


def test_only_axes_of_their_own_are_bounded() -> None:
    check_axes([("time", (10**8,)), ("t", (10**9, 10**9))], "data.nc")


def test_names_are_utf_8() -> None:
    check_axes([("气温 [/x]", (3,))], "data.zarr")
    with rejects("bad-name", "data.zarr", r"'t\udcff'"):
        check_axes([("t\udcff", (3,))], "data.zarr")


METADATA = [
    *[("data_type", value) for value in (None, "int64\0")],
    *[("codecs", value) for value in (None, [None])],
    *[("shape", value) for value in ([[8]], -1)],
    ("chunk_grid", {"name": "regular"}),
    ("dimension_names", 3),
    ("attributes", 3),
    ("node_type", -1),
]


@pytest.mark.parametrize(("key", "value"), METADATA)
def test_metadata_of_other_types_is_an_error_of_the_store(
    key: str, value: object, tmp_path: Path
) -> None:
    path = tmp_path / "data.zarr"
    DATA.to_zarr(path, zarr_format=3, consolidated=False)
    file = path / "2m_temperature" / "zarr.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    with rejects("unreadable-file", str(path)):
        open_source(SourceConfig(path=str(path)))


def dangling(path: Path) -> None:
    path.symlink_to("nothing.nc")


def circular(path: Path) -> None:
    path.symlink_to(path)


@pytest.mark.parametrize("make", [dangling, circular])
def test_a_link_to_nothing_is_named(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "data.nc")
    for read in (file_fingerprints, lambda path: open_source(SourceConfig(path=path))):
        with pytest.raises(ValueError, match=r"data\.nc"):
            read(str(tmp_path / "data.nc"))


@pytest.mark.parametrize(
    ("units", "number"),
    [
        ("seconds since 1970-01-01", 1e300),
        ("days since 9999-12-30", 0.0),
        ("months since 2000-01-01", 1e18),
        ("years since 2000-01-01", 300.0),
        ("day as %Y%m%d.%f", 99999999.0),
        ("day as %Y%m%d.%f", np.nan),
        ("months since 2000-01-01", np.nan),
    ],
)
def test_times_that_no_calendar_has(units: str, number: float, tmp_path: Path) -> None:
    times = xr.Variable("time", number + np.arange(8), {"units": units})
    DATA.assign_coords(time=times).to_netcdf(tmp_path / "data.nc")
    with rejects("no-times", "time"):
        open_source(SourceConfig(path=str(tmp_path / "data.nc")))


AXES = [
    ("latitude", [f"row {i}" for i in range(DATA.sizes["latitude"])], "bad-grid"),
    ("latitude", [np.inf] * DATA.sizes["latitude"], "bad-grid"),
    ("longitude", [f"column {i}" for i in range(DATA.sizes["longitude"])], "bad-grid"),
]


@pytest.mark.parametrize(("axis", "values", "code"), AXES)
def test_axes_are_finite_numbers(axis: str, values: list, code: str, tmp_path: Path) -> None:
    DATA.assign_coords({axis: values}).to_netcdf(tmp_path / "data.nc")
    with rejects(code, "data.nc", axis):
        open_source(SourceConfig(path=str(tmp_path / "data.nc")))


def test_a_series_without_times_names_the_file(tmp_path: Path) -> None:
    DATA.drop_vars("time").to_netcdf(tmp_path / "data.nc")
    with rejects("no-times", "data.nc", "8 entries"):
        open_source(SourceConfig(path=str(tmp_path / "data.nc")))


@pytest.mark.parametrize("levels", [[500.0, np.inf], [np.nan, 500.0]])
def test_levels_are_finite_numbers(levels: list[float], tmp_path: Path) -> None:
    air = DATA[["2m_temperature"]].rename({"2m_temperature": "temperature"})
    data = air.expand_dims(level=levels).transpose("time", "level", ...)
    data.to_netcdf(tmp_path / "data.nc")
    with rejects("bad-levels", "data.nc"):
        open_source(SourceConfig(path=str(tmp_path / "data.nc")))


@pytest.mark.parametrize("key", ["extent_y", "origin_x"])
def test_lengths_of_a_plane_are_numbers(key: str, tmp_path: Path) -> None:
    plane = DATA.rename(latitude="y", longitude="x").isel(y=slice(None, None, -1))
    attrs = {"periodic": "", "origin_y": 0.0, "origin_x": 0.0, key: "wide"}
    plane.assign_attrs(attrs).to_netcdf(tmp_path / "data.nc")
    with rejects("bad-grid", "data.nc", key, "wide"):
        open_source(SourceConfig(path=str(tmp_path / "data.nc")))


@pytest.mark.parametrize("version", [2, 3])
def test_an_axis_that_cannot_be_read_is_named(version: int, tmp_path: Path) -> None:
    path = tmp_path / "data.zarr"
    DATA.to_zarr(path, zarr_format=version, consolidated=False)
    (path / "longitude" / {2: "0", 3: "c/0"}[version]).write_bytes(b"no chunk")
    with rejects("unreadable-file", "longitude", str(path)):
        open_source(SourceConfig(path=str(path)))

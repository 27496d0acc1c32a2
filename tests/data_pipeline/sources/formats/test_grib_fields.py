"""Fields of GRIB as NCEP and ECMWF publish it."""

from pathlib import Path

import eccodes
import numpy as np
import pytest
import xarray as xr

from data_pipeline.channels import Channels
from data_pipeline.grids.grid import LatLonGrid
from data_pipeline.sources.canonical import open_source
from data_pipeline.sources.config import SourceConfig
from data_pipeline.sources.formats.grib_fields import datasets_of, read_fields
from data_pipeline.sources.formats.grib_messages import check_messages
from tests.builders.era5 import make_era5, make_grib, read_source
from tests.builders.errors import rejects
from tests.builders.open_data import OpenDataFile, gfs_file, grib_message, ifs_file

GRID = LatLonGrid.equiangular(7, 12, poles=True)
NOON = np.datetime64("2026-11-30T12", "ns")
SIX_HOURS = np.timedelta64(6, "h")
_RNG = np.random.default_rng(0)
HEIGHT, TEMPERATURE = 5500 + 100 * _RNG.random(GRID.shape), 280 + _RNG.random(GRID.shape)
WIND, SKIN, RAIN = _RNG.random(GRID.shape), 290 + _RNG.random(GRID.shape), _RNG.random(GRID.shape)
PRESSURE = 1e5 + 100 * _RNG.random(GRID.shape)

GFS = {
    ("HGT", "500 mb"): HEIGHT,
    ("TMP", "2 m above ground"): TEMPERATURE,
    ("TMP", "surface"): SKIN,
    ("UGRD", "10 m above ground"): WIND,
    ("VGRD", "100 m above ground"): WIND,
    ("PRMSL", "mean sea level"): PRESSURE,
    ("PRES", "surface"): PRESSURE - 1000,
    ("APCP", "surface"): RAIN,
}
IFS = {
    ("gh", "500"): HEIGHT,
    ("2t", ""): TEMPERATURE,
    ("skt", ""): SKIN,
    ("10u", ""): WIND,
    ("msl", ""): PRESSURE,
    ("sp", ""): PRESSURE - 1000,
    ("tp", ""): RAIN / 1000,
}
EXPECTED = {
    "geopotential": (9.80665 * HEIGHT, "m2 s-2"),
    "2m_temperature": (TEMPERATURE, "K"),
    "skin_temperature": (SKIN, "K"),
    "10m_u_component_of_wind": (WIND, "m s-1"),
    "mean_sea_level_pressure": (PRESSURE, "Pa"),
    "surface_pressure": (PRESSURE - 1000, "Pa"),
    "total_precipitation": (RAIN / 1000, "m"),
}


def write(folder: Path, name: str, file: OpenDataFile) -> Path:
    path = folder / name
    path.write_bytes(file.content)
    return path


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, start = tmp_path_factory.mktemp("published"), NOON - SIX_HOURS
    return {
        "gfs": write(folder, "gfs.t06z.pgrb2.0p25.f006", gfs_file(GRID, start, 6, GFS)),
        "ifs": write(folder, "20261130060000-6h-oper-fc.grib2", ifs_file(GRID, start, 6, IFS)),
        "analysis": write(folder, "gfs.t06z.pgrb2.0p25.f000", gfs_file(GRID, start, 0, GFS)),
    }


@pytest.fixture(scope="module")
def read(published: dict[str, Path]) -> dict[str, xr.Dataset]:
    return {name: open_source(SourceConfig(path=str(published[name]))) for name in ("gfs", "ifs")}


@pytest.mark.parametrize("center", ["gfs", "ifs"])
def test_a_published_file_is_a_canonical_dataset(read: dict[str, xr.Dataset], center: str) -> None:
    """Whatever the names, units, first meridian and packing of the center."""
    found = read[center]
    np.testing.assert_array_equal(found["time"], [NOON])
    np.testing.assert_allclose(found["longitude"], GRID.longitude)
    np.testing.assert_allclose(found["latitude"], GRID.latitude)
    for name, (values, units) in EXPECTED.items():
        state = found[name].sel(level=500) if "level" in found[name].dims else found[name]
        np.testing.assert_allclose(state.isel(time=0), values, rtol=1e-5, err_msg=name)
        assert found[name].attrs["units"] == units
    labels = Channels.from_dataset(found, ["geopotential_850", "t500", "q850", "tcwv"]).labels
    assert labels[-1] == "total_column_water_vapour"


def test_winds_at_100_m_are_those_of_gfs(read: dict[str, xr.Dataset]) -> None:
    np.testing.assert_allclose(read["gfs"]["100m_v_component_of_wind"][0], WIND, rtol=1e-6)


def test_levels_without_a_label_are_left_out(read: dict[str, xr.Dataset]) -> None:
    """GFS has .4 hPa."""
    assert read["gfs"]["level"].values.tolist() == [500, 850]


def test_files_of_several_times_are_joined_on_what_is_wanted(published: dict[str, Path]) -> None:
    """The analysis has no sums over hours before."""
    paths = [str(published["analysis"]), str(published["gfs"])]
    found = open_source(SourceConfig(path=paths), wanted=["geopotential", "2m_temperature"])
    np.testing.assert_array_equal(found["time"], [NOON - SIX_HOURS, NOON])
    np.testing.assert_allclose(found["geopotential"][1], found["geopotential"][0], rtol=1e-6)


def test_files_with_parts_of_a_state_are_joined(
    published: dict[str, Path], read: dict[str, xr.Dataset], tmp_path: Path
) -> None:
    content, messages = published["ifs"].read_bytes(), check_messages(str(published["ifs"]))
    for part in range(2):
        chosen = messages[part::2]
        pieces = [content[m.start : m.start + m.length] for m in chosen]
        (tmp_path / f"{part}.grib2").write_bytes(b"".join(pieces))
    whole, found = read["ifs"], read_source(tmp_path)
    for name in EXPECTED:
        np.testing.assert_array_equal(found[name], whole[name])


def test_sums_over_several_intervals_are_named(tmp_path: Path) -> None:
    """GFS has sums since its start and over the last hours."""
    path = write(tmp_path, "f006", gfs_file(GRID, NOON, 6, GFS))
    keys = {"centre": "kwbc", "typeOfFirstFixedSurface": 1}
    times = {"dataDate": 20261130, "dataTime": 1200, "stepRange": "3-6"}
    rain = {"parameterCategory": 1, "parameterNumber": 8, "typeOfStatisticalProcessing": 1}
    further = {"productDefinitionTemplateNumber": 8, **keys, **times, **rain}
    path.write_bytes(path.read_bytes() + grib_message(GRID, further, RAIN))
    found = open_source(SourceConfig(path=str(path)))
    assert "total_precipitation" not in found
    with rejects("missing-variable", "total_precipitation", "0-6", "3-6", "f006"):
        Channels.from_dataset(found, ["total_precipitation"])


def test_messages_that_are_no_full_array_become_several(tmp_path: Path) -> None:
    era5 = make_era5(num_times=3)["temperature"]
    make_grib(era5, "t", tmp_path / "whole.grib")
    content, messages = (
        (tmp_path / "whole.grib").read_bytes(),
        check_messages(str(tmp_path / "whole.grib")),
    )
    kept = messages[:5]  # the last time lacks the second level
    (tmp_path / "part.grib").write_bytes(
        b"".join(content[m.start : m.start + m.length] for m in kept)
    )
    file = str(tmp_path / "part.grib")
    found = datasets_of(file, read_fields(file, check_messages(file)))
    assert sorted(int(d["t"].size // np.prod(GRID.shape)) for d in found) == [1, 4]
    for dataset in found:
        for time in np.atleast_1d(dataset["valid_time"]):
            for level in np.atleast_1d(dataset["isobaricInhPa"]):
                state = dataset["t"]
                for axis, value in (("valid_time", time), ("isobaricInhPa", level)):
                    state = state.sel({axis: value}) if axis in state.dims else state
                expected = era5.sel(time=time, level=level)
                np.testing.assert_allclose(state, expected, rtol=1e-6)


def test_parts_of_an_array_are_parts_of_the_whole(tmp_path: Path) -> None:
    path = str(tmp_path / "t.grib")
    make_grib(make_era5(num_times=3)["temperature"], "t", Path(path))
    (lazy,) = datasets_of(path, read_fields(path, check_messages(path)))
    whole = lazy["t"].load()
    (lazy,) = datasets_of(path, read_fields(path, check_messages(path)))
    for index in (np.s_[1], np.s_[::2, 1, 2:4], np.s_[[2, 0], :, 3, ::5], np.s_[0:0]):
        xr.testing.assert_equal(lazy["t"][index].load(), whole[index])


def test_points_without_a_value_are_missing(tmp_path: Path) -> None:
    values = TEMPERATURE.copy()
    values[2, 3] = np.nan
    keys = {"shortName": "skt", "dataDate": 20261130, "dataTime": 0}
    (tmp_path / "skt.grib2").write_bytes(grib_message(GRID, keys, values))
    found = read_source(tmp_path / "skt.grib2")["skin_temperature"][0]
    np.testing.assert_allclose(found, values, rtol=1e-6)


def test_rows_from_the_south_and_columns_first(tmp_path: Path) -> None:
    keys = {"shortName": "2t", "dataDate": 20261130, "dataTime": 0, "jScansPositively": 1}
    south = {"latitudeOfFirstGridPointInDegrees": -90, "latitudeOfLastGridPointInDegrees": 90}
    message = grib_message(GRID, keys | south, TEMPERATURE[::-1])
    (tmp_path / "south.grib2").write_bytes(message)
    found = read_source(tmp_path / "south.grib2")["2m_temperature"][0]
    np.testing.assert_allclose(found, TEMPERATURE, rtol=1e-6)
    columns = {"shortName": "2t", "dataDate": 20261130, "dataTime": 0, "jPointsAreConsecutive": 1}
    (tmp_path / "columns.grib2").write_bytes(grib_message(GRID, columns, TEMPERATURE.T))
    found = read_source(tmp_path / "columns.grib2")["2m_temperature"][0]
    np.testing.assert_allclose(found, TEMPERATURE, rtol=1e-6)


def test_messages_of_edition_1(tmp_path: Path) -> None:
    keys = {"shortName": "t", "level": 500, "dataDate": 20261130, "dataTime": 600}
    content = grib_message(GRID, keys, TEMPERATURE, sample="regular_ll_pl_grib1")
    (tmp_path / "t.grib").write_bytes(content)
    found = read_source(tmp_path / "t.grib")["temperature"].sel(level=500)
    np.testing.assert_array_equal(found["time"], [NOON - SIX_HOURS])
    np.testing.assert_allclose(found[0], TEMPERATURE, rtol=1e-6)


def test_members_are_an_axis(tmp_path: Path) -> None:
    keys = {"productDefinitionTemplateNumber": 1, "shortName": "2t", "dataDate": 20261130}
    content = b"".join(
        grib_message(GRID, {**keys, "perturbationNumber": n}, TEMPERATURE + n) for n in (1, 2)
    )
    (tmp_path / "ensemble.grib2").write_bytes(content)
    with rejects("several-members", "number"):
        read_source(tmp_path / "ensemble.grib2")
    found = read_source(tmp_path / "ensemble.grib2", select={"number": 2})["2m_temperature"][0]
    np.testing.assert_allclose(found, TEMPERATURE + 2, rtol=1e-6)


def test_messages_with_several_fields_are_read(tmp_path: Path) -> None:
    """NCEP once put both components of the wind into one message."""
    several = eccodes.codes_grib_multi_new()
    for name in ("10u", "10v"):
        keys = {"shortName": name, "dataDate": 20261130, "dataTime": 0}
        single = eccodes.codes_new_from_message(grib_message(GRID, keys, WIND))
        eccodes.codes_grib_multi_append(single, 4, several)
        eccodes.codes_release(single)
    with (tmp_path / "wind.grib2").open("wb") as file:
        eccodes.codes_grib_multi_write(several, file)
    eccodes.codes_grib_multi_release(several)
    assert [m.num_fields for m in check_messages(str(tmp_path / "wind.grib2"))] == [2]
    found = read_source(tmp_path / "wind.grib2")
    for name in ("10m_u_component_of_wind", "10m_v_component_of_wind"):
        np.testing.assert_allclose(found[name][0], WIND, rtol=1e-6)

"""A variable is a field by its name, level or height, and what was done to it over time."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr

from data_pipeline.sources.fields.identify import ambiguous_names, identified, statistic_over_time
from tests.builders.era5 import ERA5_GRID, make_era5, make_grib, read_source
from tests.builders.errors import rejects

HEIGHT = {"units": "m", "standard_name": "height"}


def make(
    variables: Mapping[str, float | tuple[float, Mapping[str, Any]]],
    scalars: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Constant fields, in K unless attributes say otherwise, with scalar coordinates."""
    data = {}
    for name, given in variables.items():
        value, attrs = given if isinstance(given, tuple) else (given, {})
        shape, plane = (2, *ERA5_GRID.shape), ("time", "latitude", "longitude")
        data[name] = (plane, np.full(shape, value, np.float32), {"units": "K", **attrs})
    times = np.array(["2001-01-01", "2001-01-02"], "datetime64[ns]")
    return xr.Dataset(data, {"time": times, **ERA5_GRID.coords, **(scalars or {})})


def names_in(dataset: xr.Dataset, rename: Mapping[str, str] | None = None) -> set[str]:
    found = identified(dataset, rename or {}, "a.nc")
    return {
        f"{name}@{array['level'].item()}" if "level" in array.dims else str(name)
        for name, array in found.data_vars.items()
    }


@pytest.mark.parametrize(
    ("stored", "coordinate", "expected"),
    [
        ("t", {"plev": ((), 85000.0, {"units": "Pa"})}, "temperature@850"),
        ("z", {"isobaricInhPa": 500}, "geopotential@500"),
        ("z", {}, "geopotential_at_surface"),
        ("z", {"potentialVorticity": 2000}, "z_potentialVorticity_2000"),
        ("t", {"heightAboveGround": ((), 2, {"units": "m"})}, "2m_temperature"),
        ("t", {"heightAboveGround": ((), 80, {"units": "m"})}, "t_heightAboveGround_80"),
        ("u", {"height": ((), 10.0, HEIGHT)}, "10m_u_component_of_wind"),
        ("v", {"height": ((), 100.0, HEIGHT)}, "100m_v_component_of_wind"),
        ("u", {"height": ((), 50.0, HEIGHT)}, "u_height_50"),
        ("t", {"depth": ((), 0.1, {"units": "m", "positive": "down"})}, "t_depth_0.1"),
        ("t", {"hybrid": 137}, "t_hybrid_137"),
        ("tas", {"height": ((), 1.5, HEIGHT)}, "2m_temperature"),
        ("t2m", {"surface": 0}, "2m_temperature"),
        ("T2M", {}, "2m_temperature"),
        ("T", {"level": 700}, "temperature@700"),
        ("T", {}, "T"),
        ("air", {}, "air"),
        ("air", {"level": ((), 2.0, {"units": "m"})}, "2m_temperature"),
        ("unknown", {"height": ((), 2.0, HEIGHT)}, "unknown"),
        ("unknown", {"level": 700}, "unknown@700"),
    ],
)
def test_name_and_vertical_coordinate(
    stored: str, coordinate: dict[str, Any], expected: str
) -> None:
    assert names_in(make({stored: 280.0}, coordinate)) == {expected}


AIR = {"standard_name": "air_temperature"}
TWO_METERS = {"height": ((), 2.0, HEIGHT)}


@pytest.mark.parametrize(
    ("attrs", "coordinate", "expected"),
    [
        (AIR, TWO_METERS, "2m_temperature"),
        (AIR, {}, "x"),
        (AIR, {"height": ((), 10.0, HEIGHT)}, "x_height_10"),
        (AIR, {"plev": ((), 85000.0, {"units": "Pa"})}, "temperature@850"),
        (AIR | {"cell_methods": "time: maximum"}, TWO_METERS, "x"),
        (AIR | {"cell_methods": "time: point"}, TWO_METERS, "2m_temperature"),
        (AIR | {"GRIB_stepType": "min"}, TWO_METERS, "x"),
        ({"standard_name": "surface_air_pressure"}, {}, "surface_pressure"),
        ({"standard_name": "eastward_wind"}, {}, "x"),
        ({"standard_name": "geopotential"}, {}, "x"),
    ],
)
def test_standard_names_need_level_or_height_and_cell_methods(
    attrs: dict[str, str], coordinate: dict[str, Any], expected: str
) -> None:
    assert names_in(make({"x": (280.0, attrs)}, coordinate)) == {expected}


@pytest.mark.parametrize(
    ("attrs", "expected"),
    [
        ({"cell_methods": "area: mean time: maximum"}, "maximum"),
        ({"cell_methods": "time: mean (interval: 3 hours)"}, "mean"),
        ({"cell_methods": "time: maximum within days time: mean over days"}, "maximum"),
        ({"cell_methods": "time: mean within days time: mean over years"}, "mean_of_climatology"),
        ({"cell_methods": "area: mean time: point"}, ""),
        ({"GRIB_stepType": "max"}, "maximum"),
        ({"GRIB_stepType": "instant"}, ""),
        ({}, ""),
    ],
)
def test_statistics_over_time(attrs: dict[str, str], expected: str) -> None:
    assert statistic_over_time(xr.DataArray(0, attrs=attrs)) == expected


def test_daily_means_keep_their_name_and_maxima_do_not() -> None:
    mean = {"cell_methods": "time: mean"}
    assert names_in(make({"tas": (280.0, mean)}, TWO_METERS)) == {"2m_temperature"}
    maximum = {"cell_methods": "time: maximum"}
    assert names_in(make({"t2m": (280.0, maximum)})) == {"t2m_maximum"}


def test_guesses_yield_to_names() -> None:
    found = names_in(make({"tas": 280.0, "T2": (290.0, AIR)}, TWO_METERS))
    assert found == {"2m_temperature", "T2"}
    found = names_in(make({"t": 280.0, "T": 290.0}, {"level": 500}))
    assert found == {"temperature@500", "T@500"}


def test_two_variables_of_one_name_are_an_error() -> None:
    with rejects("duplicate-name", "t2m", "tas", "2m_temperature", "data.source.rename"):
        names_in(make({"t2m": 280.0, "tas": 281.0}))
    with rejects("duplicate-name", "x", "y", "a.nc"):
        names_in(make({"x": (280.0, AIR), "y": (281.0, AIR)}, TWO_METERS))
    with rejects("duplicate-name", "t2m", "TREFHT"):
        names_in(make({"t2m": 280.0, "TREFHT": 281.0}), {"TREFHT": "t2m"})


def test_a_scalar_of_another_variable_of_the_file_is_no_contradiction() -> None:
    scalars = {"plev": ((), 85000.0, {"units": "Pa"})}
    found = names_in(make({"tas": 290.0, "ta850": (280.0, AIR), "t2m_max": 0.0}, scalars))
    assert found == {"2m_temperature", "temperature@850", "t2m_max"}
    wind = {"height": ((), 10.0, HEIGHT)}
    assert "2m_temperature" in names_in(make({"tas": 290.0, "uas": 1.0}, wind))


@pytest.mark.parametrize(
    ("stored", "coordinate", "named"),
    [
        ("tas", {"height": ((), 10.0, HEIGHT)}, "height=10"),
        ("t2m", {"level": ((), 500, {"units": "hPa"})}, "level=500"),
        ("u10", {"heightAboveGround": ((), 100, {"units": "m"})}, "heightAboveGround=100"),
    ],
)
def test_contradictions_are_rejected(stored: str, coordinate: dict[str, Any], named: str) -> None:
    with rejects("contradictory-level", stored, named, "a.nc", "data.source.rename"):
        names_in(make({stored: 280.0}, coordinate))


@pytest.mark.parametrize(
    ("rename", "expected"),
    [
        ({"X850": "t"}, "temperature"),
        ({"X850": "t850"}, "temperature@850"),
        ({"X850": "temperature_850"}, "temperature@850"),
        ({"X850": "u10"}, "10m_u_component_of_wind"),
        ({"X850": "my_own_name"}, "my_own_name"),
    ],
)
def test_names_that_users_give(rename: dict[str, str], expected: str) -> None:
    assert names_in(make({"X850": 280.0}), rename) == {expected}


def test_a_label_as_the_stored_name_gives_the_level() -> None:
    fields = {"T500": 250.0, "T850": 280.0}
    found = identified(make(fields), {"T500": "t", "T850": "t"}, "a.nc")["temperature"]
    assert found.isel(time=0, latitude=0, longitude=0).values.tolist() == [250, 280]
    assert found["level"].values.tolist() == [500, 850]
    with rejects("contradictory-level", "T850", "850 hPa", "plev=500"):
        plev = {"plev": ((), 50000.0, {"units": "Pa"})}
        identified(make({"T850": 1.0}, plev), {"T850": "t850"}, "a.nc")


def test_levels_that_a_variable_lacks_are_listed_and_nothing_is_read() -> None:
    def read(block: np.ndarray) -> np.ndarray:
        raise AssertionError(f"{block.shape} were read")

    def unreadable(array: xr.DataArray) -> xr.DataArray:
        return array.copy(data=da.zeros(array.shape).map_blocks(read, meta=np.zeros(0)))

    dataset = make({"t500": 250.0, "q850": 0.0})
    found = identified(dataset.map(unreadable), {n: n for n in ("t500", "q850")}, "a.nc")
    assert found["temperature"].attrs["levels"] == [500]
    assert found["specific_humidity"].attrs["levels"] == [850]


def test_names_at_several_heights_tell_where_they_are() -> None:
    """GRIB files of a forecast center hold the same name on pressures, at heights and surfaces."""
    parts = [
        make({"t": 280.0}, {"isobaricInhPa": 500}),
        make({"t": 280.0, "sp": 1.0}, {"surface": 0}),
        make({"t": 280.0}, {"tropopause": 0}),
        make({"gust": 1.0}, {"surface": 0}),
    ]
    several = ambiguous_names(parts)
    assert several == {"t"}
    found = [set(identified(part, {}, "a.grib", several).data_vars) for part in parts]
    expected: Sequence[set[str]] = [{"temperature"}, {"t_surface", "surface_pressure"}]
    assert found == [*expected, {"t_tropopause_0"}, {"gust"}]


def test_grib_messages_of_one_level_keep_it(tmp_path: Path) -> None:
    era5 = make_era5(2)
    for level in (500, 850):
        make_grib(era5["temperature"].sel(level=[level]), "t", tmp_path / f"t{level}.grib")
    make_grib(era5["2m_temperature"], "2t", tmp_path / "2t.grib")
    found = read_source(tmp_path)
    np.testing.assert_allclose(found["temperature"], era5["temperature"], rtol=1e-6)
    np.testing.assert_allclose(found["2m_temperature"], era5["2m_temperature"], rtol=1e-6)


def test_a_speed_named_as_a_component_is_another_field() -> None:
    """U10 of CESM is the wind speed at 10 m."""
    dataset = make({"U10": 5.0}, {})
    dataset["U10"].attrs.update(units="m s-1")
    assert names_in(dataset) == {"10m_u_component_of_wind"}
    dataset["U10"].attrs["long_name"] = "10m wind speed"
    assert names_in(dataset) == {"U10"}

"""Units are those of the variable's name, or rejected by name."""

import dask.array
import numpy as np
import pytest
import xarray as xr

from data_pipeline.channels import Channels
from data_pipeline.sources.convert import conversions_in
from data_pipeline.sources.names import UNITS
from data_pipeline.sources.units import require_units, with_checked_units
from tests.builders.errors import rejects


def with_units(**units: str) -> xr.Dataset:
    return xr.Dataset({name: ("x", np.zeros(2), {"units": of}) for name, of in units.items()})


def test_units_of_any_spelling_become_one() -> None:
    found = with_checked_units(with_units(temperature="Kelvin"), {}, "a.nc", planar=False)
    assert found["temperature"].attrs["units"] == "K"


def test_all_wrong_units_are_named_with_their_file() -> None:
    dataset = with_units(temperature="degC", mean_sea_level_pressure="hPa")
    with rejects("units-mismatch", "a.nc", "temperature in 'degC'", "'hPa', expected 'Pa'"):
        with_checked_units(dataset, {}, "a.nc", planar=False)


def test_units_that_are_stated_replace_those_of_the_file() -> None:
    dataset = with_units(temperature="degC")
    found = with_checked_units(dataset, {"temperature": "K"}, "a.nc", planar=False)
    assert found["temperature"].attrs["units"] == "K"


def test_variables_on_a_plane_without_units_are_dimensionless() -> None:
    found = with_checked_units(with_units(u="", v="m/s"), {}, "a.nc", planar=True)
    assert [found[name].attrs["units"] for name in ("u", "v")] == ["1", "m s-1"]


def test_variables_without_units_are_named_with_the_usual_ones() -> None:
    with rejects("missing-units", "temperature: K", "data.source.units"):
        require_units(with_units(temperature="", geopotential="m2 s-2"), ["temperature"])


def convert(name: str, units: str, values: list[float]) -> xr.DataArray:
    dataset = xr.Dataset({name: ("x", np.array(values, np.float32), {"units": units})})
    return with_checked_units(dataset, {}, "a.nc", planar=False, convert=True)[name]


@pytest.mark.parametrize(
    ("name", "units", "value", "expected"),
    [
        ("mean_sea_level_pressure", "hPa", 1013.25, 101325),
        ("2m_temperature", "degC", 20, 293.15),
        ("2m_temperature", "degF", 68, 293.15),
        ("10m_u_component_of_wind", "knots", 10, 5.14444),
        ("specific_humidity", "g kg-1", 8, 0.008),
        ("total_precipitation", "mm", 12, 0.012),
        ("total_precipitation", "kg m-2", 12, 0.012),
        ("total_column_water_vapour", "mm", 30, 30),
        ("relative_humidity", "1", 0.5, 50),
        ("geopotential", "gpm", 5500, 53936.575),
        ("geopotential_at_surface", "m", 100, 980.665),
    ],
)
def test_known_units_are_converted_on_request(
    name: str, units: str, value: float, expected: float
) -> None:
    found = convert(name, units, [value])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.values, expected, rtol=1e-6)
    assert found.attrs["units"] == UNITS[name]


def test_conversions_are_lazy_and_reported() -> None:
    lazy = dask.array.from_array(np.full(4, 20.0))
    dataset = xr.Dataset({"2m_temperature": ("x", lazy, {"units": "deg_C"})})
    found = with_checked_units(dataset, {}, "a.nc", planar=False, convert=True)
    assert found["2m_temperature"].chunks is not None
    assert conversions_in(found) == ["2m_temperature converted from 'degC' to 'K'"]


def test_the_error_of_known_units_names_the_setting_that_converts() -> None:
    with rejects("units-mismatch", "data.source.convert=true"):
        with_checked_units(with_units(temperature="degC"), {}, "a.nc", planar=False)
    unknown = with_units(temperature="furlong")
    with rejects("units-mismatch", "'furlong'"):
        with_checked_units(unknown, {}, "a.nc", planar=False, convert=True)


def test_geopotential_is_taken_from_heights_on_request() -> None:
    dataset = with_units(geopotential_height="gpm")
    found = with_checked_units(dataset + 5500, {}, "a.nc", planar=False, convert=False)
    with rejects("missing-variable", "geopotential_height", "data.source.convert=true"):
        Channels.from_dataset(found, ["geopotential"])
    dataset = (dataset + 5500).map(lambda a: a.assign_attrs(units="gpm"))
    found = with_checked_units(dataset, {}, "a.nc", planar=False, convert=True)
    np.testing.assert_allclose(found["geopotential"], 5500 * 9.80665)
    np.testing.assert_array_equal(found["geopotential_height"], 5500)

"""Units are those of the variable's name, or rejected by name."""

import numpy as np
import xarray as xr

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

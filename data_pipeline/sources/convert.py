"""Conversions of units that a source is read with if ``data.source.convert`` is set.

Each is linear, value * factor + offset, and lazy. Water is counted with 1000 kg m-3, heights become
geopotentials with the standard gravity of 9.80665 m s-2.
"""

from typing import NamedTuple

import xarray as xr

from data_pipeline.sources.names import ACCUMULATED, normalize_units

GRAVITY = 9.80665
"""Standard gravity in m s-2."""


class LinearConversion(NamedTuple):
    """Factor and offset from a unit to another."""

    factor: float
    offset: float = 0.0

    def apply(self, array: xr.DataArray, units: str) -> xr.DataArray:
        """Converted values, lazy where ``array`` is, with the former units as an attribute."""
        values = array * self.factor
        values = values + self.offset if self.offset else values
        former = str(array.attrs.get("units", ""))
        result = values.assign_attrs(array.attrs | {"units": units, "converted_from": former})
        result.encoding = {}
        return result


_CONVERSIONS = {
    ("hPa", "Pa"): LinearConversion(100),
    ("kPa", "Pa"): LinearConversion(1000),
    ("hPa s-1", "Pa s-1"): LinearConversion(100),
    ("Pa h-1", "Pa s-1"): LinearConversion(1 / 3600),
    ("degC", "K"): LinearConversion(1, 273.15),
    ("degF", "K"): LinearConversion(5 / 9, 459.67 * 5 / 9),
    ("km h-1", "m s-1"): LinearConversion(1 / 3.6),
    ("kt", "m s-1"): LinearConversion(1852 / 3600),
    ("g kg-1", "kg kg-1"): LinearConversion(1e-3),
    ("mg kg-1", "kg kg-1"): LinearConversion(1e-6),
    ("mm", "m"): LinearConversion(1e-3),
    ("cm", "m"): LinearConversion(1e-2),
    ("km", "m"): LinearConversion(1e3),
    ("mm", "kg m-2"): LinearConversion(1),
    ("1", "%"): LinearConversion(100),
    ("%", "1"): LinearConversion(0.01),
    ("kJ m-2", "J m-2"): LinearConversion(1e3),
    ("MJ m-2", "J m-2"): LinearConversion(1e6),
    ("m", "m2 s-2"): LinearConversion(GRAVITY),
}
_OF_WATER = {("kg m-2", "m"): LinearConversion(1e-3)}


def conversion_between(units: str, expected: str, variable: str) -> LinearConversion | None:
    """Known conversion of a variable's units, spelled as by ``normalize_units``, or ``None``."""
    of_water = _OF_WATER if variable in (*ACCUMULATED, "total_precipitation_6hr") else {}
    return (_CONVERSIONS | of_water).get((units, expected))


def with_geopotential(dataset: xr.Dataset) -> xr.Dataset:
    """Add the geopotential of the geopotential height where only the height is there."""
    height = dataset["geopotential_height"]
    factor = conversion_between(normalize_units(height.attrs["units"]), "m2 s-2", "geopotential")
    if factor is None:
        return dataset
    return dataset.assign(geopotential=factor.apply(height, "m2 s-2"))


def conversions_in(dataset: xr.Dataset) -> list[str]:
    """Sentences on which variables were converted, from which units to which."""
    former = {n: array.attrs.get("converted_from") for n, array in dataset.data_vars.items()}
    return [
        f"{name} converted from {units!r} to {dataset[name].attrs['units']!r}"
        for name, units in former.items()
        if units
    ]

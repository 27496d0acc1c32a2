"""Vertical coordinates of sources: their kinds, and pressure levels as increasing integers in hPa.

A coordinate is of the kind that, in this order, its standard name, its formula or long name (model
levels), its units, or its name tells; GRIB names coordinates by the type of level. A coordinate
``level`` without any of these is pressure, in Pa where a value is larger than 2000, else in hPa.

References:
    CF Conventions 1.11, section 4.3 and appendix D, https://cfconventions.org
"""

import re
from typing import Literal

import numpy as np
import xarray as xr

from data_pipeline.errors import InputError
from data_pipeline.sources.axes import sorted_along
from data_pipeline.sources.left_out import leave_out
from data_pipeline.sources.names import normalize_units

VerticalKind = Literal[
    "pressure", "height", "altitude", "depth", "surface", "model level", "isentropic", "other"
]

_LARGEST_PRESSURE = 2000  # hPa; levels without units beyond it are in Pa
_IN_HECTOPASCALS = {
    "Pa": 0.01,
    "kPa": 10.0,
    "bar": 1000.0,
    "hPa": 1.0,
}
_CONVERTED = ("kPa", "bar")  # are pressures that, like all units, are not converted unasked
_IN_METERS = {"m": 1.0, "km": 1000.0, "cm": 0.01, "gpm": 1.0, "ft": 0.3048}
_DIMENSIONLESS = ("1", "level", "levels", "layer", "layers", "sigma", "sigma_level", "index")
_MODEL_LEVELS = re.compile(r"hybrid|sigma|model.?level|eta.level", re.IGNORECASE)
_BY_STANDARD_NAME: dict[str, VerticalKind] = {
    "air_pressure": "pressure",
    "height": "height",
    "altitude": "altitude",
    "height_above_mean_sea_level": "altitude",
    "geopotential_height": "altitude",
    "depth": "depth",
    "air_potential_temperature": "isentropic",
    "model_level_number": "model level",
}
_BY_NAME: dict[str, VerticalKind] = {
    **dict.fromkeys(
        ("level", "lev", "plev", "pressure", "pressure_level", "air_pressure", "isobaric"),
        "pressure",
    ),
    **dict.fromkeys(("isobaricinhpa", "isobaricinpa", "isobaricsurface"), "pressure"),
    **dict.fromkeys(("height", "heightaboveground", "heightabovegroundlayer"), "height"),
    **dict.fromkeys(("altitude", "heightabovesea"), "altitude"),
    **dict.fromkeys(("depth", "depthbelowland", "depthbelowlandlayer", "depthbelowsea"), "depth"),
    **dict.fromkeys(("surface", "meansea"), "surface"),
    **dict.fromkeys(("hybrid", "hybridlevel", "model_level", "eta"), "model level"),
    "theta": "isentropic",
}


def vertical_kind(coordinate: xr.DataArray, stated_units: str = "") -> VerticalKind:
    """Kind of a vertical coordinate, scalar or an axis, see the module's header.

    Args:
        coordinate: With its name and CF attributes.
        stated_units: Units in place of those of the attributes, which decide alone.
    """
    attrs = {key: str(value) for key, value in coordinate.attrs.items()}
    stated, name = normalize_units(stated_units), str(coordinate.name).lower()
    units = stated or normalize_units(attrs.get("units", ""))
    standard = "" if stated else attrs.get("standard_name", "")
    if standard in _BY_STANDARD_NAME:
        return _BY_STANDARD_NAME[standard]
    if "formula_terms" in attrs and not stated:
        return "model level"
    if _MODEL_LEVELS.search(f"{standard} {'' if stated else attrs.get('long_name', '')}"):
        return "model level"
    if units in _IN_HECTOPASCALS:
        return "pressure"
    by_name = _BY_NAME.get(name, "other")
    if units in _IN_METERS:
        downward = by_name == "depth" or attrs.get("positive") == "down"
        return "depth" if downward else "altitude" if by_name == "altitude" else "height"
    if units == "K":
        return "isentropic"
    if by_name != "pressure" or not units:
        return by_name
    return "model level" if units in _DIMENSIONLESS else "other"


def vertical_values(coordinate: xr.DataArray, stated_units: str = "") -> np.ndarray:
    """Values in hPa of a pressure, in m of a height, an altitude or a depth, float64."""
    values = np.asarray(coordinate.values, float)
    units = normalize_units(stated_units or str(coordinate.attrs.get("units", "")))
    if vertical_kind(coordinate, stated_units) != "pressure":
        return np.asarray(values * _IN_METERS.get(units, 1.0))
    too_large = not units and values.size and np.nanmax(values) > _LARGEST_PRESSURE
    return np.asarray(values * _IN_HECTOPASCALS.get("Pa" if too_large else units, 1.0))


def with_integer_levels(dataset: xr.Dataset, name: str, stated_units: str = "") -> xr.Dataset:
    """Order levels as increasing integers in hPa; leave out variables on levels of other kinds.

    Args:
        dataset: Variables whose vertical axis, if any, is ``level``.
        name: File, for messages.
        stated_units: Units of the levels in place of those of the file.

    Raises:
        InputError: If a pressure level is not an integer in hPa.
    """
    if "level" not in dataset.dims:
        return dataset.drop_vars("level", errors="ignore")
    axis = dataset["level"]
    if axis.dtype.kind not in "iuf" or not np.isfinite(axis.values).all() or not axis.size:
        message = f"{name} has {axis.size} levels of the type {axis.dtype}, expected finite numbers"
        raise InputError(message + "; correct the coordinate in the file", code="bad-levels")
    kind, units = vertical_kind(axis, stated_units), stated_units or axis.attrs.get("units", "")
    if kind != "pressure" or normalize_units(str(units)) in _CONVERTED:
        values = ", ".join(f"{value:g}" for value in axis.values[:3].astype(float))
        reason = f"its axis level in {name} is in {units!r} ({kind}: {values}, ...), expected "
        reason += "pressure in hPa or Pa; interpolate it to pressure levels, or correct the label "
        reason += "with data.source.units={level: hPa} if that is right"
        on_levels = [str(n) for n, array in dataset.data_vars.items() if "level" in array.dims]
        return leave_out(dataset, dict.fromkeys(on_levels, reason)).drop_vars("level")
    levels = vertical_values(axis, stated_units)
    if not np.allclose(levels, np.round(levels)):
        message = f"{name} has the levels {levels.tolist()} hPa, expected integers"
        raise InputError(message, code="bad-levels")
    if len(np.unique(np.round(levels))) < len(levels):
        message = f"{name} has the levels {levels.tolist()} hPa, expected each once; correct them"
        raise InputError(message, code="bad-levels")
    return sorted_along(dataset.assign_coords(level=np.round(levels).astype(int)), "level")

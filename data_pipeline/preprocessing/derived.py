"""Variables that are computed from others where the data lacks them.

wind_speed, 10m_wind_speed       length of the wind vector
relative_humidity                vapor pressure over its saturation over water, ice, or both between
                                 250.16 and 273.16 K
log_total_precipitation_6hr      log(1 + sum / 1e-5 m), like in FourCastNet's precipitation model
surface_altitude                 geopotential at the surface over 9.80665 m s-2, and the inverse

A variable of the data that states no units is computed as well where it can be: those that
WeatherBench 2 has added to ERA5 have none, and its relative humidity is a fraction, by another
formula than ERA5's percent. Sums over time, such as total_precipitation_6hr, are in
``accumulation``.

References:
    IFS Documentation CY47R3, Part IV, section 7.4.2 (saturation), ECMWF, 2021,
    https://doi.org/10.21957/eyrpir4vj
    Pathak et al., 2022, https://arxiv.org/abs/2202.11214, appendix B (precipitation).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr

from data_pipeline.precision import at_least_single
from data_pipeline.sources.convert import GRAVITY
from data_pipeline.sources.names import parse_label

_VAPOR_RATIO = 287.0597 / 461.5250  # gas constants of dry air and of water vapor
_MELTING, _ICE = 273.16, 250.16


class _Recipe(NamedTuple):
    inputs: tuple[str, ...]
    units: str
    compute: Callable[..., xr.DataArray]


def with_derived(dataset: xr.Dataset, variables: Sequence[str]) -> xr.Dataset:
    """Add variables (names or labels) that are missing or state no units, if they are known."""
    for name in dict.fromkeys(parse_label(label)[0] for label in variables):
        recipe = _RECIPES.get(name)
        if recipe is None or any(i not in dataset for i in recipe.inputs):
            continue
        units = [bool(dataset[n].attrs.get("units")) for n in recipe.inputs]
        if name in dataset and (dataset[name].attrs.get("units") or not all(units)):
            continue
        values = recipe.compute(*(at_least_single(dataset[i]) for i in recipe.inputs))
        dataset = dataset.assign({name: values.assign_attrs(units=recipe.units)})
    return dataset


def needed_for(variables: Sequence[str]) -> set[str]:
    """The variables (names or labels) and all that they can be computed from."""
    needed: set[str] = set()
    names = [parse_label(label)[0] for label in variables]
    while names:
        name = names.pop()
        if name not in needed:
            needed.add(name)
            names += _RECIPES[name].inputs if name in _RECIPES else ()
    return needed | ({"total_precipitation"} if "total_precipitation_6hr" in needed else set())


def saturation_pressure(temperature: xr.DataArray) -> xr.DataArray:
    """Saturation vapor pressure in Pa at a temperature in K, over water and ice as in the IFS."""
    above = temperature - _MELTING
    water = 611.21 * np.exp(17.502 * above / (temperature - 32.19))
    ice = 611.21 * np.exp(22.587 * above / (temperature + 0.7))
    liquid = ((temperature - _ICE) / (_MELTING - _ICE)).clip(0, 1) ** 2
    return liquid * water + (1 - liquid) * ice


def _speed(u: xr.DataArray, v: xr.DataArray) -> xr.DataArray:
    return (u**2 + v**2) ** 0.5


def _relative_humidity(humidity: xr.DataArray, temperature: xr.DataArray) -> xr.DataArray:
    pressure = 100.0 * humidity["level"]
    vapor = pressure * humidity / (_VAPOR_RATIO + (1 - _VAPOR_RATIO) * humidity)
    relative = 100 * vapor / saturation_pressure(temperature)
    return relative.transpose(*humidity.dims).astype(np.float32)


def _log_precipitation(precipitation: xr.DataArray) -> xr.DataArray:
    scaled = precipitation.clip(min=0) / 1e-5  # m
    return xr.apply_ufunc(np.log1p, scaled, dask="allowed")


_RECIPES = {
    "wind_speed": _Recipe(("u_component_of_wind", "v_component_of_wind"), "m s-1", _speed),
    "10m_wind_speed": _Recipe(
        ("10m_u_component_of_wind", "10m_v_component_of_wind"), "m s-1", _speed
    ),
    "relative_humidity": _Recipe(("specific_humidity", "temperature"), "%", _relative_humidity),
    "log_total_precipitation_6hr": _Recipe(("total_precipitation_6hr",), "1", _log_precipitation),
    "surface_altitude": _Recipe(("geopotential_at_surface",), "m", lambda z: z / GRAVITY),
    "geopotential_at_surface": _Recipe(("surface_altitude",), "m2 s-2", lambda h: h * GRAVITY),
}

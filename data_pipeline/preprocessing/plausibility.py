"""Plausible and possible values of variables, and guesses of the unit of values that are not.

Ranges hold for weather on Earth from the surface to 1 hPa, with room for extremes and for numerical
noise about zero. The range of geopotential follows the height of the standard atmosphere. The
doctor warns of values that are not plausible; ``prepare`` rejects those that are not possible, in
wider ranges which no data reaches.

References:
    U.S. Standard Atmosphere, 1976, https://ntrs.nasa.gov/citations/19770009539.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from data_pipeline.sources.convert import GRAVITY
from data_pipeline.sources.names import ACCUMULATED, UNITS


class Range(NamedTuple):
    """Smallest and largest plausible value, in the variable's units."""

    low: float
    high: float

    def contains(self, values: np.ndarray) -> np.ndarray:
        """Mark the values inside."""
        return (values >= self.low) & (values <= self.high)

    def __str__(self) -> str:
        return f"{self.low:.4g} to {self.high:.4g}"


class Conversion(NamedTuple):
    """``canonical = factor * value + offset``, for values in ``units``."""

    units: str
    factor: float
    offset: float = 0.0

    def __str__(self) -> str:
        parts = [f"multiply by {self.factor:.6g}"] if self.factor != 1 else []
        parts += [f"add {self.offset:.6g}"] if self.offset else []
        return " and ".join(parts)


_WIND, _TEMPERATURE, _FRACTION = Range(-150, 150), Range(150, 350), Range(-0.01, 1.01)
_CONDENSATE, _ENERGY = Range(-1e-4, 0.02), Range(-1e8, 1e8)

RANGES = {
    "geopotential": Range(-2e4, 1e6),  # of no known level
    "surface_altitude": Range(-500, 9000),
    "geopotential_at_surface": Range(-5e3, 9e4),
    "temperature": _TEMPERATURE,
    "u_component_of_wind": _WIND,
    "v_component_of_wind": _WIND,
    "wind_speed": Range(-1e-3, 200),
    "specific_humidity": Range(-1e-4, 0.05),
    "specific_cloud_liquid_water_content": _CONDENSATE,
    "specific_cloud_ice_water_content": _CONDENSATE,
    "ozone_mass_mixing_ratio": Range(-1e-6, 5e-5),
    "relative_humidity": Range(-10, 200),
    "relative_vorticity": Range(-5e-3, 5e-3),
    "divergence": Range(-5e-3, 5e-3),
    "vertical_velocity": Range(-30, 30),
    "potential_vorticity": Range(-1e-2, 1e-2),
    "fraction_of_cloud_cover": _FRACTION,
    "2m_temperature": _TEMPERATURE,
    "2m_dewpoint_temperature": Range(130, 320),
    "skin_temperature": Range(150, 370),
    "10m_u_component_of_wind": Range(-100, 100),
    "10m_v_component_of_wind": Range(-100, 100),
    "100m_u_component_of_wind": Range(-120, 120),
    "100m_v_component_of_wind": Range(-120, 120),
    "10m_wind_speed": Range(-1e-3, 120),
    "mean_sea_level_pressure": Range(85e3, 110e3),
    "surface_pressure": Range(30e3, 110e3),
    "total_column_water_vapour": Range(-0.5, 120),
    "total_column_water": Range(-0.5, 150),
    "total_cloud_cover": _FRACTION,
    "total_precipitation": Range(-1e-4, 2),
    "total_precipitation_6hr": Range(-1e-4, 1),
    "log_total_precipitation_6hr": Range(-1e-3, 12),
    "sea_surface_temperature": Range(260, 320),
    "sea_ice_cover": _FRACTION,
    "land_sea_mask": _FRACTION,
    "toa_incident_solar_radiation": Range(-1e3, 1.3e8),
}

_CELSIUS = Conversion("degrees Celsius", 1, 273.15)
_HEIGHT = Conversion("m (geopotential height)", GRAVITY)
_BY_UNITS = {
    "K": (_CELSIUS, Conversion("degrees Fahrenheit", 5 / 9, 459.67 * 5 / 9)),
    "Pa": (Conversion("hPa", 100), Conversion("kPa", 1000)),
    "kg kg-1": (Conversion("g kg-1", 1e-3), Conversion("mg kg-1", 1e-6)),
    "m2 s-2": (_HEIGHT, Conversion("dam (geopotential height)", 10 * GRAVITY)),
    "m": (Conversion("mm or kg m-2", 1e-3), Conversion("m2 s-2", 1 / GRAVITY)),
    "m s-1": (Conversion("cm s-1", 0.01), Conversion("km h-1", 1 / 3.6)),
    "1": (Conversion("%", 0.01),),
    "%": (Conversion("1", 100),),
    "J m-2": (),
    "s-1": (Conversion("1e-5 s-1", 1e-5),),
}
_PERCENT = Range(-1, 101)
_DIMENSIONLESS = ("1", "")
# Widths of the plausible range by which the possible one is larger on each side: sums over months,
# and storms in models that resolve them.
_MARGIN, _ACCUMULATED_MARGIN = 0.5, 50.0
_MARGINS = {"vertical_velocity": 10.0, "relative_vorticity": 50.0, "divergence": 50.0}
_LARGEST_MEAN_PRECIPITATION = 0.05  # in m; the mean of the globe is 3 mm a day


def plausible_range(name: str, level: int | None, units: str) -> Range | None:
    """Range of a variable in the units of its canonical name, or ``None`` where none is known."""
    if name == "geopotential" and level is not None:
        height = standard_height(100.0 * level)
        return Range(GRAVITY * (0.8 * height - 1000), GRAVITY * (1.06 * height + 800))
    if name in RANGES:
        is_fraction = RANGES[name] is _FRACTION
        return _PERCENT if is_fraction and units == "%" else RANGES[name]
    return _ENERGY if units == "J m-2" and name in ACCUMULATED else None  # not those of columns


def possible_range(name: str, level: int | None, units: str) -> Range | None:
    """Range beyond which no data is; ``None`` for variables or units that are not known."""
    expected = plausible_range(name, level, units)
    if expected is None or not _has_known_units(name, units, expected):
        return None
    margin = _ACCUMULATED_MARGIN if name in ACCUMULATED else _MARGINS.get(name, _MARGIN)
    width = margin * (expected.high - expected.low)
    low = expected.low - width
    if expected.low > 0:  # kelvin and pascal
        low = max(low, expected.low / 2)
    return Range(low, expected.high + width)


def _has_known_units(name: str, units: str, expected: Range) -> bool:
    if expected is _FRACTION:
        return units in _DIMENSIONLESS
    return expected in (_PERCENT, _ENERGY) or UNITS.get(name) == units


def standard_height(pressure: float) -> float:
    """Height in m of a pressure in Pa in the standard atmosphere, up to 1 hPa."""
    # Bottom of each layer: height, pressure, temperature; temperature per m above it.
    layers = [(0.0, 101325.0, 288.15, -0.0065), (11000.0, 22632.1, 216.65, 0.0)]
    layers += [(20000.0, 5474.89, 216.65, 0.001), (32000.0, 868.019, 228.65, 0.0028)]
    reached = [layer for layer in layers if pressure <= layer[1]]
    height, base, temperature, lapse = (reached or layers[:1])[-1]
    if lapse == 0:
        return height + 287.053 * temperature / GRAVITY * float(np.log(base / pressure))
    exponent = -287.053 * lapse / GRAVITY
    return height + temperature / lapse * ((pressure / base) ** exponent - 1)


def mean_is_implausible(name: str, values: np.ndarray) -> bool:
    """Whether the mean of values inside of the range is not: precipitation in mm, not m."""
    precipitation = name in ("total_precipitation", "total_precipitation_6hr")
    return precipitation and float(np.mean(values)) > _LARGEST_MEAN_PRECIPITATION


def guess_units(name: str, values: np.ndarray, expected: Range, units: str) -> Conversion | None:
    """Guess the unit in which most values are plausible, where in ``units`` they are not."""
    for conversion in _BY_UNITS.get(units, ()):
        converted = conversion.factor * values + conversion.offset
        fits = expected.contains(converted).mean() > 0.9
        if fits and not mean_is_implausible(name, converted):
            return conversion
    return None


def is_accumulated(name: str, units: str, attrs: Mapping[str, object]) -> bool:
    """Whether a variable is a sum over time: by its name, units or attributes."""
    named = bool(re.search(r"precipitation|rain|snowfall|evaporation|runoff", name))
    stated = "time: sum" in str(attrs.get("cell_methods", ""))
    stated = stated or attrs.get("GRIB_stepType") == "accum"
    return (named and "rate" not in name) or units == "J m-2" or stated

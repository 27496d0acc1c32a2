"""Forcings: input fields that are computed from the time and the grid.

day_of_year_sin, day_of_year_cos    phase of the year, 0 on January 1st at 00 UTC
local_time_sin, local_time_cos      phase of the local solar day, 0 at midnight
latitude_sin, latitude_cos          of the latitude
longitude_sin, longitude_cos        of the longitude
toa_insolation                      sunlight that arrives at the top of the atmosphere at that
                                    moment, over the solar constant of 1361 W m-2
toa_incident_solar_radiation        sunlight that arrived there in the hour before, in J m-2: the
                                    variable of this name of ERA5 (tisr)

Insolation is max(0, cos(zenith angle)) / r^2, with the position of the sun and its distance r in
astronomical units from the low-precision formulas of the Astronomical Almanac (0.01 degrees from
1950 to 2050). ERA5's radiation is its integral over the hour that ends at the time, times the
solar constant S. On average the sun is elsewhere half an hour before: the mean of the hour and the
value at its end are 68 W m-2 apart in the root mean square over the globe. S is 1361 W m-2; ERA5's
follows the solar cycle, from 1360.5 to 1361.9 W m-2, less than .1 % from it.

References:
    The Astronomical Almanac, section C5; Michalsky, 1988,
    https://doi.org/10.1016/0038-092X(88)90045-X
    ECMWF, ERA5: data documentation, https://confluence.ecmwf.int/display/CKB (accumulations);
    parameter 212, https://codes.ecmwf.int/grib/param-db/212.
    Lam et al., 2023, GraphCast, https://arxiv.org/abs/2212.12794, supplement 1 (as a forcing).
"""

from collections.abc import Callable, Sequence

import numpy as np

from data_pipeline.errors import InputError
from data_pipeline.grids.grid import Grid, LatLonGrid
from data_pipeline.grids.plane import require_latlon

DAYS_PER_YEAR = 365.2425
SOLAR_CONSTANT = 1361.0  # W m-2
_EPOCH = np.datetime64("2000-01-01T12:00:00", "ns")  # J2000


def compute_forcings(names: Sequence[str], times: np.ndarray, grid: Grid) -> np.ndarray:
    """Fields (time, forcing, latitude, longitude) of some of ``FORCINGS``, float32.

    Raises:
        InputError: If a name is unknown, or the grid is planar and there are names.
    """
    check_forcings(names)
    fields = np.empty((len(times), len(names), *grid.shape), np.float32)
    for index, name in enumerate(names):
        fields[:, index] = _FUNCTIONS[name](times, require_latlon(grid, f"data.forcings={name}"))
    return fields


def check_forcings(names: Sequence[str]) -> None:
    """Reject unknown names."""
    unknown = [name for name in names if name not in FORCINGS]
    if unknown:
        raise InputError(
            f"data.forcings has the unknown names {unknown}; known are {', '.join(FORCINGS)}",
            code="bad-setting",
        )


def year_phase(times: np.ndarray) -> np.ndarray:
    """Time since the start of the year over the length of a year, float64 of the same shape."""
    return (times - times.astype("datetime64[Y]")) / np.timedelta64(1, "D") / DAYS_PER_YEAR


def _local_day_phase(times: np.ndarray, grid: Grid) -> np.ndarray:
    days = (times - times.astype("datetime64[D]")) / np.timedelta64(1, "D")
    return days[:, None, None] + grid.coords["longitude"] / 360


def toa_insolation(times: np.ndarray, grid: Grid) -> np.ndarray:
    """Sunlight (time, latitude, longitude) over the solar constant, from 0 to about 1.034."""
    declination, hour_angle, distance = (x[:, None, None] for x in sun(times))
    latitude, longitude = (np.deg2rad(grid.coords[axis]) for axis in grid.dims)
    latitude, longitude = latitude[None, :, None], longitude[None, None, :]
    cosine = np.sin(latitude) * np.sin(declination)
    cosine = cosine + np.cos(latitude) * np.cos(declination) * np.cos(hour_angle + longitude)
    return np.maximum(cosine, 0) / distance**2


def toa_incident_solar_radiation(times: np.ndarray, grid: Grid) -> np.ndarray:
    """Sunlight (time, latitude, longitude) of the hour before, in J m-2: ERA5's variable.

    With the hour angle h and the sun above the horizon where |h| < H, it is S / r^2 times

        integral of max(0, A + B cos h) = A (h2 - h1) + B (sin h2 - sin h1)

    between both ends of the hour, each moved into -H..H. Declination and distance are those of the
    middle of the hour.
    """
    hour, half = np.timedelta64(60, "m"), np.timedelta64(30, "m")
    declination, _, distance = (x[:, None, None] for x in sun(times - half))
    (_, first, _), (_, last, _) = sun(times - hour), sun(times)
    width = ((last - first) % (2 * np.pi))[:, None, None]
    latitude, longitude = (np.deg2rad(grid.coords[axis]) for axis in grid.dims)
    sine, cosine = np.sin(latitude)[:, None], np.cos(latitude)[:, None]
    a, b = sine * np.sin(declination), cosine * np.cos(declination)
    sunset = np.arccos(np.clip(-a / np.maximum(b, 1e-12), -1, 1))
    half_day = a * sunset + b * np.sin(sunset)
    energy = SOLAR_CONSTANT * 3600 / width / distance**2
    a, b, half_day = a * energy, b * energy, half_day * energy

    def since_noon(angle: np.ndarray) -> np.ndarray:
        """The integral from 0 to an angle within -pi..pi."""
        inside = np.abs(angle) < sunset
        return np.where(inside, a * angle + b * np.sin(angle), np.copysign(half_day, angle))

    start = (first[:, None, None] + longitude + np.pi) % (2 * np.pi) - np.pi
    end, next_day = start + width, start + width > np.pi
    integral = since_noon(np.where(next_day, end - 2 * np.pi, end)) - since_noon(start)
    return integral + 2 * half_day * next_day


def forcing_scales(names: Sequence[str]) -> np.ndarray:
    """Usual size of forcings by name, in their units: what networks divide them by."""
    return np.array([_SCALES.get(name, 1.0) for name in names])


def sun(times: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Declination and hour angle at Greenwich (radians), distance (astronomical units): (time,)."""
    days = (times - _EPOCH) / np.timedelta64(1, "D")
    longitude = 280.460 + 0.9856474 * days
    anomaly = np.deg2rad(357.528 + 0.9856003 * days)
    ecliptic = np.deg2rad(longitude + 1.915 * np.sin(anomaly) + 0.020 * np.sin(2 * anomaly))
    obliquity = np.deg2rad(23.439 - 0.0000004 * days)
    right_ascension = np.arctan2(np.cos(obliquity) * np.sin(ecliptic), np.cos(ecliptic))
    declination = np.arcsin(np.sin(obliquity) * np.sin(ecliptic))
    sidereal = np.deg2rad(280.46062 + 360.98564737 * days)
    distance = 1.00014 - 0.01671 * np.cos(anomaly) - 0.00014 * np.cos(2 * anomaly)
    return declination, sidereal - right_ascension, distance


_Field = Callable[[np.ndarray, LatLonGrid], np.ndarray]


def _waves(name: str, phase: _Field) -> dict[str, _Field]:
    return {
        f"{name}_sin": lambda times, grid: np.sin(2 * np.pi * phase(times, grid)),
        f"{name}_cos": lambda times, grid: np.cos(2 * np.pi * phase(times, grid)),
    }


_FUNCTIONS: dict[str, _Field] = {
    **_waves("day_of_year", lambda times, grid: year_phase(times)[:, None, None]),
    **_waves("local_time", _local_day_phase),
    **_waves("latitude", lambda times, grid: grid.coords["latitude"][:, None] / 360),
    **_waves("longitude", lambda times, grid: grid.coords["longitude"] / 360),
    "toa_insolation": toa_insolation,
    "toa_incident_solar_radiation": toa_incident_solar_radiation,
}
_SCALES = {"toa_incident_solar_radiation": SOLAR_CONSTANT * 3600}

FORCINGS = tuple(_FUNCTIONS)

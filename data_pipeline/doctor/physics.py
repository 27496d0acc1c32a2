"""Is north up? Physics that a field stored upside down, against its latitudes, contradicts.

- Temperature falls toward the poles, and follows the sun from season to season.
- Antarctica is land and the Arctic is sea.
- Sunlight at the top of the atmosphere follows from the orbit.
- Away from the equator the wind is nearly geostrophic: f v = d(geopotential)/dx, where the Coriolis
  parameter f changes its sign at the equator. Mirrored fields have the opposite sign.
"""

import warnings
from collections.abc import Callable, Mapping

import numpy as np

from data_pipeline.doctor.findings import Finding, finding
from data_pipeline.doctor.sampling import SampledValues
from data_pipeline.grids.grid import Grid
from data_pipeline.preprocessing.forcings import sun, toa_insolation

_POLEWARD_KELVIN, _SEASON_KELVIN = 5.0, 3.0
_TEMPERATURES = ("2m_temperature", "skin_temperature", "temperature_1000", "temperature_850")
_TEMPERATURES += ("temperature_700",)
_CORRELATION = 0.3

Values = Mapping[str, np.ndarray]


def check_north_is_up(
    sample: SampledValues, static: SampledValues | None, grid: Grid
) -> list[Finding]:
    """Find fields that contradict the latitudes, by the first check that tells."""
    values = {**(dict(static.values) if static else {}), **sample.values}
    values = {label: array for label, array in values.items() if label not in sample.damaged}
    for check, meaning in _CHECKS.items():
        with warnings.catch_warnings():  # rows without any value have no mean
            warnings.simplefilter("ignore", RuntimeWarning)
            label = check(values, sample.times, grid)
        if label is not None:
            remedy = "Turn the latitudes, assign_coords(latitude=latitude[::-1]), or the fields."
            return [finding("upside-down", "error", meaning, f"{label}, latitude", remedy)]
    return []


def _poleward(values: Values, times: np.ndarray, grid: Grid) -> str | None:
    """Compare, in each hemisphere, the third next to the equator with that next to the pole."""
    latitude = grid.coords["latitude"]
    for label in (label for label in _TEMPERATURES if label in values):
        zonal = np.nanmean(values[label], axis=(0, 2))
        contrasts = []
        for rows in (latitude > 0, latitude < 0):
            ordered = zonal[rows][np.argsort(np.abs(latitude[rows]))]
            third = len(ordered) // 3
            if third and np.ptp(latitude[rows]) > 20:
                contrasts.append(ordered[-third:].mean() - ordered[:third].mean())
        if contrasts and min(contrasts) > _POLEWARD_KELVIN:
            return label
    return None


def _seasons(values: Values, times: np.ndarray, grid: Grid) -> str | None:
    """The hemisphere that the sun stands over warms: the difference follows the declination."""
    latitude = grid.coords["latitude"]
    north, south = ((latitude * sign > 25) & (latitude * sign < 75) for sign in (1, -1))
    if not north.any() or not south.any():
        return None
    # The heat of the ground lags a month behind the sun.
    declination = np.rad2deg(sun(times - np.timedelta64(30, "D"))[0])
    summer, winter = declination > 12, declination < -12
    if summer.sum() < 3 or winter.sum() < 3:
        return None
    for label in (label for label in _TEMPERATURES if label in values):
        zonal = np.nanmean(values[label], axis=2)
        contrast = zonal[:, north].mean(axis=1) - zonal[:, south].mean(axis=1)
        if contrast[summer].mean() - contrast[winter].mean() < -_SEASON_KELVIN:
            return label
    return None


def _land(values: Values, times: np.ndarray, grid: Grid) -> str | None:
    latitude = grid.coords["latitude"]
    if latitude[0] < 85 or latitude[-1] > -85:
        return None
    thresholds = {"land_sea_mask": 0.5, "geopotential_at_surface": 1e4, "surface_altitude": 1e3}
    for label, threshold in thresholds.items():
        if label in values:
            rows = (latitude > 82, latitude < -82)
            arctic, antarctic = (np.nanmean(values[label][:, polar]) for polar in rows)
            if arctic > threshold > 3 * antarctic:
                return label
    return None


def _sunlight(values: Values, times: np.ndarray, grid: Grid) -> str | None:
    label = "toa_incident_solar_radiation"
    if label not in values or len(values[label]) != len(times):
        return None
    expected = toa_insolation(times, grid)
    latitude = grid.coords["latitude"]
    if abs(latitude[0] + latitude[-1]) > 1:  # mirrored rows must fall on rows
        return None
    direct, mirrored = (_correlation(expected, values[label][:, ::s]) for s in (1, -1))
    return label if mirrored > direct + 0.02 else None


def _geostrophy(values: Values, times: np.ndarray, grid: Grid) -> str | None:
    latitude = grid.coords["latitude"]
    rows = (np.abs(latitude) > 25) & (np.abs(latitude) < 70)
    longitude = grid.coords["longitude"]
    step = longitude[1] - longitude[0]
    if not rows.any() or step > 10 or len(longitude) < 3:
        return None
    winds = [label for label in values if label.startswith("v_component_of_wind")]
    heights = {label.replace("v_component_of_wind", "geopotential"): label for label in winds}
    heights["mean_sea_level_pressure"] = "10m_v_component_of_wind"
    for height, wind in heights.items():
        if height not in values or wind not in values:
            continue
        slope = np.diff(values[height][:, rows], axis=2)
        slope = slope / np.cos(np.deg2rad(latitude[rows]))[:, None]
        v = (values[wind][:, rows, 1:] + values[wind][:, rows, :-1]) / 2
        coriolis = np.sin(np.deg2rad(latitude[rows]))[:, None]
        if _correlation(coriolis * v, slope) < -_CORRELATION:
            return wind
    return None


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    both = np.isfinite(first) & np.isfinite(second)
    if both.sum() < 10 or first[both].std() == 0 or second[both].std() == 0:
        return 0.0
    return float(np.corrcoef(first[both], second[both])[0, 1])


_CHECKS: dict[Callable[[Values, np.ndarray, Grid], str | None], str] = {
    _poleward: "it is warmer toward the pole than toward the equator",
    _seasons: "the hemispheres have each other's seasons",
    _land: "there is land at the north pole and sea at the south pole",
    _sunlight: "sunlight fits the latitudes better upside down",
    _geostrophy: "the wind blows around highs and lows the wrong way for its hemisphere",
}

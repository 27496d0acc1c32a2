"""A small synthetic Earth whose fields keep the laws that the doctor knows."""

from functools import cache
from pathlib import Path

import numpy as np
import xarray as xr

from data_pipeline.doctor.examination import Examination, examine
from data_pipeline.doctor.findings import Finding
from data_pipeline.doctor.times import PeriodNeeds
from data_pipeline.grids.grid import LatLonGrid
from data_pipeline.periods import Period
from data_pipeline.preparation.config import DataConfig
from data_pipeline.preprocessing.forcings import toa_insolation
from data_pipeline.sources.config import SourceConfig

EARTH_GRID = LatLonGrid.equiangular(19, 36, poles=True)
LEVELS = {500: 5.5e4, 850: 1.4e4}
PROGNOSTIC = [
    "geopotential",
    "v_component_of_wind",
    "specific_humidity",
    "2m_temperature",
    "mean_sea_level_pressure",
    "total_precipitation",
    "toa_incident_solar_radiation",
]


@cache
def make_earth(days: int = 731, step_hours: int = 24, start: str = "2003-01-01") -> xr.Dataset:
    """Two years of days by default, the second a leap year; not to be changed in place."""
    rng = np.random.default_rng(0)
    steps = np.arange(days * 24 // step_hours) * np.timedelta64(step_hours, "h")
    times = np.datetime64(start, "ns") + steps
    latitude, longitude = (np.deg2rad(EARTH_GRID.coords[axis]) for axis in EARTH_GRID.dims)
    day = (times - times.astype("datetime64[Y]")) / np.timedelta64(1, "D")
    shape = (len(times), *EARTH_GRID.shape)
    season = (
        12 * np.sin(latitude)[:, None] * np.cos(2 * np.pi * (day - 200) / 365.25)[:, None, None]
    )
    noise = rng.standard_normal(shape)
    temperature = 300 - 50 * np.sin(latitude)[:, None] ** 2 + season + noise
    phase = 3 * longitude - 0.5 * (steps / np.timedelta64(1, "D"))[:, None]
    envelope = np.cos(latitude)[:, None] ** 2
    wave, slope = envelope * np.sin(phase)[:, None], 3 * envelope * np.cos(phase)[:, None]
    sine = np.where(np.abs(latitude) < 0.3, np.sign(latitude + 1e-9) * 0.3, np.sin(latitude))
    coriolis = 6.37e6 * 1.46e-4 * (sine * np.maximum(np.cos(latitude), 0.2))[:, None]
    height = np.stack([base + 500 * wave + 5 * noise for base in LEVELS.values()], axis=1)
    wind = np.stack([500 * slope / coriolis + 0.1 * noise for _ in LEVELS], axis=1)
    humidity = 0.01 * envelope * (1 + 0.1 * rng.random(shape)) + 1e-5
    rain = np.maximum(rng.gamma(0.3, 0.01, shape) - 0.002, 0) * step_hours / 24
    land = np.where(latitude[:, None] < -1.3, 1.0, (rng.random(EARTH_GRID.shape) < 0.3) * 1.0)
    land[latitude > 1.3] = 0
    flat, timed = ("latitude", "longitude"), ("time", "latitude", "longitude")
    levels = ("time", "level", "latitude", "longitude")
    sun = 1361 * 3600 * step_hours * toa_insolation(times, EARTH_GRID)
    contents = {
        "geopotential": (levels, height, "m2 s-2"),
        "v_component_of_wind": (levels, wind, "m s-1"),
        "specific_humidity": (levels, np.stack([0.3 * humidity, humidity], axis=1), "kg kg-1"),
        "2m_temperature": (timed, temperature, "K"),
        "mean_sea_level_pressure": (timed, 1e5 + 1000 * wave + 20 * noise, "Pa"),
        "total_precipitation": (timed, rain, "m"),
        "toa_incident_solar_radiation": (timed, sun, "J m-2"),
        "land_sea_mask": (flat, land, "1"),
        "geopotential_at_surface": (flat, 3000 * land * rng.random(EARTH_GRID.shape), "m2 s-2"),
    }
    data = {
        name: (dims, values.astype(np.float32), {"units": units})
        for name, (dims, values, units) in contents.items()
    }
    return xr.Dataset(data, coords={"time": times, "level": list(LEVELS), **EARTH_GRID.coords})


def make_earth_config(path: object, **changes: object) -> DataConfig:
    """A configuration for ``make_earth`` written to ``path``."""
    settings: dict = {
        "source": SourceConfig(path=str(path)),
        "prognostic": PROGNOSTIC,
        "static": ["land_sea_mask", "geopotential_at_surface"],
        "timestep_hours": 24,
        "climatology_harmonics": 1,
        "train": Period(start="2003-01-01", end="2004-06-30"),
        "validation": Period(start="2004-07-10", end="2004-09-20"),
        "test": Period(start="2004-10-01", end="2004-12-31"),
    }
    return DataConfig(**(settings | changes))


EARTH = make_earth()


def examine_at(
    config: DataConfig,
    location: Path | str,
    horizons: PeriodNeeds | None = None,
    sample_mib: float = 64,
) -> Examination:
    return examine(
        config, str(location), horizons or PeriodNeeds(), sample_bytes=int(sample_mib * 2**20)
    )


def serious(examined: Examination) -> list[Finding]:
    return [finding for finding in examined.report.findings if finding.severity != "info"]


def only(examined: Examination) -> Finding:
    (finding,) = serious(examined)
    return finding

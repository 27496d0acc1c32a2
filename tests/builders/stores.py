"""Kinds of training stores, and a source with rain for diagnostic channels."""

import numpy as np
import xarray as xr

from data_pipeline.periods import Period
from data_pipeline.store.packing import StorageConfig
from tests.builders.experiments import GRID

KINDS = [
    StorageConfig(dtype=dtype, compression=compression, shard_mib=0.003)
    for dtype in ("float32", "float16", "bfloat16", "int16")
    for compression in ("none", "zstd")
]
NAMES = ["2m_temperature", "mean_sea_level_pressure"]
RAIN = ["total_precipitation_6hr", "log_total_precipitation_6hr"]
PERIODS = {
    "train": Period(start="2001-01-01T06", end="2001-01-06"),  # with six hours of rain before
    "validation": Period(start="2001-01-07", end="2001-01-08"),
    "test": Period(start="2001-01-09", end="2001-01-10"),
}


def kind_of(storage: StorageConfig) -> str:
    return f"{storage.dtype}-{storage.compression}"


def make_hourly() -> xr.Dataset:
    """Ten days of hourly rain, temperature and pressure."""
    rng = np.random.default_rng(0)
    times = np.datetime64("2001-01-01", "ns") + np.arange(240) * np.timedelta64(1, "h")
    dims, shape = ("time", *GRID.dims), (240, *GRID.shape)
    rain = rng.gamma(0.2, 1e-3, shape).astype("f4")
    warm, heavy = (rng.standard_normal(shape).astype("f4") for _ in range(2))
    return xr.Dataset(
        {
            "total_precipitation": (dims, rain, {"units": "m"}),
            "2m_temperature": (dims, 280 + 5 * warm, {"units": "K"}),
            "mean_sea_level_pressure": (dims, 1e5 + 500 * heavy, {"units": "Pa"}),
        },
        {"time": times, **GRID.coords},
    )


def hourly_settings(**changes: object) -> dict:
    """Settings of ``data`` for the hourly source, with rain as a diagnostic."""
    fixed = {"prognostic": NAMES, "static": [], "forcings": [], "timestep_hours": 6, **PERIODS}
    return {**fixed, "diagnostic": RAIN, **changes}

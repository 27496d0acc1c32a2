"""Forecasts as entries of the public benchmark of WeatherBench-X.

That benchmark reads forecasts in WeatherBench 2's layout, as `forecast` writes them (``time``,
``prediction_timedelta``, ``level``, ``latitude``, ``longitude``, SI units), and finds them by
entries of its ``public_configs.py``, whose names end with resolution and year.

References:
    Google Research, WeatherBench-X, https://github.com/google-research/weatherbenchX,
    ``public_benchmark``.
"""

from pathlib import Path
from pprint import pformat
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from data_pipeline.errors import InputError
from data_pipeline.timestep import is_months, lead_times_of
from fourcastnet_afno.inference.open import open_forecast

_LEVELS = [500, 700, 850]
_ON_LEVELS = ("geopotential", "temperature", "u_component_of_wind", "v_component_of_wind")
_ON_LEVELS += ("wind_speed", "specific_humidity")
_SURFACE = ("2m_temperature", "mean_sea_level_pressure", "10m_u_component_of_wind")
_SURFACE += ("10m_v_component_of_wind", "10m_wind_speed")
_SURFACE += ("total_precipitation_6hr", "total_precipitation_24hr")
_RESOLUTIONS = {(64, 32): "64x32", (240, 121): "240x121", (1440, 721): "1440x721"}
_MEMBERS = {"realization": "number", "time": "init_time", "prediction_timedelta": "lead_time"}


class BenchmarkEntries(NamedTuple):
    """Entries of one forecast by name, one for each year of its initial times.

    Args:
        table: The table of ``public_configs.py`` that they belong to.
        entries: What is stated there.
    """

    table: str
    entries: dict[str, dict[str, Any]]

    @property
    def text(self) -> str:
        """Lines of ``public_configs.py``."""
        return f"{self.table}.update({pformat(self.entries, sort_dicts=False, width=100)})"


def benchmark_entries(path: Path, name: str) -> BenchmarkEntries:
    """Entries of a forecast.

    Args:
        path: A store that `forecast` has written.
        name: Of the model in the benchmark.

    Raises:
        InputError: If the benchmark has no truth for its grid or variables, or reads no such file.
    """
    forecast = open_forecast(path)
    resolution = _resolution_of(forecast, path)
    if is_months(lead_times_of(forecast["lead_time"])):
        raise InputError(
            f"the lead times of {path} are months, WeatherBench-X reads durations; forecast with a "
            "timestep such as 6h",
            code="timestep-mismatch",
        )
    levels = sorted(set(_levels_of(forecast)) & set(_LEVELS))
    variables = [n for n in _ON_LEVELS if levels and n in forecast and "level" in forecast[n].dims]
    variables += [n for n in _SURFACE if n in forecast]
    if not variables:
        expected = ", ".join((*(f"{n} at {_LEVELS} hPa" for n in _ON_LEVELS), *_SURFACE))
        raise InputError(
            f"{path} has none of the variables of the public benchmark, it has "
            f"{[*map(str, forecast.data_vars)]}, expected some of {expected}",
            code="missing-variable",
        )
    if not {*variables} & {*_ON_LEVELS}:
        raise InputError(
            f"{path} has {variables} alone, the public benchmark reads forecasts with pressure "
            f"levels: it selects {_LEVELS} hPa in every file; forecast some of "
            f"{', '.join(_ON_LEVELS)} too",
            code="missing-variable",
        )
    entry: dict[str, Any] = {"path": str(path.absolute()), "variables": variables}
    if levels != _LEVELS:
        entry["levels"] = levels
    table = "deterministic_prediction_configs"
    if "realization" in forecast.dims:
        table = "probabilistic_prediction_configs"
        entry["data_loader_kwargs"] = {"rename_dimensions": _MEMBERS}
    years = np.unique(forecast["init_time"].dt.year.values).tolist()
    return BenchmarkEntries(table, {f"{name}_{resolution}_{year}": entry for year in years})


def _resolution_of(forecast: xr.Dataset, path: Path) -> str:
    shape = forecast.sizes.get("longitude", 0), forecast.sizes.get("latitude", 0)
    if shape not in _RESOLUTIONS:
        raise InputError(
            f"{path} has {shape[0]} x {shape[1]} points, the public benchmark has truth on "
            f"{', '.join(_RESOLUTIONS.values())} (longitude x latitude); forecast on such a grid",
            code="grid-mismatch",
        )
    return _RESOLUTIONS[shape]


def _levels_of(forecast: xr.Dataset) -> list[int]:
    return forecast["level"].values.astype(int).tolist() if "level" in forecast.coords else []

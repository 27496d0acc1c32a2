"""Stored forecasts, read as one canonical dataset.

Canonical means the dimensions (init_time, lead_time, [realization], [level], latitude, longitude),
or y and x on a plane, names, units and axes as in ``sources.canonical``. Understood are
WeatherBench 2's layout (``time``, ``prediction_timedelta``, latitude and longitude in either
order), this project's (``init_time``, ``lead_time``), and members along ``realization``,
``number``, ``ensemble``, ``member`` or ``sample``.
"""

from pathlib import Path

import numpy as np
import xarray as xr

from data_pipeline.errors import InputError
from data_pipeline.sources.canonical import canonicalize, open_source
from data_pipeline.sources.config import SourceConfig
from data_pipeline.sources.files import open_all
from fourcastnet_afno.evaluation.inputs.mapped import MappedVariable, mapped_variables

_LEADS = ("lead_time", "prediction_timedelta", "step", "leadtime", "forecast_period")
_MEMBERS = ("realization", "number", "ensemble", "member", "sample")
_AXES = ("init_time", "lead_time", "realization", "level", "latitude", "longitude", "y", "x")


def open_with_layouts(path: str) -> tuple[xr.Dataset, dict[str, MappedVariable]]:
    """Open a forecast, a zarr store (folder or URL) or a NetCDF file, as a canonical dataset.

    Returns:
        The dataset, and those of its variables that can be mapped into memory.

    Raises:
        InputError: If nothing is there, or it has no lead times, or its units are unknown.
    """
    opened = open_all(path, SourceConfig(path=path))[0]
    forecast = canonical_forecast(opened, path)
    return forecast, mapped_variables(forecast, opened, path)


def open_series(path: str) -> tuple[xr.Dataset, dict[str, MappedVariable]]:
    """A series as by ``open_source``, and those of its variables that can be mapped."""
    series = open_source(SourceConfig(path=path))
    if not (Path(path) / "zarr.json").exists():
        return series, {}
    (opened,) = open_all(path, SourceConfig(path=path))
    with opened:
        return series, mapped_variables(series, opened, path)


def canonical_forecast(dataset: xr.Dataset, path: str = "the forecast") -> xr.Dataset:
    """Rename, reorder and check; see the module's header."""
    original = dataset
    lead = next((name for name in _LEADS if name in dataset.dims), None)
    if lead is None:
        raise InputError(
            f"{path} has the dimensions {list(dataset.dims)}, expected lead times as one of "
            f"{', '.join(_LEADS)}; rename the axis",
            code="missing-axis",
        )
    init = "init_time" if "init_time" in dataset.dims else "time"
    if init not in dataset.dims:
        raise InputError(
            f"{path} has the dimensions {list(dataset.dims)}, expected initial times as init_time "
            "or time; rename them, or add the axis with .expand_dims",
            code="missing-axis",
        )
    dataset = dataset.drop_vars(["valid_time"], errors="ignore")
    renamed = {lead: "lead_time", init: "init_time"}
    members = [name for name in _MEMBERS if name in dataset.dims]
    renamed |= {members[0]: "realization"} if members else {}
    dataset = dataset.rename({old: new for old, new in renamed.items() if old != new})
    dataset = dataset.assign_coords(lead_time=_as_timedelta(dataset["lead_time"], path))
    dataset = canonicalize(dataset, SourceConfig(path=path), is_forecast=True)
    dataset = dataset.assign_coords(init_time=dataset["init_time"].values.astype("datetime64[ns]"))
    axes = [axis for axis in _AXES if axis in dataset.dims]
    names = [n for n, v in dataset.data_vars.items() if {"init_time", "lead_time"} <= set(v.dims)]
    result = dataset[names].transpose(*axes, missing_dims="ignore")
    result.encoding["source"] = path
    result.set_close(original.close)
    return result


def _as_timedelta(leads: xr.DataArray, path: str) -> np.ndarray:
    """Lead times as timedelta64; integers are in the units of their attribute, else hours."""
    values = leads.values
    if not np.issubdtype(values.dtype, np.timedelta64):
        units = str(leads.attrs.get("units", "hours"))
        letters = {"hour": "h", "day": "D", "minute": "m", "second": "s", "nanosecond": "ns"}
        unit = letters.get(units.rstrip("s"))
        if unit is None:
            raise InputError(
                f"{path} has lead times in {units!r}, expected one of {', '.join(letters)}; "
                "correct the attribute units",
                code="units-mismatch",
            )
        nanoseconds = np.timedelta64(1, unit) / np.timedelta64(1, "ns")
        values = np.round(values * nanoseconds).astype("timedelta64[ns]")
    return values.astype("timedelta64[ns]")

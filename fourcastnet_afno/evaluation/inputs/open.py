"""Stored forecasts, read as one canonical dataset.

Canonical means the dimensions (init_time, lead_time, [realization], [level], latitude, longitude),
or y and x on a plane, names, units and axes as in ``sources.canonical``. Understood are
WeatherBench 2's layout (``time``, ``prediction_timedelta``, latitude and longitude in either
order), this project's (``init_time``, ``lead_time``), and members along ``realization``,
``number``, ``ensemble``, ``member`` or ``sample``.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from data_pipeline.errors import InputError
from data_pipeline.grids.grid import space_dims
from data_pipeline.sources.canonical import canonicalize, open_source
from data_pipeline.sources.config import SourceConfig
from data_pipeline.sources.files import open_all

_LEADS = ("lead_time", "prediction_timedelta", "step", "leadtime", "forecast_period")
_MEMBERS = ("realization", "number", "ensemble", "member", "sample")
_AXES = ("init_time", "lead_time", "realization", "level", "latitude", "longitude", "y", "x")
_STORED_NAMES = {  # of dimensions that may have others
    "init_time": ("init_time", "time"),
    "lead_time": _LEADS,
    "realization": _MEMBERS,
    "latitude": ("latitude", "lat"),
    "longitude": ("longitude", "lon"),
}


@dataclass(frozen=True)
class DimensionNames:
    """Place of a variable's array in a store, so that its chunks can be mapped into memory."""

    path: str  # local zarr store
    name: str  # of the array
    axes: tuple[int, ...]  # of the array for each canonical axis of the variable
    flip: bool  # whether its rows are in the other order, as latitudes from south to north


def open_with_layouts(path: str) -> tuple[xr.Dataset, dict[str, DimensionNames]]:
    """Open a forecast, a zarr store (folder or URL) or a NetCDF file, as a canonical dataset.

    Returns:
        The dataset, and layouts of its variables where the store is on this machine.

    Raises:
        InputError: If nothing is there, or it has no lead times, or its units are unknown.
    """
    local = Path(path).is_dir() and (Path(path) / "zarr.json").exists()
    opened = _open_zarr(path) if local else open_all(path, SourceConfig(path=path))[0]
    forecast = canonical_forecast(opened, path)
    return forecast, _layouts(forecast, opened, path) if local else {}


def open_series(path: str) -> tuple[xr.Dataset, dict[str, DimensionNames]]:
    """A series as by ``open_source``, and the layouts of its variables on this machine."""
    series = open_source(SourceConfig(path=path))
    if not (Path(path) / "zarr.json").exists():
        return series, {}
    with _open_zarr(path) as opened:
        same = "time" in opened and np.array_equal(opened["time"].values, series["time"].values)
        return series, _layouts(series, opened, path) if same else {}


def _open_zarr(path: str) -> xr.Dataset:
    # Whole numbers of hours are lead times here, but may be data elsewhere: converted by name.
    opened = xr.open_zarr(path, consolidated=False, decode_timedelta=False)
    opened.encoding["source"] = path
    return opened


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
    dataset = canonicalize(dataset, SourceConfig(path=path))
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


def _layouts(result: xr.Dataset, opened: xr.Dataset, path: str) -> dict[str, DimensionNames]:
    """How the arrays of a store are turned into canonical variables, where axes are but moved."""
    flip = _flip(result, opened)
    if flip is None:
        return {}
    layouts = {}
    for name, variable in result.data_vars.items():
        if name in opened and opened[name].ndim == variable.ndim:
            stored = [str(dim) for dim in opened[name].dims]
            candidates = (_STORED_NAMES.get(str(dim), (str(dim),)) for dim in variable.dims)
            axes = (next(stored.index(n) for n in names if n in stored) for names in candidates)
            layouts[str(name)] = DimensionNames(path, str(name), tuple(axes), flip)
    return layouts


def _flip(result: xr.Dataset, stored: xr.Dataset) -> bool | None:
    """Whether rows on disk are in the other order; ``None`` if axes differ in more than that."""
    rows, columns = space_dims(result.dims)
    candidates = (_STORED_NAMES.get(axis, (axis,)) for axis in (rows, columns))
    on_disk = [next((n for n in names if n in stored.coords), None) for names in candidates]
    if None in on_disk or not np.array_equal(stored[on_disk[1]], result[columns]):
        return None
    if "level" in result.dims and (
        "level" not in stored.dims or not np.array_equal(stored["level"], result["level"])
    ):
        return None
    stored_rows, canonical_rows = stored[on_disk[0]].values, result[rows].values
    if np.array_equal(stored_rows, canonical_rows):
        return False
    return True if np.array_equal(stored_rows[::-1], canonical_rows) else None

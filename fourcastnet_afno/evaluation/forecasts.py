"""Forecasts as people store them, read as one canonical dataset.

Canonical means the dimensions (init_time, lead_time, [realization], [level], latitude, longitude),
names, units and axes as in ``data_pipeline.sources``. Understood are WeatherBench 2's layout
(``time``, ``prediction_timedelta``, latitude and longitude in either order), this project's
(``init_time``, ``lead_time``), and members along ``realization``, ``number``, ``ensemble``,
``member`` or ``sample``.
"""

from pathlib import Path

import numpy as np
import xarray as xr

from data_pipeline.errors import InputError
from data_pipeline.opening import open_all
from data_pipeline.sources import SourceConfig, canonicalize

_LEADS = ("lead_time", "prediction_timedelta", "step", "leadtime", "forecast_period")
_MEMBERS = ("realization", "number", "ensemble", "member", "sample")
_AXES = ("init_time", "lead_time", "realization", "level", "latitude", "longitude")


def open_forecast(path: str) -> xr.Dataset:
    """Open a forecast lazily as a canonical dataset.

    Args:
        path: A zarr store (folder or URL) or a NetCDF file.

    Returns:
        Variables that are mapped without decoding, see ``fields.MappedVariable``, keep the names of
        the store's axes in their encoding.

    Raises:
        InputError: If nothing is there, or it has no lead times, or its units are unknown.
    """
    return canonical_forecast(_open(path), path)


def _open(path: str) -> xr.Dataset:
    local = Path(path)
    is_store = any((local / name).exists() for name in ("zarr.json", ".zmetadata", ".zgroup"))
    if "://" in path or not (is_store or local.is_file()):
        return open_all(path, (), 6)[0]
    # Whole numbers of hours are lead times here, but may be data elsewhere: converted by name.
    if is_store:
        opened = xr.open_zarr(path, consolidated=False, decode_timedelta=False)
    else:
        opened = xr.open_dataset(path, engine="netcdf4", chunks={}, decode_timedelta=False)
    opened.encoding["source"] = path
    return opened


def canonical_forecast(dataset: xr.Dataset, path: str = "the forecast") -> xr.Dataset:
    """Rename, reorder and check; see the module's header."""
    given = dataset
    lead = _find(dataset, _LEADS, "lead times", path)
    init = "init_time" if "init_time" in dataset.dims else "time"
    if init not in dataset.dims:
        raise InputError(
            f"{path} has the dimensions {list(dataset.dims)}, expected initial times as init_time "
            "or time; rename them, or add the axis with .expand_dims"
        )
    dataset = dataset.drop_vars(["valid_time"], errors="ignore")
    names = {lead: "lead_time", init: "init_time"}
    members = [name for name in _MEMBERS if name in dataset.dims]
    names |= {members[0]: "realization"} if members else {}
    dataset = dataset.rename({old: new for old, new in names.items() if old != new})
    dataset = dataset.assign_coords(lead_time=_as_timedelta(dataset["lead_time"], path))
    dataset = canonicalize(dataset, SourceConfig(path=path))
    dataset = dataset.assign_coords(init_time=dataset["init_time"].values.astype("datetime64[ns]"))
    axes = [axis for axis in _AXES if axis in dataset.dims]
    kept = [n for n, v in dataset.data_vars.items() if {"init_time", "lead_time"} <= set(v.dims)]
    result = dataset[kept].transpose(*axes, missing_dims="ignore")
    _remember_layout(result, given, {new: old for old, new in names.items()})
    result.encoding["source"] = path
    result.set_close(given.close)
    return result


def _find(dataset: xr.Dataset, names: tuple[str, ...], what: str, path: str) -> str:
    found = [name for name in names if name in dataset.dims]
    if not found:
        raise InputError(
            f"{path} has the dimensions {list(dataset.dims)}, expected {what} as one of "
            f"{', '.join(names)}; rename the axis"
        )
    return found[0]


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
                "correct the attribute units"
            )
        nanoseconds = np.timedelta64(1, unit) / np.timedelta64(1, "ns")
        values = np.round(values * nanoseconds).astype("timedelta64[ns]")
    return values.astype("timedelta64[ns]")


def _remember_layout(result: xr.Dataset, given: xr.Dataset, original: dict[str, str]) -> None:
    """Note for each variable how its array on disk is turned into the canonical one."""
    source = str(given.encoding.get("source", "."))
    for name, variable in result.data_vars.items():
        variable.encoding.pop("layout", None)
        if not (Path(source) / "zarr.json").exists() or name not in given:
            continue
        if not _only_flipped(result, given):
            continue
        stored = [str(dim) for dim in given[name].dims]
        variable.encoding["layout"] = {
            "path": source,
            "name": str(name),
            "axes": [stored.index(_stored_name(d, original, stored)) for d in variable.dims],
            "flip": _latitude(given)[0] < _latitude(given)[-1],
        }


def _stored_name(dim: object, original: dict[str, str], stored: list[str]) -> str:
    candidates = (original.get(str(dim), str(dim)), {"latitude": "lat", "longitude": "lon"}.get(
        str(dim), str(dim)
    ))  # fmt: skip
    return next((name for name in candidates if name in stored), str(dim))


def _latitude(dataset: xr.Dataset) -> np.ndarray:
    return dataset["latitude" if "latitude" in dataset.coords else "lat"].values


def _only_flipped(result: xr.Dataset, given: xr.Dataset) -> bool:
    """Whether the axes on disk are the canonical ones, up to the order of latitudes."""
    longitude = "longitude" if "longitude" in given.coords else "lon"
    levels = [axis for axis in ("level", "pressure_level", "plev") if axis in given.dims]
    same = longitude in given.coords and np.array_equal(given[longitude], result["longitude"])
    return same and (not levels or (levels == ["level"] and np.array_equal(
        given["level"].values, result["level"].values
    )))  # fmt: skip

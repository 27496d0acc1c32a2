"""Files of one forecast, joined along the axes in which they differ, and by variable."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from data_pipeline.calendars import calendar_of
from data_pipeline.errors import InputError
from data_pipeline.grids.plane import grid_of

_AXES = ("lead_time", "realization", "level", "init_time")
_COMMON = ("init_time", "lead_time", "realization")  # of all variables


def join_forecasts(forecasts: Sequence[xr.Dataset]) -> xr.Dataset:
    """All files of a forecast as one.

    Args:
        forecasts: Canonical, each with the name of its file in ``encoding["source"]``.

    Raises:
        InputError: If they differ in grid, units, calendar or kind of members, hold the same
            fields twice, or do not hold all combinations of their initial and lead times.
    """
    if len(forecasts) == 1:
        return forecasts[0]
    _check_alike(forecasts)
    names = dict.fromkeys(str(name) for forecast in forecasts for name in forecast.data_vars)
    parts = [_joined(name, [f[[name]] for f in forecasts if name in f]) for name in names]
    for part, name in zip(parts, names, strict=True):
        for axis in _COMMON:
            if not _same_axis(parts[0], part, axis):
                raise InputError(
                    f"the files of a forecast have other values of {axis} for {name} "
                    f"({part.sizes.get(axis, 0)}) than for {next(iter(names))} "
                    f"({parts[0].sizes.get(axis, 0)}); give files with the same ones, or score "
                    "the variables one by one",
                    code="files-differ",
                )
    result = xr.merge(parts, join="outer", compat="override", combine_attrs="drop_conflicts")
    dims = dict.fromkeys(dim for part in parts for dim in part.dims)
    order = [axis for axis in ("init_time", "lead_time", "realization", "level") if axis in dims]
    result = result.transpose(*order, ...).assign_attrs(grid_of(forecasts[0]).attrs)
    result.encoding["source"] = _files(forecasts)
    return result


def _check_alike(forecasts: Sequence[xr.Dataset]) -> None:
    first, units = forecasts[0], {}
    grid, calendar = grid_of(first), calendar_of(first)
    for forecast in forecasts:
        pair = f"{_source(forecast)} and {_source(first)}"
        if not grid.is_same(grid_of(forecast)):
            raise InputError(
                f"{pair} are on different grids: {grid_of(forecast)}, and {grid}; give them as "
                "two forecasts, or leave one out",
                code="grid-mismatch",
            )
        if calendar_of(forecast) != calendar:
            raise InputError(
                f"{pair} have the calendars {calendar_of(forecast)} and {calendar}; give them as "
                "two forecasts",
                code="files-differ",
            )
        for axis, kinds in (
            ("realization", [("realization" in f.dims) for f in (forecast, first)]),
            ("lead_time", [f["lead_time"].dtype.kind for f in (forecast, first)]),
        ):
            if kinds[0] != kinds[1]:
                raise InputError(
                    f"{pair} have different kinds of {axis}; give them as two forecasts",
                    code="files-differ",
                )
        for name, array in forecast.data_vars.items():
            other, file = units.setdefault(name, (array.attrs["units"], _source(forecast)))
            if array.attrs["units"] != other:
                raise InputError(
                    f"{name} is in {array.attrs['units']!r} in {_source(forecast)}, in {other!r} "
                    f"in {file}; convert one of them",
                    code="units-mismatch",
                )


def _joined(name: str, files: list[xr.Dataset]) -> xr.Dataset:
    """One variable from all files that hold it."""
    for axis in _AXES:
        groups: dict[bytes, list[xr.Dataset]] = {}
        for file in files:
            others = [file[a].values.tobytes() for a in _AXES if a != axis and a in file.dims]
            groups.setdefault(b"|".join(others), []).append(file)
        files = [_along(axis, group) for group in groups.values()]
    if len(files) > 1:
        described = "; ".join(map(_describe, files[:3]))
        raise InputError(
            f"the files of a forecast do not hold all combinations of their initial and lead "
            f"times of {name}: {described}; leave out those that are not complete",
            code="files-differ",
        )
    return files[0]


def _along(axis: str, files: list[xr.Dataset]) -> xr.Dataset:
    if len(files) == 1 or axis not in files[0].dims:
        return _only(files)
    files = sorted(files, key=lambda file: file[axis].values[0])
    values = np.concatenate([file[axis].values for file in files])
    if len(np.unique(values)) < len(values):
        _only(_with_repeats(files, axis))
    minimal: dict[str, Any] = dict.fromkeys(("data_vars", "coords"), "minimal")
    override: dict[str, Any] = dict.fromkeys(("compat", "join", "combine_attrs"), "override")
    joined = xr.concat(files, axis, **minimal, **override)
    joined.encoding["source"] = _source(files[0])
    return joined


def _with_repeats(files: list[xr.Dataset], axis: str) -> list[xr.Dataset]:
    """Two files that have a value of an axis in common."""
    seen: dict[object, xr.Dataset] = {}
    for file in files:
        for value in file[axis].values.tolist():
            if value in seen and seen[value] is not file:
                return [seen[value], file]
            seen[value] = file
    return files[:2]


def _only(files: list[xr.Dataset]) -> xr.Dataset:
    """The single file; two with the same fields are an error."""
    if len(files) == 1:
        return files[0]
    raise InputError(
        f"{_source(files[0])} and {_source(files[1])} hold the same fields "
        f"({_describe(files[0]).partition(': ')[2]}); leave one out, give members their numbers in "
        "a coordinate realization, or give them as two forecasts",
        code="repeated-times",
    )


def _same_axis(first: xr.Dataset, other: xr.Dataset, axis: str) -> bool:
    values = [d[axis].values if axis in d.dims else np.zeros(0) for d in (first, other)]
    return np.array_equal(np.sort(values[0]), np.sort(values[1]))


def _describe(file: xr.Dataset) -> str:
    inits, leads = file["init_time"].values, file["lead_time"].values
    span = str(inits[0].astype("datetime64[m]"))
    span += f" to {inits[-1].astype('datetime64[m]')}" if len(inits) > 1 else ""
    return f"{_source(file)}: {len(inits)} initial times ({span}), {len(leads)} lead times"


def _source(forecast: xr.Dataset) -> str:
    return str(forecast.encoding.get("source", "a forecast"))


def _files(forecasts: Sequence[xr.Dataset]) -> str:
    names = list(dict.fromkeys(map(_source, forecasts)))
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")

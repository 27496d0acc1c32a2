"""Time axes of forecasts: initial times and lead times, told by what they mean.

CF standard names count first (``forecast_reference_time``, ``forecast_period``), then names. A
coordinate ``time`` is the valid time where another one is the initial time, else the initial time.
Initial and lead times become axes; either may be a single value, or follow from the valid times.
"""

import cftime
import numpy as np
import xarray as xr

from data_pipeline.calendars import (
    STANDARD,
    calendar_attrs,
    calendar_of,
    canonical_calendar,
    linear,
)
from data_pipeline.calendars import dates as dates_of
from data_pipeline.errors import InputError
from data_pipeline.sources.time_axis import snap_times
from data_pipeline.timestep import is_months, lead_coordinate, lead_times_of
from fourcastnet_afno.evaluation.inputs.lead_times import has_units, parse_lead_times
from fourcastnet_afno.evaluation.inputs.valid_times import valid_times_of

INITS = ("init_time", "forecast_reference_time", "reference_time", "initial_time")
INITS += ("initialization_time", "init", "issue_time", "base_time", "analysis_time")
LEADS = ("lead_time", "prediction_timedelta", "step", "leadtime", "forecast_period", "lead")
LEADS += ("forecast_lead_time", "forecast_hour")
_STANDARD_NAMES = {"forecast_reference_time": "init", "forecast_period": "lead"}
_CLOSE, _SAME_MONTH = np.timedelta64(60, "s"), np.timedelta64(17, "D")
_MICROSECONDS, _LATEST = "microseconds since 1970-01-01", 2**63 // 1000


def with_time_axes(dataset: xr.Dataset, path: str) -> tuple[xr.Dataset, list[str]]:
    """The dataset with the axes ``init_time`` and ``lead_time``, and notes for people.

    Initial times are datetime64[ns], of the calendar in the attribute ``calendar``; lead times are
    as ``timestep.lead_times_of`` reads them. Other coordinates of time are dropped.

    Raises:
        InputError: If ``path`` has no such axes, or they contradict each other.
    """
    names, notes = _roles(dataset), []
    stored = {role: dataset[name].variable for role, name in names.items()}
    calendar = _calendar(dataset, stored, path)
    times = {
        role: _counted(variable, calendar, path)
        for role, variable in stored.items()
        if role != "lead"
    }
    # Lead times without units follow from the valid times, where these are known.
    if "lead" in stored and (len(times) < 2 or has_units(stored["lead"])):
        values, note = parse_lead_times(stored["lead"], path)
        times["lead"] = lead_coordinate(values, stored["lead"].dims)
        notes += [note] if note else []
    times = _completed(dataset, times, path)
    axes = dataset.drop_vars(list(names.values()))
    result = _with_axes(axes, times["init"], times["lead"], calendar)
    exists = ~np.isnat(result["init_time"].values)
    if not exists.all():
        result = result.isel(init_time=exists)
        notes.append(
            f"{int((~exists).sum())} initial times of {path} are left out, as the standard "
            f"calendar lacks their dates in {calendar}"
        )
    if "valid" in times:
        _require_consistent(result, _as_dates(times["valid"], calendar), times, path)
    return result, notes


def _roles(dataset: xr.Dataset) -> dict[str, str]:
    """Names of the variables that are initial, lead and valid times, as far as there are any."""
    names = [str(name) for name in dataset.variables]
    standard = {name: str(dataset[name].attrs.get("standard_name", "")) for name in names}
    roles = {}
    for role, known in (("init", INITS), ("lead", LEADS), ("valid", ("valid_time",))):
        stated = [name for name in names if _STANDARD_NAMES.get(standard[name]) == role]
        named = [n for n in known if n in names and _STANDARD_NAMES.get(standard[n], role) == role]
        candidates = [*stated, *named]
        axes = [name for name in candidates if name in dataset.dims]
        if candidates:
            roles[role] = [*axes, *candidates][0]
    if "time" not in names or "time" in roles.values():
        return roles
    lead_dims = dataset[roles["lead"]].dims if "lead" in roles else ()
    if "init" in roles or dataset["time"].ndim > 1:
        is_init = False
    elif "valid" in roles or (lead_dims and lead_dims != ("time",)):
        is_init = True  # as in WeatherBench 2
    else:
        is_init = not lead_dims and standard["time"] != "time"
    return roles | ({"init": "time"} if is_init else {"valid": "time"})


def _calendar(dataset: xr.Dataset, stored: dict[str, xr.Variable], path: str) -> str:
    """The calendar that all dates are of; an earlier canonical dataset has it as attribute."""
    found = {
        canonical_calendar(str(xr.DataArray(variable).dt.calendar))
        for role, variable in stored.items()
        if role != "lead" and variable.dtype == object and variable.size
    }
    plain = [r for r, v in stored.items() if r != "lead" and v.dtype.kind == "M"]
    if len(found) + bool(found and plain) > 1:
        raise _contradiction(path, f"its dates are of the calendars {sorted({*found, STANDARD})}")
    return found.pop() if found else calendar_of(dataset)


def _counted(stored: xr.Variable, calendar: str, path: str) -> xr.Variable:
    """Dates as numbers that can be subtracted, see ``calendars.linear``."""
    values = np.asarray(stored.values)
    if stored.dtype == object:
        counts = cftime.date2num(values.ravel(), _MICROSECONDS, calendar)
        counted = np.asarray(counts, np.int64)
        if np.abs(counted).max() > _LATEST:
            raise InputError(
                f"{path} has times from {values.min()} to {values.max()}, expected years from 1678 "
                "to 2262; shift them by some years, and those of truth alike",
                code="no-times",
            )
        exact = counted.astype("datetime64[us]").astype("datetime64[ns]")
        return xr.Variable(stored.dims, snap_times(exact).reshape(values.shape))
    if stored.dtype.kind != "M" or np.isnat(values).any():
        found = "missing times" if stored.dtype.kind == "M" else f"times of type {stored.dtype}"
        raise InputError(
            f"{path} has {found}, expected dates; give them CF units such as 'hours since "
            "1900-01-01'",
            code="no-times",
        )
    snapped = snap_times(values.reshape(-1), xr.DataArray(stored))
    return xr.Variable(stored.dims, linear(snapped, calendar).reshape(values.shape))


def _as_dates(counted: xr.Variable, calendar: str) -> np.ndarray:
    """Inverse of ``_counted``, with NaT for dates that do not exist."""
    return dates_of(np.reshape(counted.values, -1), calendar).reshape(counted.shape)


def _completed(
    dataset: xr.Dataset, times: dict[str, xr.Variable], path: str
) -> dict[str, xr.Variable]:
    """Initial and lead times, single or each along an axis of its own, from two of the three."""
    if "valid" in times and len(times) == 2:
        other = "lead" if "init" in times else "init"
        known = times["init" if other == "lead" else "lead"]
        if other == "lead" or not is_months(lead_times_of(known)):
            difference = times["valid"] - known
            snapped = snap_times(np.atleast_1d(difference.values)).reshape(difference.shape)
            times = times | {other: difference.copy(data=snapped)}
    for role, known, word in (("lead", LEADS, "lead times"), ("init", INITS, "initial times")):
        if role not in times:
            examples = "init_time or time" if role == "init" else ", ".join(known)
            unlabeled = [str(dim) for dim in dataset.dims if dim in known]
            raise InputError(
                f"{path} has the dimensions {list(dataset.dims)}, expected {word} as {examples}"
                + (f"; give the axis {unlabeled[0]} its values" if unlabeled else "")
                + "; rename the axis, or add it with .expand_dims",
                code="missing-axis",
            )
        times[role] = _along_one_axis(times[role])
    init, lead = times["init"], times["lead"]
    if init.dims == lead.dims != ():
        init, lead = (_single(init), lead) if _is_constant(init, 0) else (init, _single(lead))
    if max(init.ndim, lead.ndim) > 1 or (init.dims == lead.dims != ()):
        raise _contradiction(
            path,
            f"initial times lie along {list(times['init'].dims)}, lead times along "
            f"{list(times['lead'].dims)}",
        )
    return times | {"init": init, "lead": lead}


def _along_one_axis(times: xr.Variable) -> xr.Variable:
    """Leave out axes along which all values are the same, but the last."""
    for axis in reversed(range(times.ndim)):
        if times.ndim > 1 and _is_constant(times, axis):
            times = times.isel({times.dims[axis]: 0})
    return times


def _is_constant(times: xr.Variable, axis: int) -> bool:
    values = np.moveaxis(times.values, axis, 0)
    return bool((values == values[:1]).all())


def _single(times: xr.Variable) -> xr.Variable:
    return times[0] if _is_constant(times, 0) else times


def _with_axes(
    dataset: xr.Dataset, init: xr.Variable, lead: xr.Variable, calendar: str
) -> xr.Dataset:
    """Name the axes, and add those that are single values to all fields."""
    new = {"init_time": init, "lead_time": lead}
    names = {str(v.dims[0]): name for name, v in new.items() if v.ndim}
    others = {"time", "valid_time", *INITS, *LEADS} - {str(dim) for dim in dataset.dims}
    dataset = dataset.drop_vars([*names, *others], errors="ignore")
    dataset = dataset.rename({old: name for old, name in names.items() if old != name})
    used = [name for name in new if any(name in array.dims for array in dataset.values())]
    fields = {
        name: array.expand_dims([axis for axis in new if axis not in array.dims])
        for name, array in dataset.data_vars.items()
        if array.ndim >= 2 and set(used) <= set(array.dims)
    }
    dataset = dataset.assign(fields)
    coords = {
        "init_time": ("init_time", np.atleast_1d(_as_dates(init, calendar))),
        "lead_time": lead_coordinate(np.atleast_1d(lead_times_of(lead))),
    }
    return dataset.assign_coords(coords).assign_attrs(calendar_attrs(calendar))


def _require_consistent(
    result: xr.Dataset, stated: np.ndarray, times: dict[str, xr.Variable], path: str
) -> None:
    """Reject valid times that are not the initial times plus the lead times."""
    table = valid_times_of(result).table
    names = {dim: n for n in ("init", "lead") for dim in times[n].dims}
    given = xr.Variable([names.get(dim, str(dim)) for dim in times["valid"].dims], stated)
    if not set(given.dims) <= {"init", "lead"} or len(set(given.dims)) < given.ndim:
        return
    sizes = [(d, n) for d, n in zip(("init", "lead"), table.shape, strict=True)]
    given = given.set_dims(dict(sizes)).transpose("init", "lead").values
    close = _SAME_MONTH if is_months(lead_times_of(times["lead"])) else _CLOSE
    both = ~np.isnat(table) & ~np.isnat(given)
    wrong = both & (np.abs(np.where(both, table - given, np.timedelta64(0))) > close)
    if wrong.any():
        raise _contradiction(
            path,
            f"initial and lead time give {table[wrong][0]}, its valid time is {given[wrong][0]}",
        )


def _contradiction(path: str, found: str) -> InputError:
    return InputError(
        f"{path} has time axes that contradict each other: {found}; expected initial times and "
        "lead times, each along an axis of its own",
        code="other-layout",
    )

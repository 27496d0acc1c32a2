"""Time axes of forecasts: initial times and lead times, told by what they mean.

CF standard names count first (``forecast_reference_time``, ``forecast_period``), then names. A
coordinate ``time`` is the valid time where another one is the initial time, else the initial time.
Initial and lead times become axes; either may be a single value, or follow from the valid times.
"""

import cftime
import numpy as np
import pandas as pd
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
from data_pipeline.sources.time_axis import nanoseconds_in, snap_times
from data_pipeline.sources.valid_times import AGREEMENT, STARTS, STEPS
from data_pipeline.timestep import lead_coordinate, lead_label, lead_times_of
from fourcastnet_afno.evaluation.inputs.valid_times import valid_times_of

_STANDARD_NAMES = {"forecast_reference_time": "init", "forecast_period": "lead"}
_SAME_MONTH = np.timedelta64(17, "D")
_MICROSECONDS, _LATEST = "microseconds since 1970-01-01", 2**63 // 1000
_EXAMPLES = "hours, days, minutes, seconds, nanoseconds, weeks or months"
_MOST_HOURS = 24 * 366  # without units
_MOST_NANOSECONDS = 2.0**63


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
    if "lead" in stored and (len(times) < 2 or _has_units(stored["lead"])):
        values, note = parse_lead_times(stored["lead"], path)
        flat = lead_coordinate(values.reshape(-1))  # xarray has no months
        reshaped = flat.values.reshape(values.shape)
        times["lead"] = xr.Variable(stored["lead"].dims, reshaped, flat.attrs)
        notes += [note] if note else []
    times = _completed(dataset, times, path)
    _reject_negative(times["lead"], path)
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
    for role, known in (("init", STARTS), ("lead", STEPS), ("valid", ("valid_time", "datetime"))):
        stated = [name for name in names if _STANDARD_NAMES.get(standard[name]) == role]
        named = [n for n in known if n in names and _STANDARD_NAMES.get(standard[n], role) == role]
        candidates = [*stated, *named]
        axes = [name for name in candidates if name in dataset.dims]
        if candidates:
            roles[role] = [*axes, *candidates][0]
    if "time" not in names or "time" in roles.values():
        return roles
    if "lead" not in roles and dataset["time"].dtype.kind == "m":  # as GraphCast writes it
        return roles | {"lead": "time"}
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
        if known.attrs.get("units") != "months":
            difference = times["valid"] - known
            snapped = snap_times(np.atleast_1d(difference.values)).reshape(difference.shape)
            times = times | {other: difference.copy(data=snapped)}
    for role, known, word in (("lead", STEPS, "lead times"), ("init", STARTS, "initial times")):
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


def _reject_negative(leads: xr.Variable, path: str) -> None:
    """Reject states before the initial time, which no forecast holds."""
    values = lead_times_of(leads).reshape(-1)
    negative = values[values.astype(np.int64) < 0]
    if len(negative):
        raise InputError(
            f"{path} has {len(negative)} lead times before the initial time, such as "
            f"{lead_label(negative.min())}; leave them out, or correct the sign of the lead times "
            "or which of the time axes is the initial time",
            code="negative-lead-times",
        )


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
    others = {"time", "valid_time", *STARTS, *STEPS} - {str(dim) for dim in dataset.dims}
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
        "lead_time": ("lead_time", np.atleast_1d(lead.values), lead.attrs),
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
    close = _SAME_MONTH if times["lead"].attrs.get("units") == "months" else AGREEMENT
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


def _has_units(stored: xr.Variable) -> bool:
    """Whether lead times mean durations without a guess."""
    return stored.dtype.kind not in "iuf" or bool(_stated_units(stored))


def _stated_units(stored: xr.Variable) -> str:
    return str(stored.attrs.get("units", stored.encoding.get("units", ""))).strip()


def parse_lead_times(stored: xr.Variable, path: str) -> tuple[np.ndarray, str]:
    """Lead times of any shape, and a note for people or "".

    Numbers are in the units of their attribute, else hours; text is such as ``6h`` or ``PT6H``.

    Returns:
        timedelta64[ns], rounded by ``snap_times``, or timedelta64[M] for months.

    Raises:
        InputError: If there are none, or the units are unknown, or missing where the numbers cannot
            be hours.
    """
    values, kind = np.asarray(stored.values), stored.dtype.kind
    if not values.size:
        message = f"{path} has no lead times: their axis is empty; write the forecasts again"
        raise InputError(message, code="no-lead-times")
    if kind in "OUS":
        return _from_text(values, path), ""
    if kind == "M":
        raise InputError(
            f"{path} has the dates {values.ravel()[0]} ... as lead times, expected durations; give "
            "them units such as 'hours', without 'since'",
            code="units-mismatch",
        )
    note = ""
    if kind != "m":
        values, note = _from_numbers(values, _stated_units(stored), path)
        if values.dtype == "timedelta64[M]":
            return values, note
    if np.isnat(values).any():
        raise InputError(f"{path} has missing lead times; correct them", code="units-mismatch")
    coordinate = xr.DataArray(values, dims=stored.dims)
    coordinate.encoding = {"units": stored.attrs.get("units", ""), "dtype": stored.dtype}
    coordinate.encoding |= stored.encoding
    return snap_times(values.reshape(-1), coordinate).reshape(values.shape), note


def _from_numbers(values: np.ndarray, stated: str, path: str) -> tuple[np.ndarray, str]:
    """Durations or months of numbers in the stated units, and a note where none are stated."""
    units, note = stated.partition(" since ")[0].lower(), ""
    if not units:
        _require_hours(values, path)
        units, note = "hours", f"lead times of {path} state no units: they are taken as hours"
    if not np.isfinite(values).all():
        raise InputError(
            f"{path} has lead times that are not finite; correct them", code="units-mismatch"
        )
    if units in ("month", "months") and (values == np.round(values)).all():
        return np.asarray(values, np.int64).astype("timedelta64[M]"), note
    unit = nanoseconds_in(units)
    if unit is None:
        raise InputError(
            f"{path} has lead times in {stated!r}, expected {_EXAMPLES}; correct the attribute "
            "units",
            code="units-mismatch",
        )
    largest = float(np.abs(values.astype(float)).max(initial=0)) * unit
    if largest >= _MOST_NANOSECONDS:
        raise InputError(
            f"{path} has lead times up to {values.max()} {stated}, beyond 292 years; correct "
            "the attribute units",
            code="units-mismatch",
        )
    exact = values.astype(np.int64 if values.dtype.kind in "iu" else np.float64) * unit
    return np.round(exact).astype("timedelta64[ns]"), note


def _from_text(values: np.ndarray, path: str) -> np.ndarray:
    words = [w.decode() if isinstance(w, bytes) else str(w) for w in values.ravel().tolist()]
    try:
        if any(word.strip().lstrip("+-").replace(".", "", 1).isdigit() for word in words):
            raise ValueError("numbers without units")
        parsed = pd.to_timedelta(words)
    except ValueError as error:
        raise InputError(
            f"{path} has the lead times {words[:3]}, expected numbers with units, or text such as "
            f"6h or PT6H ({error}); correct them",
            code="units-mismatch",
        ) from error
    return np.asarray(parsed.values, "timedelta64[ns]").reshape(values.shape)


def _require_hours(values: np.ndarray, path: str) -> None:
    largest = float(np.abs(values).max(initial=0))
    if largest > _MOST_HOURS:
        raise InputError(
            f"{path} has lead times up to {largest:g} without units, too many to be hours; give "
            f"them the attribute units, one of {_EXAMPLES}",
            code="units-mismatch",
        )

"""Time axes of sources: valid times, as dates of the standard calendar.

Dates of another calendar stay as they are where the standard calendar has them, and the attribute
``calendar`` of the dataset names the one that they are counted in.

Times and lead times are stored as numbers of a few digits: float64 days since year 1 are off by 10
microseconds, float32 days since 1900 by three minutes. They are rounded to the coarsest of
hour, half, third, quarter, sixth and twelfth of an hour, minute and second that all of them are
close to: within 1 % of a second, .6 s of the others, or the spacing of the stored numbers. Times
that are not close to any, such as steps of a tenth of a second, are kept, and so are those
of which two would become one.
"""

from contextlib import suppress

import numpy as np
import xarray as xr

from data_pipeline.calendars import STANDARD, calendar_attrs, canonical_calendar
from data_pipeline.errors import InputError
from data_pipeline.sources.time_numbers import describe_numbers

_ROUNDED = tuple(int(seconds * 1e9) for seconds in (3600, 1800, 1200, 900, 600, 300, 60, 1))  # ns
_CLOSE, _MOST_CLOSE = 0.01, int(0.6e9)  # share of the rounded unit, ns
_FIRST_YEAR, _LAST_YEAR, _LONGEST_SECONDS = 1678, 2261, 9.2e9  # that nanoseconds can count
_NANOSECONDS = {  # by CF's spellings
    **dict.fromkeys(("week",), 7 * 86400 * 10**9),
    **dict.fromkeys(("d", "day"), 86400 * 10**9),
    **dict.fromkeys(("h", "hr", "hour"), 3600 * 10**9),
    **dict.fromkeys(("min", "minute"), 60 * 10**9),
    **dict.fromkeys(("s", "sec", "second"), 10**9),
    **dict.fromkeys(("ms", "msec", "millisec", "millisecond"), 10**6),
    **dict.fromkeys(("us", "usec", "microsec", "microsecond"), 10**3),
    **dict.fromkeys(("ns", "nsec", "nanosec", "nanosecond"), 1),
}


def snap_times(values: np.ndarray, stored: xr.DataArray | None = None) -> np.ndarray:
    """Round times or lead times that are off by the digits they were stored with.

    Args:
        values: datetime64 or timedelta64 of any shape and unit; NaT is kept.
        stored: The coordinate that they were decoded from, which tells how many digits it has.

    Returns:
        In nanoseconds, rounded all to the same unit, see the module's header, or as they were.

    Raises:
        InputError: If nanoseconds cannot count them ("no-times").
    """
    kind = "datetime64[ns]" if np.issubdtype(values.dtype, np.datetime64) else "timedelta64[ns]"
    _check_range(values, "times" if stored is None else str(stored.name))
    exact = np.asarray(values.astype(kind))
    known = ~np.isnat(exact)
    integers = exact[known].astype(np.int64)
    if not integers.size:
        return exact
    spacing = 0 if stored is None else _spacing(stored)
    for unit in _ROUNDED:
        close = max(min(int(_CLOSE * unit), _MOST_CLOSE), spacing if spacing < unit / 4 else 0)
        rounded = (integers + unit // 2) // unit * unit
        is_close = np.abs(rounded - integers).max() <= close
        if is_close and len(np.unique(rounded)) == len(np.unique(integers)):
            result = np.array(exact)
            result[known] = rounded.astype(kind)
            return result
    return exact


def _check_range(values: np.ndarray, name: str) -> None:
    if values.dtype.kind == "M":
        years = values.astype("datetime64[Y]").astype(np.int64) + 1970
        outside = ~np.isnat(values) & ((years < _FIRST_YEAR) | (years > _LAST_YEAR))
    else:
        outside = np.abs(values / np.timedelta64(1, "s")) > _LONGEST_SECONDS
    if outside.any():
        raise InputError(
            f"{name} has {values[outside].flat[0]}, expected years from {_FIRST_YEAR} to "
            f"{_LAST_YEAR}, or less than 292 years between two times; correct the values or their "
            "attribute units",
            code="no-times",
        )


def as_durations(coordinate: xr.DataArray, name: str) -> np.ndarray:
    """Steps or lead times as timedelta64[ns], rounded by ``snap_times``.

    Args:
        coordinate: timedelta64, or numbers with the attribute ``units``, such as hours.
        name: File, for messages.

    Raises:
        InputError: If numbers have no units of time ("units-mismatch").
    """
    values = np.asarray(coordinate.values)
    if values.dtype.kind == "m":
        return snap_times(values, coordinate)
    units = str(coordinate.attrs.get("units", ""))
    unit = nanoseconds_in(units)
    if unit is None or values.dtype.kind not in "iuf":
        message = f"{name} has {coordinate.name} in {units!r}, expected a unit of time such as "
        raise InputError(message + "hours; correct its attribute units", code="units-mismatch")
    known = np.isfinite(values)
    nanoseconds = np.round(np.where(known, values, 0).astype(float) * unit)
    if np.abs(nanoseconds).max(initial=0) > _LONGEST_SECONDS * 1e9:
        message = f"{name} has {coordinate.name} of up to {np.nanmax(np.abs(values[known])):g} "
        message += f"{units}, expected less than 292 years; correct its values or attribute units"
        raise InputError(message, code="no-times")
    result = np.where(known, nanoseconds.astype("timedelta64[ns]"), np.timedelta64("NaT", "ns"))
    return snap_times(result, coordinate)


def nanoseconds_in(units: str) -> int | None:
    """Length of a unit of time, in any case and number; ``None`` where it is not known."""
    word = units.strip().lower()
    return _NANOSECONDS.get(word, _NANOSECONDS.get(word.removesuffix("s")))


def _spacing(stored: xr.DataArray) -> int:
    """Nanoseconds between neighboring numbers of a coordinate that is or was stored as floats."""
    dtype = np.dtype(stored.encoding.get("dtype") or stored.dtype)
    units = str(stored.encoding.get("units") or stored.attrs.get("units", ""))
    unit, _, origin = units.partition(" since ")
    length, kind = nanoseconds_in(unit), stored.dtype.kind
    if dtype.kind != "f" or length is None or kind == "O":  # dates of cftime have microseconds
        return 0
    if kind == "M":
        since = np.datetime64(0, "s")
        with suppress(ValueError):
            since = np.datetime64(origin.strip()[:10], "s")
        elapsed = stored.values.astype("datetime64[s]") - since
        numbers = elapsed / np.timedelta64(length, "ns")
    else:
        numbers = stored.values / np.timedelta64(length, "ns") if kind == "m" else stored.values
    largest = np.asarray(np.nanmax(np.abs(numbers), initial=0), dtype)
    return int(np.spacing(largest) * length)


def with_standard_times(dataset: xr.Dataset, name: str) -> xr.Dataset:
    """Give a dataset the dimension time, in nanoseconds of the standard calendar.

    Raises:
        InputError: If times of the file ``name`` have no units, or are missing.
    """
    if "time" not in dataset.dims:
        dataset = dataset.expand_dims("time")
    if dataset["time"].dims != ("time",) or not dataset.sizes["time"]:
        message = f"the times of {name} are {dict(dataset['time'].sizes)}, expected a series along "
        raise InputError(message + "one axis that is not empty; correct them", code="no-times")
    calendar = STANDARD
    if dataset["time"].dtype == object:  # cftime: dates stay, and are counted in their calendar
        calendar = canonical_calendar(str(dataset["time"].dt.calendar))
        try:
            dataset = dataset.convert_calendar("standard", use_cftime=False, align_on="date")
        except (ValueError, OverflowError) as error:
            message = f"the times of {name} have no dates in the standard calendar ({error}); "
            raise InputError(message + "correct them", code="no-times") from error
    dataset = dataset.assign_attrs()  # a copy, which need not be of this calendar
    dataset.attrs.pop("calendar", None)
    dataset.attrs |= calendar_attrs(calendar)
    times = dataset["time"].values
    if not np.issubdtype(times.dtype, np.datetime64):
        message = f"the times of {name} are {describe_numbers(dataset['time'])}"
        raise InputError(message, code="no-times")
    if unknown := int(np.isnat(times).sum()):
        index = int(np.argmax(np.isnat(times)))
        message = f"{unknown} of the {len(times)} times of {name} are missing, the first at index "
        message += f"{index}, expected a date each; correct them, or leave these states out"
        raise InputError(message, code="no-times")
    dataset = dataset.assign_coords(time=snap_times(times, dataset["time"]))
    ends = [str(dataset.attrs.get(f"valid_time_{end}", "")) for end in ("start", "stop")]
    with suppress(ValueError):  # ARCO-ERA5 states which times it has filled: its axis ends in 2050
        first, last = (np.datetime64(end) for end in ends)
        if not np.isnat(first) and not np.isnat(last):
            times = dataset["time"].values
            return dataset.isel(time=(times >= first) & (times < last + 1))  # last is a full day
    return dataset

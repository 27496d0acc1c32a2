"""Time axes of sources: valid times of the standard calendar.

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

from data_pipeline.errors import InputError

_ROUNDED = tuple(int(seconds * 1e9) for seconds in (3600, 1800, 1200, 900, 600, 300, 60, 1))  # ns
_CLOSE, _MOST_CLOSE = 0.01, int(0.6e9)  # share of the rounded unit, ns
_LETTERS = {"day": 86400, "hour": 3600, "minute": 60, "second": 1, "millisecond": 1e-3}  # s


def snap_times(values: np.ndarray, stored: xr.DataArray | None = None) -> np.ndarray:
    """Round times or lead times that are off by the digits they were stored with.

    Args:
        values: datetime64 or timedelta64 of any shape and unit; NaT is kept.
        stored: The coordinate that they were decoded from, which tells how many digits it has.

    Returns:
        In nanoseconds, rounded all to the same unit, see the module's header, or as they were.
    """
    kind = "datetime64[ns]" if np.issubdtype(values.dtype, np.datetime64) else "timedelta64[ns]"
    exact = values.astype(kind)
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
            result = exact.copy()
            result[known] = rounded.astype(kind)
            return result
    return exact


def _spacing(stored: xr.DataArray) -> int:
    """Nanoseconds between neighboring numbers of a coordinate that was decoded from floats."""
    dtype, units = stored.encoding.get("dtype"), str(stored.encoding.get("units", ""))
    unit, _, origin = units.partition(" since ")
    seconds = _LETTERS.get(unit.strip().lower().rstrip("s"))
    values, since = stored.values, 0.0
    if dtype is None or seconds is None or not np.issubdtype(dtype, np.floating):
        return 0
    if values.dtype.kind not in "mM":  # dates of cftime have microseconds
        return 0
    values = values[~np.isnat(values)]
    with suppress(ValueError, OverflowError):
        if np.issubdtype(values.dtype, np.datetime64):
            since = float(np.datetime64(origin.strip()[:10]).astype("datetime64[s]").astype(int))
    times = values.astype("datetime64[s]" if origin else "timedelta64[s]").astype(np.int64)
    largest = np.abs(times - since).max(initial=0) / seconds
    return int(np.spacing(np.array(largest, dtype)) * seconds * 1e9)


def with_valid_times(dataset: xr.Dataset) -> xr.Dataset:
    """Keep the valid time alone, where GRIB and CDS add the start of a forecast."""
    if "valid_time" not in dataset.variables or "time" not in dataset.variables:
        return dataset
    if "valid_time" in dataset.dims:
        return dataset.drop_vars("time")
    if dataset["valid_time"].dims == ("time",):
        dataset = dataset.assign_coords(time=dataset["valid_time"].values)
    return dataset.drop_vars("valid_time")


def with_standard_times(dataset: xr.Dataset, name: str) -> xr.Dataset:
    """Give a dataset the dimension time, in nanoseconds of the standard calendar.

    Raises:
        InputError: If the times of the file ``name`` have no units.
    """
    if "time" not in dataset.dims:
        dataset = dataset.expand_dims("time")
    if dataset["time"].dtype == object:  # cftime: noleap leaves out leap days, which stay missing
        dataset = dataset.convert_calendar("standard", use_cftime=False, align_on="date")
    times = dataset["time"].values
    if not np.issubdtype(times.dtype, np.datetime64):
        message = f"{name} has times of type {times.dtype}; give them CF units such as "
        raise InputError(message + "'hours since 1900-01-01'", code="no-times")
    dataset = dataset.assign_coords(time=snap_times(times, dataset["time"]))
    ends = [str(dataset.attrs.get(f"valid_time_{end}", "")) for end in ("start", "stop")]
    with suppress(ValueError):  # ARCO-ERA5 states which times it has filled: its axis ends in 2050
        first, last = (np.datetime64(end) for end in ends)
        if not np.isnat(first) and not np.isnat(last):
            times = dataset["time"].values
            return dataset.isel(time=(times >= first) & (times < last + 1))  # last is a full day
    return dataset

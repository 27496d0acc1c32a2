"""Lead times of stored forecasts: numbers with units, durations or text."""

import numpy as np
import pandas as pd
import xarray as xr

from data_pipeline.errors import InputError
from data_pipeline.sources.time_axis import snap_times

_UNITS = {  # nanoseconds by CF's spellings
    **dict.fromkeys(("nanosecond", "nanoseconds", "nanosec", "nsec", "ns"), 1),
    **dict.fromkeys(("microsecond", "microseconds", "microsec", "usec", "us"), 10**3),
    **dict.fromkeys(("millisecond", "milliseconds", "millisec", "msec", "ms"), 10**6),
    **dict.fromkeys(("second", "seconds", "sec", "secs", "s"), 10**9),
    **dict.fromkeys(("minute", "minutes", "min", "mins"), 60 * 10**9),
    **dict.fromkeys(("hour", "hours", "hr", "hrs", "h"), 3600 * 10**9),
    **dict.fromkeys(("day", "days", "d"), 86400 * 10**9),
    **dict.fromkeys(("week", "weeks"), 7 * 86400 * 10**9),
}
_EXAMPLES = "hours, days, minutes, seconds, nanoseconds, weeks or months"
_MOST_HOURS = 24 * 366  # without units
_MOST_NANOSECONDS = 2.0**63


def has_units(stored: xr.Variable) -> bool:
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
        InputError: If the units are unknown, or missing where the numbers cannot be hours.
    """
    values, kind = np.asarray(stored.values), stored.dtype.kind
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
        stated = _stated_units(stored)
        units = stated.partition(" since ")[0].lower()
        if not units:
            _require_hours(values, path)
            units, note = "hours", f"lead times of {path} state no units: they are taken as hours"
        if not np.isfinite(values).all():
            raise InputError(
                f"{path} has lead times that are not finite; correct them", code="units-mismatch"
            )
        if units in ("month", "months") and (values == np.round(values)).all():
            return np.asarray(values, np.int64).astype("timedelta64[M]"), ""
        if units not in _UNITS:
            raise InputError(
                f"{path} has lead times in {stated!r}, expected {_EXAMPLES}; correct the attribute "
                "units",
                code="units-mismatch",
            )
        largest = float(np.abs(values.astype(float)).max(initial=0)) * _UNITS[units]
        if largest >= _MOST_NANOSECONDS:
            raise InputError(
                f"{path} has lead times up to {values.max()} {stated}, beyond 292 years; correct "
                "the attribute units",
                code="units-mismatch",
            )
        exact = values.astype(np.int64 if kind in "iu" else np.float64) * _UNITS[units]
        values = np.round(exact).astype("timedelta64[ns]")
    if np.isnat(values).any():
        raise InputError(f"{path} has missing lead times; correct them", code="units-mismatch")
    coordinate = xr.DataArray(values, dims=stored.dims)
    coordinate.encoding = {"units": stored.attrs.get("units", ""), "dtype": stored.dtype}
    coordinate.encoding |= stored.encoding
    return snap_times(values.reshape(-1), coordinate).reshape(values.shape), note


def _from_text(values: np.ndarray, path: str) -> np.ndarray:
    words = [w.decode() if isinstance(w, bytes) else str(w) for w in values.ravel().tolist()]
    try:
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

"""Calendars of times: how many days lie between two dates.

Times are datetime64 everywhere. A source in another calendar keeps its dates, and the name of its
calendar in the attribute ``calendar`` says how they are counted: in ``noleap`` Feb 28 and Mar 1 are
a day apart in every year.

References:
    CF conventions, section 4.4.1, https://cfconventions.org/cf-conventions/cf-conventions.html
"""

import numpy as np
import xarray as xr

from data_pipeline.errors import InputError

STANDARD = "standard"
_ALIASES = {
    **dict.fromkeys(("standard", "gregorian", "proleptic_gregorian"), STANDARD),
    **dict.fromkeys(("noleap", "365_day"), "noleap"),
    **dict.fromkeys(("all_leap", "366_day"), "all_leap"),
    "360_day": "360_day",
    "julian": "julian",
}
CALENDARS = tuple(dict.fromkeys(_ALIASES.values()))
_COMMON = np.array([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
_LEAP = np.array([31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
_EVEN = np.full(12, 30)
_JULIAN_CYCLE = 4 * 365 + 1
_EPOCH_YEAR = 1970


def canonical_calendar(name: str) -> str:
    """One of ``CALENDARS`` for the name of a calendar of the CF conventions.

    Raises:
        InputError: If it is unknown.
    """
    if name.lower() not in _ALIASES:
        message = f"the calendar {name!r} is unknown, expected one of {', '.join(_ALIASES)}; "
        raise InputError(message + "correct the calendar of the times", code="bad-calendar")
    return _ALIASES[name.lower()]


def calendar_of(dataset: xr.Dataset) -> str:
    """The calendar that the times of a canonical dataset are counted in."""
    return canonical_calendar(str(dataset.attrs.get("calendar", STANDARD)))


def calendar_attrs(calendar: str) -> dict[str, str]:
    """The attribute that ``calendar_of`` reads, which standard times lack."""
    return {} if calendar == STANDARD else {"calendar": calendar}


def linear(times: np.ndarray, calendar: str) -> np.ndarray:
    """Count times in a calendar, as datetime64[ns]: their differences are right, their dates not.

    Standard times stay as they are. Feb 29 counts as Mar 1 where the calendar lacks it.
    """
    times = np.asarray(times, "datetime64[ns]")
    if calendar == STANDARD:
        return times
    days = times.astype("datetime64[D]")
    months = days.astype("datetime64[M]")
    month = months.astype(np.int64)
    of_month = (days - months.astype("datetime64[D]")).astype(np.int64)
    ordinal = _first_of_month(month, calendar) + of_month
    counted = ordinal.astype("datetime64[D]").astype("datetime64[ns]") + (times - days)
    return np.where(np.isnat(times), np.datetime64("NaT", "ns"), counted)


def dates(counted: np.ndarray, calendar: str) -> np.ndarray:
    """Inverse of ``linear``, NaT where datetime64 lacks the date, such as Feb 30 of ``360_day``."""
    counted = np.asarray(counted, "datetime64[ns]")
    if calendar == STANDARD:
        return counted
    days = counted.astype("datetime64[D]")
    ordinal = np.where(np.isnat(days), 0, days.astype(np.int64))
    # The year by its mean length, then the month, are at most one too late or too early.
    length = {"360_day": 360, "noleap": 365, "all_leap": 366, "julian": 365.25}[calendar]
    month = np.floor(ordinal / length * 12).astype(np.int64)
    month = np.where(_first_of_month(month, calendar) > ordinal, month - 1, month)
    month = np.where(_first_of_month(month + 1, calendar) <= ordinal, month + 1, month)
    of_month = ordinal - _first_of_month(month, calendar)
    first = month.astype("datetime64[M]").astype("datetime64[D]")
    date = first + of_month
    exists = (date.astype("datetime64[M]").astype(np.int64) == month) & ~np.isnat(days)
    result = date.astype("datetime64[ns]") + (counted - days)
    return np.where(exists, result, np.datetime64("NaT", "ns"))


def days_of_months(month: np.ndarray, calendar: str) -> np.ndarray:
    """Number of days of months, which are counted from January 1970."""
    if calendar == STANDARD:
        first = month.astype("datetime64[M]")
        return ((first + 1).astype("datetime64[D]") - first.astype("datetime64[D]")).astype(
            np.int64
        )
    leap = (_EPOCH_YEAR + month // 12) % 4 == 0
    of_year = month % 12
    common, leaping = {
        "360_day": (_EVEN, _EVEN),
        "noleap": (_COMMON, _COMMON),
        "all_leap": (_LEAP, _LEAP),
        "julian": (_COMMON, _LEAP),
    }[calendar]
    return np.where(leap, leaping[of_year], common[of_year])


def _first_of_month(month: np.ndarray, calendar: str) -> np.ndarray:
    """Days from January 1970 to the start of months, which are counted likewise."""
    year, of_year = month // 12, month % 12
    lengths = {"360_day": _EVEN, "all_leap": _LEAP}.get(calendar, _COMMON)
    before = np.concatenate([[0], np.cumsum(lengths)])[of_year] + lengths.sum() * year
    if calendar != "julian":
        return before
    # Leap days of the years before, and of this one from March on: 1972 is the first.
    leap = (_EPOCH_YEAR + year) % 4 == 0
    return before + (year + 1) // 4 + (leap & (of_year >= 2))

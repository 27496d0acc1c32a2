"""Tests of the calendars: dates are counted as the conventions say."""

import cftime
import numpy as np
import pytest

from data_pipeline.calendars import (
    CALENDARS,
    calendar_attrs,
    canonical_calendar,
    dates,
    days_of_months,
    linear,
)
from tests.builders.errors import rejects


def _day(text: str) -> np.ndarray:
    return np.array([text], "datetime64[ns]")


@pytest.mark.parametrize(
    ("calendar", "first", "later", "days"),
    [
        ("standard", "2004-02-28", "2004-03-01", 2),
        ("standard", "2003-02-28", "2003-03-01", 1),
        ("noleap", "2004-02-28", "2004-03-01", 1),
        ("noleap", "2000-01-01", "2010-01-01", 3650),
        ("all_leap", "2003-02-28", "2003-03-01", 2),
        ("360_day", "2003-02-28", "2003-03-01", 3),
        ("360_day", "2003-12-30", "2004-01-01", 1),
        ("julian", "1900-02-28", "1900-03-01", 2),  # a leap year to Julius Caesar
    ],
)
def test_days_between_dates(calendar: str, first: str, later: str, days: int) -> None:
    elapsed = linear(_day(later), calendar) - linear(_day(first), calendar)
    assert elapsed == np.timedelta64(days, "D")


@pytest.mark.parametrize("calendar", [c for c in CALENDARS if c != "standard"])
def test_dates_agree_with_cftime(calendar: str) -> None:
    since = "hours since 1890-01-01"
    hours = np.arange(0, 150 * 365 * 24, 1001)
    expected = cftime.num2date(hours, since, calendar)
    start = linear(_day("1890-01-01"), calendar)
    found = dates(start + hours * np.timedelta64(1, "h"), calendar)
    for date, time in zip(expected, found, strict=True):
        text = date.strftime("%Y-%m-%dT%H")
        try:
            assert time == np.datetime64(text)
        except ValueError:  # no such date in the standard calendar
            assert np.isnat(time)


@pytest.mark.parametrize("calendar", CALENDARS)
def test_dates_undo_counting(calendar: str) -> None:
    times = np.datetime64("1896-01-01T05:30", "ns") + np.arange(0, 60000, 7) * np.timedelta64(
        1, "D"
    )
    day = times.astype("datetime64[D]")
    of_month = (day - day.astype("datetime64[M]")).astype(int)
    leap_day = (of_month == 28) & (day.astype("datetime64[M]").astype(int) % 12 == 1)
    times = times[~leap_day & (of_month < 30)]
    assert np.array_equal(dates(linear(times, calendar), calendar), times)


def test_a_date_that_datetime_lacks_is_not_a_time() -> None:
    february_30 = linear(_day("2003-02-28"), "360_day") + np.timedelta64(2, "D")
    assert np.isnat(dates(february_30, "360_day"))


def test_lengths_of_february() -> None:
    february = np.array([(2000 - 1970) * 12 + 1, (1999 - 1970) * 12 + 1])
    lengths = {calendar: days_of_months(february, calendar).tolist() for calendar in CALENDARS}
    assert lengths == {
        "standard": [29, 28],
        "noleap": [28, 28],
        "all_leap": [29, 29],
        "360_day": [30, 30],
        "julian": [29, 28],
    }


def test_names_of_calendars() -> None:
    assert canonical_calendar("365_day") == "noleap"
    assert calendar_attrs(canonical_calendar("proleptic_gregorian")) == {}
    with rejects("bad-calendar", "martian"):
        canonical_calendar("martian")

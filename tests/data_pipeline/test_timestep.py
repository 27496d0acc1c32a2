"""Tests of time steps: their text, their arithmetic by hand, and the laws of it."""

import numpy as np
import pytest
import xarray as xr

from data_pipeline.timestep import (
    Timestep,
    lead_coordinate,
    lead_label,
    lead_times_of,
    recorded_time,
    time_label,
    valid_times,
)
from data_pipeline.trajectory_times import TrajectoryTimes
from tests.builders.errors import rejects

DAY = np.timedelta64(1, "D")


def _times(*texts: str) -> np.ndarray:
    return np.array(texts, "datetime64[ns]")


@pytest.mark.parametrize("text", ["30min", "6h", "1D", "1MS", "3MS", "90min", "10s", "7h", "30D"])
def test_the_text_of_a_step_is_read_back(text: str) -> None:
    assert str(Timestep.parse(text)) == text
    record = Timestep.parse(text, calendar="noleap").to_json()
    assert Timestep.from_json(record) == Timestep.parse(text, calendar="noleap")


def test_hours_are_recorded_as_before() -> None:
    assert Timestep.parse("6h").to_json() == {"timestep_hours": 6}
    assert (
        Timestep.parse("1D") == Timestep.parse("24h") == Timestep.from_json({"timestep_hours": 24})
    )


@pytest.mark.parametrize("text", ["6 hours?", "0h", "1Y", "-6h", "1.5MS", "", "6", "1M", "h6"])
def test_other_texts_are_rejected(text: str) -> None:
    with rejects("bad-setting", "data.timestep", repr(text), "30min", "1MS"):
        Timestep.parse(text)


@pytest.mark.parametrize(
    ("step", "first", "count", "later"),
    [
        ("30min", "2004-02-28T23:45", 1, "2004-02-29T00:15"),
        ("1MS", "2003-12-01", 3, "2004-03-01"),
        ("1MS", "2004-01-31", 1, "2004-02-29"),  # ends of months
        ("1MS", "2003-02-28", 1, "2003-03-31"),
        ("1MS", "2004-01-16T12:00", 1, "2004-02-15T12:00"),  # their middles, in a leap year
        ("1MS", "2003-02-15T00:00", 2, "2003-04-16T00:00"),
        ("1MS", "2003-05-07T06:00", -3, "2003-02-07T06:00"),
        ("3MS", "2003-11-01", 1, "2004-02-01"),
    ],
)
def test_steps_by_hand(step: str, first: str, count: int, later: str) -> None:
    parsed = Timestep.parse(step)
    assert parsed.advance(_times(first), count) == _times(later)
    assert parsed.steps_between(_times(first), _times(later)) == count


def test_noleap_steps_leave_out_the_leap_day() -> None:
    day = Timestep.parse("1D", calendar="noleap")
    first = _times("2004-02-27")
    expected = _times("2004-02-27", "2004-02-28", "2004-03-01", "2004-03-02")
    assert np.array_equal(day.advance(first, np.arange(4)), expected)
    assert np.array_equal(day.steps_between(first, expected), np.arange(4))
    month = Timestep.parse("1MS", calendar="noleap")  # the middle of 28 days in every year
    assert month.advance(_times("2004-01-16T12:00"), 1) == _times("2004-02-15")


@pytest.mark.parametrize("calendar", ["standard", "noleap", "julian"])
@pytest.mark.parametrize("text", ["30min", "7h", "1D", "1MS", "5MS"])
def test_steps_add_up(text: str, calendar: str) -> None:
    step = Timestep.parse(text, calendar=calendar)
    starts = _times("1999-11-01", "2000-01-16T12:00", "2000-02-27T18:00", "2001-12-31")
    for first, second in ((1, 1), (2, 11), (13, -5)):
        once = step.advance(starts, first + second)
        assert np.array_equal(step.advance(step.advance(starts, first), second), once)
        assert (step.steps_between(starts, once) == first + second).all()


def test_labels_of_a_month_are_taken_over() -> None:
    labels = _times("2000-01-15", "2000-02-15", "2000-03-15")  # the same day, not the middle
    advanced = Timestep.parse("1MS").advance(labels[1], np.arange(3), labels)
    assert np.array_equal(advanced[:2], labels[1:])
    assert advanced[2].astype("datetime64[M]") == np.datetime64("2000-04")


def test_times_on_the_grid_of_a_step() -> None:
    hours = _times("2000-01-01")[0] + np.arange(25) * np.timedelta64(1, "h")
    assert np.flatnonzero(Timestep.parse("6h").on_grid(hours)).tolist() == [0, 6, 12, 18, 24]
    assert np.flatnonzero(Timestep.parse("7h").on_grid(hours)).tolist() == [0, 7, 14, 21]
    days = _times("2000-01-01")[0] + np.arange(366) * DAY
    firsts = days[Timestep.parse("1MS").on_grid(days)]
    assert np.array_equal(
        firsts, np.arange("2000-01", "2001-01", dtype="datetime64[M]").astype("datetime64[ns]")
    )
    middles = _times("2000-01-16T12:00", "2000-02-15T12:00", "2000-03-16T12:00", "2000-04-16")
    assert Timestep.parse("1MS").on_grid(middles).all()
    assert Timestep.parse("2MS").on_grid(middles).tolist() == [True, False, True, False]


@pytest.mark.parametrize(
    ("times", "step"),
    [
        (np.arange("2000-01", "2002-01", dtype="datetime64[M]"), "1MS"),
        (np.arange("2000-01", "2002-01", 3, dtype="datetime64[M]"), "3MS"),
        (np.arange("2000", "2010", dtype="datetime64[Y]"), "12MS"),
        (np.arange("2000-01-01", "2002-01-01", 30, dtype="datetime64[D]"), "30D"),
        (np.arange("2000-01-01", "2000-01-03", 7, dtype="datetime64[h]"), "7h"),
        (np.arange("2000-01-01", "2000-01-02", 30, dtype="datetime64[m]"), "30min"),
        (np.arange("2000-02", "2001-02", dtype="datetime64[M]").astype("datetime64[D]") - 1, "1MS"),
    ],
)
def test_the_step_of_an_axis(times: np.ndarray, step: str) -> None:
    assert str(Timestep.of_axis(times.astype("datetime64[ns]"))) == step


def test_the_step_of_an_axis_with_a_gap() -> None:
    months = np.delete(np.arange("2000-01", "2002-01", dtype="datetime64[M]"), [5, 6])
    assert str(Timestep.of_axis(months.astype("datetime64[ns]"))) == "1MS"
    days = np.delete(np.arange("2000-01-01", "2001-01-01", 30, dtype="datetime64[D]"), 4)
    assert str(Timestep.of_axis(days.astype("datetime64[ns]"))) == "30D"
    assert Timestep.of_axis(_times("2000-01-01")) is None


def test_valid_times_are_counted_in_the_calendar_of_the_forecast() -> None:
    inits, leads = _times("2004-02-27", "2005-02-27"), np.arange(1, 4) * DAY
    standard, noleap = valid_times(inits, leads), valid_times(inits, leads, "noleap")
    assert standard[0].tolist() == _times("2004-02-28", "2004-02-29", "2004-03-01").tolist()
    assert noleap[0].tolist() == _times("2004-02-28", "2004-03-01", "2004-03-02").tolist()
    assert np.array_equal(standard[1], noleap[1])


def test_leads_in_months() -> None:
    leads = np.arange(1, 4) * Timestep.parse("1MS").delta
    valid = valid_times(_times("2003-12-01"), leads)
    assert np.array_equal(valid, [_times("2004-01-01", "2004-02-01", "2004-03-01")])
    stored = xr.Dataset(coords={"lead_time": lead_coordinate(leads)})["lead_time"]
    assert stored.attrs["units"] == "months"
    assert np.array_equal(lead_times_of(stored), leads)


@pytest.mark.parametrize(
    ("lead", "label"),
    [
        (np.timedelta64(30, "m"), "30 min"),
        (np.timedelta64(90, "m"), "90 min"),
        (np.timedelta64(6, "h"), "6 h"),
        (np.timedelta64(24, "h"), "24 h"),
        (np.timedelta64(120, "h"), "5 days"),
        (np.timedelta64(60, "h"), "60 h"),
        (np.timedelta64(1, "M"), "1 month"),
        (np.timedelta64(3, "M"), "3 months"),
        (np.timedelta64(10, "s"), "10 s"),
    ],
)
def test_labels_of_leads(lead: np.timedelta64, label: str) -> None:
    assert lead_label(lead) == label


def test_trajectories_name_steps_and_times_and_are_kept() -> None:
    times = TrajectoryTimes(step=0.25, num_states=21)
    step = Timestep.of_hours(1).counted_as(xr.Dataset(attrs=times.attrs))
    assert step == Timestep.of_hours(1)  # the same time, in other words
    assert (step.label, step.lead_label(20)) == ("1 step", "20 steps")
    assert Timestep.from_json(step.to_json()).trajectories == times
    assert Timestep.of_hours(1).counted_as(xr.Dataset(attrs=step.attrs)).trajectories == times
    assert time_label(_times("2201-01-03T05")[0], times) == "test trajectory 2, step 5"
    assert recorded_time("2201-01-03T05:00:00", times) == "test trajectory 2, step 5"


def test_dates_stay_dates() -> None:
    night = _times("2020-01-01T22:00")[0]  # no trajectory of 21 states has a step 22
    assert time_label(night) == "2020-01-01 22:00 UTC"
    assert time_label(night, TrajectoryTimes(num_states=21)) == "2020-01-01 22:00 UTC"
    for times in (None, TrajectoryTimes(num_states=21)):
        assert recorded_time("2020-01-01T22:00:00", times) == "2020-01-01T22:00:00"
        assert recorded_time("at noon", times) == "at noon"


def test_multiples() -> None:
    assert Timestep.parse("1D").multiple_of(Timestep.parse("6h")) == 4
    assert Timestep.parse("1D").multiple_of(Timestep.parse("7h")) is None
    assert Timestep.parse("3MS").multiple_of(Timestep.parse("1MS")) == 3
    assert Timestep.parse("30D").multiple_of(Timestep.parse("1MS")) is None


@pytest.mark.parametrize("text", ["2000MS", "99999D", "999999999999999s"])
def test_steps_beyond_a_century_are_rejected(text: str) -> None:
    with rejects("bad-setting", "data.timestep", repr(text)):
        Timestep.parse(text)
    assert str(Timestep.parse("1200MS")) == "1200MS"
    assert str(Timestep.parse("36500D")) == "36500D"

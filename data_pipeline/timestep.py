"""Time steps: a duration such as 30min, 6h and 1D, or calendar months such as 1MS.

Months keep the place of a time within its month: its start, its middle (as in CMIP, the 16th at
noon in January, the 15th at 00 UTC in February), its end (the last day), or else the same day.

Lead times are timedelta64[ns], or timedelta64[M] for months; datasets hold the latter as integers
with the units ``months``.
"""

import math
import re
from collections.abc import Hashable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import xarray as xr

from data_pipeline.bounds import Hours
from data_pipeline.calendars import (
    CALENDARS,
    STANDARD,
    calendar_attrs,
    calendar_of,
    dates,
    days_of_months,
    linear,
)
from data_pipeline.errors import InputError
from data_pipeline.records import from_plain
from data_pipeline.trajectory_times import TrajectoryTimes

Times = np.ndarray | np.datetime64
_UNITS = {"s": 1, "min": 60, "h": 3600, "D": 86400}  # seconds
_TEXT = re.compile(r"([0-9]{0,18})(s|min|h|D|MS)")
_LONGEST = {"MS": 1200}  # by unit: a century, which int64 nanoseconds hold
_LONGEST |= {unit: 1200 * 31 * 86400 // size for unit, size in _UNITS.items()}
_SECOND, _DAY = 10**9, np.timedelta64(86400 * 10**9, "ns")
_MEAN_MONTH = 365.2425 / 12 * 86400 * _SECOND
_NAT = np.datetime64("NaT", "ns")
_SAME_PLACE_DAYS = 2  # within which labels of months, such as their middles, differ


@dataclass(frozen=True)
class Timestep:
    """Time from a state to the next: nanoseconds or months, in a calendar.

    Args:
        nanoseconds: Of a duration; 0 for months.
        months: Calendar months; 0 for a duration.
        calendar: That times are counted in, one of ``CALENDARS``.
        trajectories: Where times are those of trajectories of an equation: names them for people,
            and is left out of comparisons.
    """

    nanoseconds: int = 0
    months: int = 0
    calendar: str = STANDARD
    trajectories: TrajectoryTimes | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        assert (self.nanoseconds > 0) != (self.months > 0), "one of both"
        assert self.calendar in CALENDARS

    @classmethod
    def parse(
        cls, text: str, setting: str = "data.timestep", calendar: str = STANDARD
    ) -> "Timestep":
        """Parse a number and one of s, min, h, D and MS (calendar months).

        Raises:
            InputError: If the text is none, with the name of the ``setting``.
        """
        match = _TEXT.fullmatch(text.strip())
        count = int(match[1] or 1) if match else 0
        if match is None or not count:
            raise InputError(
                f"{setting} must be a positive integer and a unit, such as 30min, 6h, 1D, or 1MS "
                f"for calendar months, got {text!r}",
                code="bad-setting",
            )
        if count > _LONGEST[match[2]]:
            message = f"{setting} must be at most {_LONGEST[match[2]]}{match[2]}, got {text!r}"
            raise InputError(message, code="bad-setting")
        if match[2] == "MS":
            return cls(months=count, calendar=calendar)
        return cls(nanoseconds=count * _UNITS[match[2]] * _SECOND, calendar=calendar)

    @classmethod
    def of_hours(cls, hours: int, calendar: str = STANDARD) -> "Timestep":
        """A duration in hours."""
        return cls(nanoseconds=hours * 3600 * _SECOND, calendar=calendar)

    @classmethod
    def of_axis(cls, times: np.ndarray, calendar: str = STANDARD) -> "Timestep | None":
        """The usual step of increasing times (datetime64): the most frequent one, else the least.

        Times once in a month (or in every n-th one), at the same place of it, are months apart.
        ``None`` for fewer than two times.
        """
        if len(times) < 2:
            return None
        months = np.diff(_month_index(times))
        if len(times) > 2 and (months > 0).all() and _same_place(times):
            steps, counts = np.unique(months, return_counts=True)
            return cls(months=int(steps[np.argmax(counts)]), calendar=calendar)
        elapsed = np.diff(linear(times, calendar)).astype("timedelta64[ns]").astype(np.int64)
        steps, counts = np.unique(elapsed[elapsed > 0], return_counts=True)
        if not len(steps):
            return None
        return cls(nanoseconds=int(steps[np.argmax(counts)]), calendar=calendar)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Timestep":
        """Inverse of ``to_json``; a record of an earlier version has ``timestep_hours`` alone.

        Raises:
            InputError: If it has neither, or they are no step of time in a known calendar.
        """
        calendar = record.get("calendar", STANDARD)
        if calendar not in CALENDARS:
            known = ", ".join(CALENDARS)
            message = f"calendar must be one of {known}, got {calendar!r}"
            raise InputError(message, code="bad-record")
        if "timestep" in record:
            text = from_plain(str, record["timestep"], "timestep")
            step = cls.parse(text, "timestep", calendar)
        else:
            hours = from_plain(Hours, record.get("timestep_hours"), "timestep_hours")
            step = cls.of_hours(hours, calendar)
        return replace(step, trajectories=TrajectoryTimes.of(record))

    def to_json(self) -> dict[str, Any]:
        """Plain values, for stores and checkpoints: integer hours as in earlier versions."""
        hours = self.hours
        record = {"timestep": str(self)} if hours is None else {"timestep_hours": hours}
        return record | self.attrs

    def __str__(self) -> str:
        """The text that ``parse`` reads, in the largest unit."""
        if self.months:
            return f"{self.months}MS"
        seconds = self.nanoseconds // _SECOND
        unit = next(u for u, size in reversed(_UNITS.items()) if seconds % size == 0)
        return f"{seconds // _UNITS[unit]}{unit}"

    @property
    def label(self) -> str:
        """The step in words of tables and messages, see ``lead_label``."""
        return self.lead_label(1)

    def lead_label(self, count: int) -> str:
        """The lead time of a number of steps, see ``lead_label``."""
        return lead_label(count * self.delta, self.trajectories)

    @property
    def attrs(self) -> dict[str, Any]:
        """Attributes of a dataset whose times are counted like these, see ``counted_as``."""
        trajectories = {} if self.trajectories is None else self.trajectories.attrs
        return calendar_attrs(self.calendar) | trajectories

    @property
    def hours(self) -> int | None:
        """Integer hours of a duration, or ``None``."""
        hours, rest = divmod(self.nanoseconds, 3600 * _SECOND)
        return None if rest or not hours else hours

    @property
    def delta(self) -> np.timedelta64:
        """timedelta64[ns], or timedelta64[M] for months: multiples of it are lead times."""
        if self.months:
            return np.timedelta64(self.months, "M")
        return np.timedelta64(self.nanoseconds, "ns")

    @property
    def mean_nanoseconds(self) -> float:
        """Mean length, to tell which of two steps is finer."""
        return self.nanoseconds + self.months * _MEAN_MONTH

    @property
    def num_times_of_year(self) -> int | None:
        """Different months of the year that steps of months reach, ``None`` for a duration."""
        return 12 // math.gcd(12, self.months) if self.months else None

    def counted_as(self, dataset: xr.Dataset) -> "Timestep":
        """The same step, in the calendar or the trajectories of a canonical dataset."""
        trajectories = TrajectoryTimes.of(dataset.attrs)
        return replace(self, calendar=calendar_of(dataset), trajectories=trajectories)

    def in_calendar(self, calendar: str) -> "Timestep":
        """The same step, counted in another calendar."""
        return replace(self, calendar=calendar)

    def advance(
        self, times: Times, steps: np.ndarray | int, labels: np.ndarray | None = None
    ) -> np.ndarray:
        """Times (datetime64) some steps later; both broadcast, and steps may be negative.

        Args:
            times: datetime64.
            steps: Integers.
            labels: Increasing times whose labels months take over, where they have one in a month.

        Returns:
            datetime64[ns], NaT where datetime64 lacks a date of the calendar, such as Feb 30.
        """
        each, counts = np.broadcast_arrays(np.asarray(times, "datetime64[ns]"), steps)
        flat, counts = each.reshape(-1), counts.reshape(-1)
        if self.months:
            later = _months_later(flat, counts * self.months, self.calendar)
            later = later if labels is None else _labelled(later, labels)
        else:
            later = dates(linear(flat, self.calendar) + counts * self.delta, self.calendar)
        return later.reshape(each.shape)

    def steps_between(self, first: Times, later: Times) -> np.ndarray:
        """Number of steps between times (datetime64) as floats, negative if they are not later."""
        ends = np.broadcast_arrays(*(np.asarray(t, "datetime64[ns]") for t in (first, later)))
        start, end = (times.reshape(-1) for times in ends)
        if self.months:
            months = (_month_index(end) - _month_index(start)) / self.months
            steps = np.where(np.isnat(start) | np.isnat(end), np.nan, months)
        else:
            steps = (linear(end, self.calendar) - linear(start, self.calendar)) / self.delta
        return steps.reshape(ends[0].shape)

    def phase(self, times: np.ndarray) -> np.ndarray:
        """Rest of times (datetime64) after full steps: equal for times full steps apart."""
        if self.months:
            return _month_index(times) % self.months
        return linear(times, self.calendar).astype(np.int64) % self.nanoseconds

    def on_grid(self, times: np.ndarray) -> np.ndarray:
        """Mask of increasing times (datetime64) an integer number of steps after the first.

        In months with several times, the one at the same place of the month counts.
        """
        if not len(times):
            return np.zeros(0, bool)
        phases = self.phase(times)
        whole = phases == phases[0]
        if self.months and (np.diff(_month_index(times)) == 0).any():
            steps = np.floor(self.steps_between(times[0], times)).astype(np.int64)
            whole &= times == self.advance(times[0], steps)
        return whole

    def multiple_of(self, other: "Timestep") -> int | None:
        """How many of the ``other`` steps this one is, or ``None`` if it is no multiple."""
        if bool(self.months) != bool(other.months):
            return None
        mine, theirs = (step.months or step.nanoseconds for step in (self, other))
        return None if mine % theirs else mine // theirs


def valid_times(
    init_times: np.ndarray,
    lead_times: np.ndarray,
    calendar: str = STANDARD,
    labels: np.ndarray | None = None,
) -> np.ndarray:
    """Valid times (init_time, lead_time) of forecasts, datetime64[ns].

    Lead times are counted in the calendar of the forecasts. See ``Timestep.advance`` for the
    labels, which are usually the times of truth, and for dates that do not exist.

    Args:
        init_times: datetime64.
        lead_times: timedelta64 of any unit; with the unit M, calendar months.
        calendar: That of the forecasts, see ``CALENDARS``.
        labels: Increasing times whose labels months take over.
    """
    months = is_months(lead_times)
    step = Timestep(months=1, calendar=calendar) if months else Timestep(1, calendar=calendar)
    counts = lead_times.astype("timedelta64[M]" if months else "timedelta64[ns]").astype(np.int64)
    return step.advance(init_times[:, None], counts[None, :], labels)


def is_months(lead_times: np.ndarray | np.timedelta64) -> bool:
    """Whether lead times are calendar months."""
    return np.datetime_data(lead_times.dtype)[0] in ("M", "Y")


def lead_times_of(coordinate: xr.DataArray | xr.Variable) -> np.ndarray:
    """Lead times of a canonical dataset: timedelta64[ns], or timedelta64[M] of integer months."""
    values = np.asarray(coordinate.values)
    if np.issubdtype(values.dtype, np.timedelta64):
        return values
    assert coordinate.attrs.get("units") == "months", "other units have been converted"
    return np.asarray(values.astype("timedelta64[M]"))


def lead_coordinate(
    lead_times: np.ndarray, dims: str | tuple[Hashable, ...] = "lead_time"
) -> xr.Variable:
    """Inverse of ``lead_times_of``: a coordinate for xarray, which turns months into seconds."""
    lead_times = np.asarray(lead_times)
    if is_months(lead_times):
        return xr.Variable(dims, lead_times.astype(np.int64), {"units": "months"})
    return xr.Variable(dims, lead_times.astype("timedelta64[ns]"))


def lead_label(lead: np.timedelta64, trajectories: TrajectoryTimes | None = None) -> str:
    """A lead time (or a step) in a fitting unit: 30 min, 6 h, 5 days, 3 months; or 20 steps."""
    if trajectories is not None and not is_months(lead):
        return trajectories.lead_label(lead)
    if is_months(lead):
        months = int(lead.astype("timedelta64[M]").astype(int))
        return f"{months} month{'s' * (months != 1)}"
    seconds = lead / np.timedelta64(1, "s")
    days, hours = seconds / 86400, seconds / 3600
    if days >= 2 and days == int(days):
        return f"{days:g} days"
    if hours == int(hours) and hours:
        return f"{hours:g} h"
    if seconds % 60 == 0 and hours < 3:
        return f"{seconds / 60:g} min"
    return f"{seconds:g} s" if seconds < 60 else f"{hours:.6g} h"


def time_label(time: np.datetime64, trajectories: TrajectoryTimes | None = None) -> str:
    """A time for people: 2020-01-01 12:00 UTC, or test trajectory 3, step 5."""
    named = None if trajectories is None else trajectories.time_label(time)
    return named or f"{str(time.astype('datetime64[m]')).replace('T', ' ')} UTC"


def recorded_time(text: str, trajectories: TrajectoryTimes | None = None) -> str:
    """A time that a record has as text: as it is, or test trajectory 3, step 5."""
    if trajectories is None:
        return text
    with suppress(ValueError):
        return trajectories.time_label(np.datetime64(text, "ns")) or text
    return text


def lead_key(lead: np.timedelta64) -> int | float | str:
    """A lead time in tables for programs: hours as a number, or months as 3MS."""
    if is_months(lead):
        return f"{lead.astype('timedelta64[M]').astype(int)}MS"
    hours = lead / np.timedelta64(1, "h")
    return int(hours) if hours == int(hours) else float(hours)


def one_spelling(
    setting: str, text: str | None, hours: int | None, default: int
) -> tuple[str | None, int | None]:
    """Settle a time that is given as the ``text`` of a setting or in its former ``hours``.

    Returns:
        Integer hours as hours, with the text None, and other times as their text alone.

    Raises:
        InputError: If both are given and differ, or the text is none of a time step.
    """
    step = Timestep.of_hours(default if hours is None else hours)
    if text is not None:
        given, step = step, Timestep.parse(text, setting)
        if hours is not None and step != given:
            raise InputError(
                f"{setting}={text} and {setting}_hours={hours} differ; give one of them",
                code="bad-setting",
            )
    return (None, step.hours) if step.hours else (str(step), None)


def stated(text: str | None, hours: int | None) -> Timestep:
    """The time step that ``one_spelling`` has settled."""
    if text is not None:
        return Timestep.parse(text)
    assert hours is not None, "one of both is settled"
    return Timestep.of_hours(hours)


def _month_index(times: np.ndarray) -> np.ndarray:
    return times.astype("datetime64[M]").astype(np.int64)


def _months_later(times: np.ndarray, months: np.ndarray, calendar: str) -> np.ndarray:
    """Times at the same place of other months of a calendar."""
    first = times.astype("datetime64[M]")
    offset = times - first.astype("datetime64[ns]")
    before = days_of_months(_month_index(first), calendar) * _DAY
    month = _month_index(first) + months
    after = days_of_months(month, calendar) * _DAY
    shift = np.minimum(offset, after - _DAY + offset % _DAY)  # the last day, if it is shorter
    shift = np.where(offset >= before - _DAY, after - _DAY + offset % _DAY, shift)
    shift = np.where(2 * offset == before, after / 2, shift)
    start = month.astype("datetime64[M]").astype("datetime64[ns]")
    later = start + shift.astype("timedelta64[ns]")
    return np.where(later.astype("datetime64[M]").astype(np.int64) == month, later, _NAT)


def _labelled(times: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Times, replaced by the label within their month where there is just one."""
    if not len(labels):
        return times
    months = times.astype("datetime64[M]")
    ends = (edge.astype("datetime64[ns]") for edge in (months, months + 1))
    index, following = (np.searchsorted(labels, end) for end in ends)
    alone = (following == index + 1) & ~np.isnat(times)
    label = labels[np.minimum(index, len(labels) - 1)].astype("datetime64[ns]")
    return np.where(alone, label, times)


def _same_place(times: np.ndarray) -> bool:
    """Whether all times are at about the same place of their month, at other distances."""
    first = times.astype("datetime64[M]")
    after_start = times - first.astype("datetime64[D]")
    before_end = (first + 1).astype("datetime64[D]") - times
    least = min(np.ptp(after_start / _DAY), np.ptp(before_end / _DAY))
    return bool(least <= _SAME_PLACE_DAYS) and len(np.unique(np.diff(times))) > 1

"""Climatology by a window: the mean state by day of the year and hour, smoothed over 61 days.

With f_y(d), the state of year y on its day d at one hour of day,

    c(d) = sum_y sum_k w_k f_y(d + k) / sum_y sum_k w_k,    w_k = 1 - |k| / 30 for |k| < 30,

where days wrap around from 366 to 1, day 366 of a year without one is its day 365, and missing
values are left out. The window passes the n-th harmonic of the year times

    [sin(30 pi n / 366) / (30 sin(pi n / 366))]^2 = .98, .91, .82, .69, .56, .42 for n = 1 to 6,

so it keeps much that two harmonics, see ``climatology``, leave out.

References:
    WeatherBench 2, Rasp et al., 2024, https://arxiv.org/abs/2308.15560, section 4.3 (climatology),
    and the functions ``create_window_weights`` and ``compute_rolling_stat`` of its ``utils.py``.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from data_pipeline.preprocessing.climatology import hours_of_day

DAYS = 366
_HALF_WIDTH = 30
_LARGEST_GAP = 32  # days from a state to the next, up to which the days between are covered
_LEAST_SHARE = 0.5  # of the window's weight that covered days must have
_COLUMNS = 2**15  # points that are smoothed at a time


class WindowClimatology(NamedTuple):
    """A table by hour of day and day of the year."""

    hours: np.ndarray  # of day that occur
    fields: np.ndarray  # float32 (hour, day, channel, ...), NaN where no state is in the window
    covered: np.ndarray  # (hour, day), whether the states near this day determine the mean


def window_weights() -> np.ndarray:
    """Weights (day, day) of states on the second day in the mean of the first."""
    apart = np.abs(np.arange(DAYS)[:, None] - np.arange(DAYS))
    return np.clip(1 - np.minimum(apart, DAYS - apart) / _HALF_WIDTH, 0, None)


def fit_window(
    blocks: Iterable[tuple[np.ndarray, np.ndarray]], *, together: bool = False
) -> WindowClimatology:
    """Average in one pass, with one float64 sum for each hour, day, channel and point.

    ``blocks`` are pairs of times (datetime64) and values (time, channel, ...), NaN where missing;
    all hours of day count ``together`` for monthly data, see ``climatology.hours_of_day``.
    """
    sums: dict[float, _DailySums] = {}
    for times, values in blocks:
        for hour, day, is_last, state in zip(
            hours_of_day(times, together=together).tolist(),
            *_days_of_year(times),
            values,
            strict=True,
        ):
            if hour not in sums:
                sums[hour] = _DailySums(values.shape[1:])
            sums[hour].add(day, state)
            if is_last:
                sums[hour].add(DAYS - 1, state)
    hours = sorted(sums)
    shape = next(iter(sums.values())).fields.shape if sums else (DAYS,)
    fields = np.empty((len(hours), *shape), np.float32)
    covered = np.empty((len(hours), DAYS), bool)
    for index, hour in enumerate(hours):
        by_day = sums.pop(hour)
        by_day.smooth(fields[index])
        covered[index] = by_day.covered()
    return WindowClimatology(np.array(hours), fields, covered)


def _days_of_year(times: np.ndarray) -> tuple[list[int], list[bool]]:
    """Day of the year from 0, and whether it is the last one of a year of 365 days."""
    years = times.astype("datetime64[Y]")
    days = (times.astype("datetime64[D]") - years.astype("datetime64[D]")).astype(int)
    lengths = (years + 1).astype("datetime64[D]") - years.astype("datetime64[D]")
    last = (days == DAYS - 2) & (lengths.astype(int) == DAYS - 1)
    return days.tolist(), last.tolist()


class _DailySums:
    """Sums and counts of the states of each day of the year, at one hour of day."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.fields = np.zeros((DAYS, *shape))
        self.counts = np.zeros(DAYS)
        self.missing: np.ndarray | None = None  # (day, ...), where some value is missing

    def add(self, day: int, state: np.ndarray) -> None:
        """Add the state of one day."""
        self.counts[day] += 1
        if not np.isnan(state.sum()):
            self.fields[day] += state
            return
        missing = np.isnan(state)
        if self.missing is None:
            self.missing = np.zeros(self.fields.shape, np.uint16)
        self.missing[day] += missing
        self.fields[day] += np.where(missing, 0, state)

    def smooth(self, out: np.ndarray) -> None:
        """Write the weighted means (day, ...), some points at a time."""
        weights = window_weights()
        flat, result = self.fields.reshape(DAYS, -1), out.reshape(DAYS, -1)
        for start in range(0, flat.shape[1], _COLUMNS):
            columns = slice(start, start + _COLUMNS)
            counts = self.counts[:, None]
            if self.missing is not None:
                counts = counts - self.missing.reshape(DAYS, -1)[:, columns]
            total, norm = weights @ flat[:, columns], weights @ counts
            unknown = np.full_like(total, np.nan)
            result[:, columns] = np.divide(total, norm, out=unknown, where=norm > 0)

    def covered(self) -> np.ndarray:
        """Days of whose window at least half lies between states at most a month apart."""
        days = np.flatnonzero(self.counts)
        known = np.zeros(DAYS, bool)
        known[days] = True
        for first, gap in zip(days, np.diff(days, append=days[:1] + DAYS), strict=True):
            if gap <= _LARGEST_GAP:
                known[(first + np.arange(gap)) % DAYS] = True
        weights = window_weights()
        return weights @ known >= _LEAST_SHARE * weights.sum(axis=1)

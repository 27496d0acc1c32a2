"""Spans of time: the splits of an experiment and subsets of them."""

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Period:
    """A span of time with both ends.

    Args:
        start: ISO date or time, as 2001-01-01.
        end: Likewise; a date includes that whole day.
    """

    start: str
    end: str

    def __post_init__(self) -> None:
        try:
            ordered = self.bounds[0] <= self.bounds[1]
        except ValueError as error:
            raise ValueError(
                f"a period needs ISO dates as 2001-01-31, got {self.start!r} to {self.end!r}"
            ) from error
        if not ordered:
            raise ValueError(f"a period must not end before it starts, got {self}")

    def __str__(self) -> str:
        return f"{self.start} to {self.end}"

    @property
    def bounds(self) -> tuple[np.datetime64, np.datetime64]:
        """First and last time."""
        end = np.datetime64(self.end)
        last = end + np.timedelta64(1, "D") - np.timedelta64(1, "s") if _is_date(end) else end
        return np.datetime64(self.start).astype("datetime64[s]"), last.astype("datetime64[s]")

    def contains(self, times: np.ndarray) -> np.ndarray:
        """Whether each of ``times`` (datetime64) lies in the period."""
        first, last = self.bounds
        return (times >= first) & (times <= last)


@dataclass(frozen=True, kw_only=True)
class SubsetConfig:
    """Some of the windows of a period.

    Args:
        months: Months of the newest input state, as [12, 1, 2] for a season; all where empty.
        years: Years of that state; all where empty.
        stride: Every how many states a window starts.
    """

    months: list[int] = field(default_factory=list)
    years: list[int] = field(default_factory=list)
    stride: int = 1

    def __post_init__(self) -> None:
        wrong = [month for month in self.months if not 1 <= month <= 12]
        if wrong or self.stride < 1:
            raise ValueError(
                "data.subset needs months of 1 to 12 and a stride of at least 1, got "
                f"{self.months} and {self.stride}"
            )

    def contains(self, times: np.ndarray) -> np.ndarray:
        """Whether each of ``times`` (datetime64) is in the months and years."""
        months = times.astype("datetime64[M]").astype(int) % 12 + 1
        years = times.astype("datetime64[Y]").astype(int) + 1970
        in_months = np.isin(months, self.months) if self.months else np.ones(len(times), bool)
        return in_months & (np.isin(years, self.years) if self.years else True)


def _is_date(value: np.datetime64) -> bool:
    return np.datetime_data(value.dtype)[0] in ("Y", "M", "D")

"""Spans of time: the splits of an experiment and subsets of them."""

from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
from annotated_types import Interval

from data_pipeline.bounds import Count, check_bounds


@dataclass(frozen=True, kw_only=True)
class Period:
    """A span of time with both ends.

    Args:
        start: ISO date or time, such as 2001-01-01.
        end: Likewise; a date includes all of that day.
    """

    start: str
    end: str

    def __post_init__(self) -> None:
        try:
            ordered = self.bounds[0] <= self.bounds[1]
        except ValueError as error:
            raise ValueError(
                f"a period needs ISO dates such as 2001-01-31, got {self.start!r} to {self.end!r}"
            ) from error
        if not ordered:
            raise ValueError(f"a period must not end before it starts, got {self}")

    def __str__(self) -> str:
        return f"{self.start} to {self.end}"

    @property
    def bounds(self) -> tuple[np.datetime64, np.datetime64]:
        """First and last time."""
        last = np.datetime64(self.end)
        if np.datetime_data(last.dtype)[0] in ("Y", "M", "D"):
            last = last + np.timedelta64(1, "D") - np.timedelta64(1, "s")
        return np.datetime64(self.start).astype("datetime64[s]"), last.astype("datetime64[s]")

    def contains(self, times: np.ndarray) -> np.ndarray:
        """Mask of the times (datetime64) in the period."""
        first, last = self.bounds
        return (times >= first) & (times <= last)


@dataclass(frozen=True, kw_only=True)
class SubsetConfig:
    """Selection of the windows of a period.

    Args:
        months: Months of the newest input state, [12, 1, 2] for a season; all if empty.
        years: Years of that state; all if empty.
        stride: States from the start of a window to that of the next.
    """

    months: list[Annotated[int, Interval(ge=1, le=12)]] = field(default_factory=list)
    years: list[Annotated[int, Interval(ge=1, le=9999)]] = field(default_factory=list)
    stride: Count = 1

    def __post_init__(self) -> None:
        check_bounds(self, "data.subset")

    def contains(self, times: np.ndarray) -> np.ndarray:
        """Mask of the times (datetime64) in the months and years."""
        months = times.astype("datetime64[M]").astype(int) % 12 + 1
        years = times.astype("datetime64[Y]").astype(int) + 1970
        in_months = np.isin(months, self.months) if self.months else np.ones(len(times), bool)
        return in_months & (np.isin(years, self.years) if self.years else True)

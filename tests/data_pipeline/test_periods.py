"""Periods include both ends; subsets select by month and year."""

import numpy as np
import pytest

from data_pipeline.periods import Period, SubsetConfig

HOURS = np.datetime64("2000-12-30", "ns") + np.arange(24 * 500) * np.timedelta64(1, "h")


@pytest.mark.parametrize(
    ("start", "end", "first", "last"),
    [
        ("2001-01-01", "2001-01-02", "2001-01-01T00", "2001-01-02T23"),
        ("2001-01-01T06", "2001-01-02T12", "2001-01-01T06", "2001-01-02T12"),
        ("2001-02-28", "2001-02-28", "2001-02-28T00", "2001-02-28T23"),
    ],
)
def test_a_date_includes_its_day_and_a_time_itself(
    start: str, end: str, first: str, last: str
) -> None:
    inside = HOURS[Period(start=start, end=end).contains(HOURS)].astype("datetime64[h]")
    assert [str(inside[0]), str(inside[-1])] == [first, last]


def test_wrong_periods_are_rejected() -> None:
    with pytest.raises(ValueError, match="must not end before it starts"):
        Period(start="2001-01-02", end="2001-01-01")
    with pytest.raises(ValueError, match="yesterday"):
        Period(start="yesterday", end="2001-01-01")


def test_subsets_select_months_and_years() -> None:
    winter = SubsetConfig(months=[12, 1], years=[2001])
    months = np.unique(HOURS[winter.contains(HOURS)].astype("datetime64[M]"))
    assert months.astype(str).tolist() == ["2001-01", "2001-12"]
    assert SubsetConfig().contains(HOURS).all()


@pytest.mark.parametrize("change", [{"months": [0]}, {"months": [13]}, {"stride": 0}])
def test_wrong_subsets_are_rejected_by_name(change: dict) -> None:
    with pytest.raises(ValueError, match=rf"data\.subset\.{next(iter(change))}"):
        SubsetConfig(**change)

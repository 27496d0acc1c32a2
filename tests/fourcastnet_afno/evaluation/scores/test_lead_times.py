"""Lead times that tables show: the first, the last and round ones between."""

from itertools import product

import numpy as np
import pytest
import xarray as xr

from data_pipeline.timestep import lead_coordinate
from data_pipeline.trajectory_times import TrajectoryTimes
from fourcastnet_afno.evaluation.scores.lead_times import LeadTimes

HOUR = np.timedelta64(1, "h").astype("timedelta64[ns]")


def hours(first: float, step: float, count: int) -> np.ndarray:
    seconds = 3600 * (first + step * np.arange(count))
    return seconds.round().astype(int).astype("timedelta64[s]").astype("timedelta64[ns]")


def shown(lead_times: np.ndarray, **options: int) -> list[str]:
    leads = LeadTimes(lead_times)
    return [leads.labels[index] for index in leads.selected(**options)]


@pytest.mark.parametrize("most", [2, 3, 4, 7, 20])
def test_first_and_last_are_always_among_the_few(most: int) -> None:
    steps, firsts = (1 / 3600, 1 / 12, 0.5, 1, 5, 6, 7, 12, 24, 36, 730), (0, 1, 3)
    for step, first_step, count in product(steps, firsts, (1, 2, 3, 8, 12, 40, 241)):
        chosen = LeadTimes(hours(first_step * step, step, count)).selected(most)
        assert chosen == sorted(set(chosen))
        assert {0, count - 1} <= set(chosen) <= set(range(count))
        assert len(chosen) == min(count, most) or (count > most and 4 <= len(chosen) <= most)


def test_whole_days_come_before_hours_and_hours_before_minutes() -> None:
    assert shown(hours(6, 6, 40)) == [
        "6 h", "24 h", "2 days", "3 days", "5 days", "7 days", "10 days",
    ]  # fmt: skip
    assert shown(hours(6, 6, 60), most=5) == ["6 h", "2 days", "5 days", "10 days", "15 days"]
    assert shown(hours(6, 6, 8)) == ["6 h", "12 h", "18 h", "24 h", "36 h", "42 h", "2 days"]
    assert shown(hours(1, 1, 48)) == ["1 h", "2 h", "6 h", "12 h", "24 h", "36 h", "2 days"]
    assert shown(hours(1 / 12, 1 / 12, 24)) == [
        "5 min", "10 min", "15 min", "30 min", "45 min", "1 h", "2 h",
    ]  # fmt: skip


def test_few_lead_times_are_all_shown() -> None:
    """Of months, of 12, 24 and 36 hours, and shorter than an hour."""
    assert shown(hours(12, 12, 3)) == ["12 h", "24 h", "36 h"]
    assert shown(hours(0.25, 0.25, 3)) == ["15 min", "30 min", "45 min"]
    days = np.cumsum([31, 28, 31, 30, 31, 30]) * 24 * HOUR
    assert shown(days) == ["31 days", "59 days", "90 days", "120 days", "151 days", "181 days"]


def test_lead_times_without_round_ones_are_shown_by_their_number() -> None:
    assert LeadTimes(hours(7, 7, 12)).selected(most=4) == [0, 2, 6, 11]
    assert LeadTimes(hours(1 / 3600, 1 / 3600, 40)).selected() == [0, 1, 2, 6, 9, 19, 39]


def test_hours_are_not_rounded() -> None:
    leads = LeadTimes(hours(0.5, 1, 2))
    assert leads.labels == ["30 min", "90 min"]
    numbers, unit = leads.numbers
    assert (numbers.tolist(), unit) == ([0.5, 1.5], "hours")


def test_axes_have_fitting_units() -> None:
    def axis(lead_times: np.ndarray) -> tuple[list[float], str]:
        coordinate = lead_coordinate(lead_times)
        numbers, label = LeadTimes.of(xr.Dataset(coords={"lead_time": coordinate})).axis
        return numbers.tolist(), label

    assert axis(hours(12, 12, 3)) == ([0.5, 1, 1.5], "lead time [days]")
    assert axis(hours(0.5, 0.5, 2)) == ([0.5, 1], "lead time [hours]")
    months = np.arange(1, 4).astype("timedelta64[M]")
    assert axis(months) == ([1, 2, 3], "lead time [months]")


def test_months_are_selected_by_round_numbers() -> None:
    months = np.arange(1, 25).astype("timedelta64[M]")
    assert shown(months) == [
        "1 month", "2 months", "3 months", "9 months", "12 months", "18 months", "24 months",
    ]  # fmt: skip
    assert LeadTimes(months).selected_for_maps(2) == [0, 23]


def test_maps_have_the_first_lead_time_and_full_days_where_there_are_any() -> None:
    def mapped(lead_times: np.ndarray) -> list[str]:
        leads = LeadTimes(lead_times)
        return [leads.labels[index] for index in leads.selected_for_maps(4)]

    assert mapped(hours(6, 6, 4)) == ["6 h", "24 h"]
    assert mapped(hours(6, 6, 40)) == ["6 h", "2 days", "5 days", "10 days"]
    assert mapped(hours(12, 12, 3)) == ["12 h", "24 h"]
    assert mapped(hours(12, 12, 1)) == ["12 h"]
    assert mapped(hours(1, 1, 5)) == ["1 h", "2 h", "3 h", "5 h"]


def test_trajectories_have_steps_and_round_ones_of_them() -> None:
    attrs = TrajectoryTimes(step=0.25, num_states=61).attrs
    leads = LeadTimes.of(xr.Dataset(coords={"lead_time": hours(1, 1, 60)}, attrs=attrs))
    assert [leads.labels[index] for index in leads.selected(5)] == [
        "1 step", "3 steps", "10 steps", "30 steps", "60 steps",
    ]  # fmt: skip
    assert [leads.labels[index] for index in leads.selected_for_maps(3)] == [
        "1 step", "10 steps", "50 steps",
    ]  # fmt: skip
    assert leads.numbers[0].tolist() == list(range(1, 61))
    assert leads.numbers[1] == "steps"
    assert leads.axis[1] == "lead time [steps of 0.25]"

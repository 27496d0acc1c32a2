"""Checks of prepare: each is an error with a code of its own."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data_pipeline.channels import Channels
from data_pipeline.periods import Period
from data_pipeline.preparation.checks import (
    check_dims,
    check_free_space,
    check_gaps,
    describe_uncovered,
    find_gaps,
    select_times,
)
from data_pipeline.preparation.config import DataConfig
from data_pipeline.timestep import Timestep
from data_pipeline.trajectory_times import TrajectoryTimes
from tests.builders.errors import rejects
from tests.builders.experiments import make_data_config, make_dataset

DAYS = np.datetime64("2001-01-01", "ns") + np.arange(120) * np.timedelta64(1, "D")

DAY = Timestep.parse("1D")
SPRING = Period(start="2004-02-25", end="2004-03-04")


def test_every_timestep_in_the_periods_is_selected() -> None:
    config = make_data_config(Path("data.nc"), timestep_hours=48)
    indices = select_times(DAYS, config)
    assert (indices % 2 == 0).all()
    assert config.contains(DAYS[indices]).all()
    assert len(indices) == config.contains(DAYS[::2]).sum()


@pytest.mark.parametrize(
    ("times", "code", "named"),
    [
        (DAYS[:0], "no-times", "data.train"),
        (DAYS[:70], "no-times", "data.test"),
        (DAYS[::2], "timestep-mismatch", "data.timestep=2D"),
        (np.delete(DAYS, [10, 11]), "gap-in-time", "2 states in 1 gaps"),
    ],
)
def test_times_that_do_not_suit_are_rejected(times: np.ndarray, code: str, named: str) -> None:
    with rejects(code, named):
        select_times(times, make_data_config(Path("data.nc")))


def test_gaps_may_be_allowed() -> None:
    config = make_data_config(Path("data.nc"), allow_gaps=True)
    assert (
        len(select_times(np.delete(DAYS, [10, 11]), config)) == len(select_times(DAYS, config)) - 2
    )


def test_a_gap_at_the_end_of_a_period_is_a_gap() -> None:
    config = make_data_config(Path("data.nc"))
    first, last = (np.flatnonzero(config.validation.contains(DAYS))[[0, -1]]).tolist()
    for lacking in ([first, first + 1], [last - 1, last], [last]):
        with rejects("gap-in-time", "data.validation", f"{len(lacking)} states in 1 gaps"):
            select_times(np.delete(DAYS, lacking), config)


def test_what_lies_between_periods_may_lack() -> None:
    config = make_data_config(
        Path("data.nc"), validation=Period(start="2001-03-06", end="2001-03-20")
    )
    outside = np.flatnonzero(~config.contains(DAYS))
    assert len(outside) == 4
    assert len(select_times(np.delete(DAYS, outside), config)) == len(DAYS) - 4


def test_periods_that_the_data_does_not_cover_are_described() -> None:
    config = make_data_config(Path("data.nc"))
    assert describe_uncovered(DAYS, config, DAY) == []
    trajectories = replace(DAY, trajectories=TrajectoryTimes(num_states=2))
    assert describe_uncovered(DAYS[1:-2], config, trajectories) == []
    late, early = describe_uncovered(DAYS[1:-2], config, DAY)
    for remark, named in (
        (late, ("data.train", "2001-01-02")),
        (early, ("data.test", "2001-04-28")),
    ):
        assert all(name in remark for name in named)


def test_missing_leap_days_have_a_code_of_their_own() -> None:
    leap = np.arange("2004-02-25", "2004-03-05", dtype="datetime64[D]").astype("datetime64[ns]")
    without = leap[leap.astype("datetime64[D]") != np.datetime64("2004-02-29")]
    assert find_gaps(without, DAY) == [(without[3], without[4])]
    check_gaps(leap, DAY, "train", SPRING)
    with rejects("no-leap-day", "data.train"):
        check_gaps(without, DAY, "train", SPRING)
    with rejects("gap-in-time", "data.train"):
        check_gaps(np.delete(leap, 2), DAY, "train", SPRING)


def _config(times: np.ndarray, **changes: object) -> DataConfig:
    """A configuration whose periods are the thirds of some times."""
    ends = np.array_split(np.datetime_as_string(times, "s"), 3)
    names = ("train", "validation", "test")
    periods = {
        name: Period(start=part[0], end=part[-1]) for name, part in zip(names, ends, strict=True)
    }
    return make_data_config(Path("data.nc"), timestep_hours=None, **(periods | changes))


MONTHS = np.arange("2001-01", "2006-01", dtype="datetime64[M]").astype("datetime64[ns]")


def test_months_are_consecutive() -> None:
    config = _config(MONTHS, timestep="1MS")
    assert len(select_times(MONTHS, config)) == 60
    middles = MONTHS + (np.append(MONTHS[1:], np.datetime64("2006-01", "ns")) - MONTHS) / 2
    assert len(select_times(middles, _config(middles, timestep="1MS"))) == 60
    with rejects("gap-in-time", "1 states in 1 gaps", "2001-05-01", "1 month"):
        select_times(np.delete(MONTHS, 5), config)


@pytest.mark.parametrize("timestep", ["30D", "744h", "1D"])
def test_months_are_no_duration(timestep: str) -> None:
    with rejects("timestep-mismatch", "every 1 month", "data.timestep=1MS"):
        select_times(MONTHS, _config(MONTHS, timestep=timestep))


def test_the_step_of_the_data_is_named_before_it_is_thinned() -> None:
    hours = np.datetime64("2001-01-01", "ns") + np.arange(300) * np.timedelta64(7, "h")
    assert len(select_times(hours, _config(hours, timestep="7h"))) == 300
    with rejects("timestep-mismatch", "every 7 h", "data.timestep=7h"):
        select_times(hours, _config(hours, timestep="6h"))


def test_a_calendar_without_leap_days_has_no_gap_there() -> None:
    days = np.arange("2003-06-01", "2006-01-01", dtype="datetime64[D]").astype("datetime64[ns]")
    days = days[days != np.datetime64("2004-02-29")]
    config = _config(days, timestep="1D")
    with rejects("no-leap-day", "data.train"):
        select_times(days, config)
    assert len(select_times(days, config, "noleap")) == len(days)
    five = select_times(days, replace(config, timestep="5D", timestep_hours=None), "noleap")
    assert np.array_equal(five, np.arange(0, len(days), 5))  # across the leap day, too


def test_dates_that_have_no_name_are_gaps() -> None:
    """Of 30 days in February the standard calendar has 28."""
    days = np.arange("2003-01-01", "2003-09-01", dtype="datetime64[D]").astype("datetime64[ns]")
    days = days[(days.astype("datetime64[D]") - days.astype("datetime64[M]")).astype(int) < 30]
    config = _config(days, timestep="1D")
    with rejects("gap-in-time", "2 dates", "360_day", "2003-02-28"):
        select_times(days, config, "360_day")


def test_other_axes_are_rejected_by_name() -> None:
    dataset = make_dataset()
    channels = Channels.from_dataset(dataset, ["2m_temperature"])
    check_dims(dataset, channels)
    with rejects("wrong-dimensions", "2m_temperature", "member"):
        check_dims(dataset.expand_dims(member=2), channels)
    with rejects("wrong-dimensions", "height"):
        check_dims(dataset, Channels.from_dataset(dataset, ["height"]))


def test_bytes_that_were_written_count_as_free(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    check_free_space(store, 1)
    with rejects("disk-full", "data.store"):
        check_free_space(store, 2**60)


def test_periods_include_their_last_day() -> None:
    config = make_data_config(
        Path("data.nc"), test=Period(start="2001-03-21", end="2001-04-30"), timestep_hours=24
    )
    assert DAYS[select_times(DAYS, config)][-1] == np.datetime64("2001-04-30")

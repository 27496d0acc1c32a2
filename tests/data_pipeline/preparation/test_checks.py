"""Checks of prepare: each is an error with a code of its own."""

from pathlib import Path

import numpy as np
import pytest

from data_pipeline.channels import Channels
from data_pipeline.periods import Period
from data_pipeline.preparation.checks import (
    check_dims,
    check_free_space,
    check_gaps,
    find_gaps,
    select_times,
)
from data_pipeline.timestep import Timestep
from tests.builders.errors import rejects
from tests.builders.experiments import make_data_config, make_dataset

DAYS = np.datetime64("2001-01-01", "ns") + np.arange(120) * np.timedelta64(1, "D")

DAY = Timestep.parse("1D")


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


def test_missing_leap_days_have_a_code_of_their_own() -> None:
    leap = np.arange("2004-02-25", "2004-03-05", dtype="datetime64[D]").astype("datetime64[ns]")
    without = leap[leap.astype("datetime64[D]") != np.datetime64("2004-02-29")]
    assert find_gaps(without, DAY) == [(without[3], without[4])]
    check_gaps(leap, DAY, "train")
    with rejects("no-leap-day", "data.train"):
        check_gaps(without, DAY, "train")
    with rejects("gap-in-time", "data.train"):
        check_gaps(np.delete(leap, 2), DAY, "train")


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

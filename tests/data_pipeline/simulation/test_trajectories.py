import numpy as np
import pytest

from data_pipeline.simulation.trajectories import Splits, trajectory_start_times
from tests.builders.errors import rejects


@pytest.mark.parametrize("num_states", [2, 23, 24, 50])
def test_each_trajectory_starts_a_day_and_a_gap_follows(num_states: int) -> None:
    times = trajectory_start_times(Splits(train=3, validation=2, test=1), num_states)
    assert times.dtype == np.dtype("datetime64[ns]")
    assert times.shape == (6, num_states)
    assert (times[:, 0] == times[:, 0].astype("datetime64[D]")).all()
    assert (np.diff(times, axis=1) == np.timedelta64(1, "h")).all()
    assert (times[1:, 0] - times[:-1, -1] > np.timedelta64(1, "h")).all()
    years = times[:, 0].astype("datetime64[Y]").astype(int) + 1970
    assert years.tolist() == [2001, 2001, 2001, 2101, 2101, 2201]


def test_splits_end_with_their_years() -> None:
    days = [36524, 36524, 22280]  # 2001-2100, 2101-2200 and 2201-2261 by the calendar
    times = trajectory_start_times(Splits(train=days[0], validation=days[1], test=days[2]), 2)
    ends = times[np.cumsum(days) - 1, 0].astype("datetime64[D]").astype(str)
    assert ends.tolist() == ["2100-12-31", "2200-12-31", "2261-12-31"]
    with rejects("too-many-trajectories", "22281", "test"):
        trajectory_start_times(Splits(test=days[2] + 1), 2)


@pytest.mark.parametrize("counts", [(0, 0, 0), (-1, 2, 2)])
def test_negative_and_no_counts_are_rejected(counts: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="trajectories"):
        Splits(train=counts[0], validation=counts[1], test=counts[2])

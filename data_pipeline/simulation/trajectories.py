"""Trajectories of simulations and benchmarks, one after the other on a time axis.

One saved step is called one hour. Each trajectory starts at hour 0 of a day, and at least one hour
is missing before the next one, so that no window goes from one to another. Training trajectories
start in the years 2001 to 2100, those for validation in 2101 to 2200, those for the test in 2201 to
2261: the ends of the axis are those of datetime64[ns].
"""

from dataclasses import asdict, dataclass

import numpy as np

from data_pipeline.bounds import CountOrZero, check_bounds
from data_pipeline.errors import InputError
from data_pipeline.trajectory_times import SAVED_STEP, SPANS, TrajectoryTimes


@dataclass(frozen=True, kw_only=True)
class Splits:
    """Numbers of trajectories by purpose.

    Args:
        train: For training.
        validation: For validation.
        test: For the scores.
    """

    train: CountOrZero = 0
    validation: CountOrZero = 0
    test: CountOrZero = 0

    def __post_init__(self) -> None:
        check_bounds(self, "trajectories")
        if not self.total:
            raise ValueError("the counts of trajectories must not all be 0")

    @property
    def counts(self) -> dict[str, int]:
        """Number of trajectories by split."""
        return asdict(self)

    @property
    def total(self) -> int:
        """Number of all trajectories."""
        return sum(self.counts.values())


def trajectory_start_times(splits: Splits, num_states: int) -> np.ndarray:
    """Times of all states, datetime64[ns] (trajectory, state): training, validation, test.

    Raises:
        InputError: If the years of a split are too short for its trajectories.
    """
    days, starts = TrajectoryTimes(num_states=num_states).num_days, []
    for name, count in splits.counts.items():
        first, end = (np.datetime64(date, "D") for date in SPANS[name])
        most = int((end - first).astype(int)) // days
        if count > most:
            raise InputError(
                f"{first} to {end} hold {most} trajectories for {name} of {days} days (an hour a "
                f"state, and a gap), got {count}; take fewer or shorter ones",
                code="too-many-trajectories",
            )
        starts.append(first + np.arange(count) * np.timedelta64(days, "D"))
    steps = np.arange(num_states) * SAVED_STEP
    return (np.concatenate(starts)[:, None] + steps).astype("datetime64[ns]")

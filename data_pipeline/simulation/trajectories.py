"""Trajectories of simulations and benchmarks, one after the other on a time axis.

One saved step is called one hour. Each trajectory starts at hour 0 of a day, and at least one hour
is missing before the next one, so that no window goes from one to another. Training trajectories
start in the years 2001 to 2100, those for validation in 2101 to 2200, those for the test in 2201 to
2261: the ends of the axis are those of datetime64[ns].
"""

from dataclasses import asdict, dataclass

import numpy as np

from data_pipeline.errors import InputError

_DAY_HOURS = 24
SPANS = {  # from a day on, and before a day
    "train": ("2001-01-01", "2101-01-01"),
    "validation": ("2101-01-01", "2201-01-01"),
    "test": ("2201-01-01", "2262-01-01"),
}


@dataclass(frozen=True, kw_only=True)
class Splits:
    """How many trajectories serve what.

    Args:
        train: For training.
        validation: For validation.
        test: For the scores.
    """

    train: int = 0
    validation: int = 0
    test: int = 0

    def __post_init__(self) -> None:
        if min(self.counts.values()) < 0 or not self.total:
            raise ValueError(
                f"the counts of trajectories must not be negative nor all 0, got {self.counts}"
            )

    @property
    def counts(self) -> dict[str, int]:
        """By split."""
        return asdict(self)

    @property
    def total(self) -> int:
        """All trajectories."""
        return sum(self.counts.values())


def trajectory_start_times(splits: Splits, num_states: int) -> np.ndarray:
    """Times of all states.

    Args:
        splits: Counts of trajectories.
        num_states: States of a trajectory.

    Returns:
        datetime64[ns] of shape (trajectory, state): training first, then validation, then test.

    Raises:
        InputError: If the years of a split are too short for its trajectories.
    """
    days = num_states // _DAY_HOURS + 1
    starts = [_starts(name, count, days) for name, count in splits.counts.items()]
    steps = np.arange(num_states) * np.timedelta64(1, "h")
    return (np.concatenate(starts)[:, None] + steps).astype("datetime64[ns]")


def _starts(name: str, count: int, days: int) -> np.ndarray:
    first, end = (np.datetime64(date, "D") for date in SPANS[name])
    room = int((end - first).astype(int)) // days
    if count > room:
        raise InputError(
            f"{count} trajectories for {name} of {days} days (an hour a state, and a gap) do not "
            f"fit into {first} to {end}, which have room for {room}; take fewer or shorter ones",
            code="too-many-trajectories",
        )
    return first + np.arange(count) * np.timedelta64(days, "D")

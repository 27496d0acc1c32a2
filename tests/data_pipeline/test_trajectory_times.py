"""Times of trajectories in the equation's own words."""

import numpy as np
import pytest

from data_pipeline.simulation.trajectories import Splits, trajectory_start_times
from data_pipeline.trajectory_times import TrajectoryTimes
from tests.builders.errors import rejects


@pytest.mark.parametrize("num_states", [2, 23, 24, 50])
def test_every_state_is_named_by_its_trajectory_and_its_step(num_states: int) -> None:
    times = trajectory_start_times(Splits(train=2, validation=1, test=3), num_states)
    names = ["training trajectory 0", "training trajectory 1", "validation trajectory 0"]
    names += [f"test trajectory {number}" for number in range(3)]
    found = [
        [TrajectoryTimes(num_states=num_states).time_label(time) for time in series]
        for series in times
    ]
    assert found == [[f"{name}, step {step}" for step in range(num_states)] for name in names]


@pytest.mark.parametrize("date", ["2001-01-01T13", "2000-12-31T23", "2262-01-01T00", "NaT"])
def test_a_time_that_is_of_no_trajectory_has_no_name(date: str) -> None:
    assert TrajectoryTimes(num_states=13).time_label(np.datetime64(date, "ns")) is None


def test_two_times_are_of_one_trajectory_or_of_two() -> None:
    times = TrajectoryTimes(num_states=30)
    first, later, next_one = np.array(
        ["2201-01-01T00", "2201-01-02T05", "2201-01-03T00"], "datetime64[ns]"
    )
    assert not times.separate(first, later)
    assert times.separate(later, next_one)
    assert not times.separate(later, np.datetime64("2201-01-02T06", "ns"))  # of none


def test_lead_times_are_steps() -> None:
    times = TrajectoryTimes(step=0.05, num_states=21)
    hours = np.array([1, 20, 1000]) * np.timedelta64(3600 * 10**9, "ns")
    assert [times.lead_label(lead) for lead in hours] == ["1 step", "20 steps", "1000 steps"]
    assert times.step_label == "steps of 0.05"
    assert TrajectoryTimes(step=0.05, num_states=21, units="s").step_label == "steps of 0.05 s"
    assert TrajectoryTimes(num_states=2).step_label == "steps"


@pytest.mark.parametrize("units", ["", "s"])
def test_attributes_hold_all_of_it(units: str) -> None:
    times = TrajectoryTimes(step=0.25, num_states=21, units=units)
    assert TrajectoryTimes.of({"title": "waves", **times.attrs}) == times
    stored = {k: v if isinstance(v, str) else np.asarray(v)[()] for k, v in times.attrs.items()}
    assert TrajectoryTimes.of(stored) == times  # as NetCDF has them


def test_data_without_trajectories_is_dated() -> None:
    assert TrajectoryTimes.of({"time_step": "6 hours", "time_units": "days"}) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("trajectory_states", "many"),
        ("trajectory_states", 0),
        ("time_step", -1.0),
        ("time_step", float("nan")),
        ("time_step", "0.1"),
        ("time_units", 3),
    ],
)
def test_attributes_that_make_no_sense_are_rejected(name: str, value: object) -> None:
    attrs = TrajectoryTimes(step=0.25, num_states=21, units="s").attrs
    with rejects("bad-record", name, str(value)):
        TrajectoryTimes.of({**attrs, name: value})

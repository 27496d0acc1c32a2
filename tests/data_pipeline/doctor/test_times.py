"""Faults of the times, and periods that do not suit the times, are found and placed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data_pipeline.doctor.times import PeriodNeeds, check_times, describe_times
from data_pipeline.periods import Period
from data_pipeline.timestep import Timestep
from data_pipeline.trajectory_times import TrajectoryTimes
from tests.builders.earth import EARTH, examine_at, make_earth, make_earth_config, only, serious
from tests.builders.faults import Fault, check_fault, examine_data
from tests.builders.planes import make_plane_config, trajectory_times

FAULTS = {
    "gap": Fault(
        lambda d: d.drop_isel(time=[20, 21, 300]),
        "time-gap",
        "error",
        ["3 states", "2 gaps", "data.train, 2003-01-20T00:00", "allow_gaps"],
    ),
    "leap day": Fault(
        lambda d: d.sel(time=d["time"] != np.datetime64("2004-02-29")),
        "time-leap-day",
        "error",
        ["1 leap days", "data.train, 2004-02-28T00:00", "allow_gaps"],
    ),
    "irregular": Fault(
        lambda d: d.assign_coords(
            time=np.where(np.arange(731) == 20, d["time"] + np.timedelta64(3, "h"), d["time"])
        ),
        "time-irregular",
        "error",
        ["1 of 731", "2003-01-21T03:00"],
    ),
    "short": Fault(
        lambda d: d.isel(time=slice(0, 640)), "prepare", "error", ["data.test", "holds 1 states"]
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_found_and_nothing_else(name: str, tmp_path: Path) -> None:
    check_fault(FAULTS[name], tmp_path)


def test_hours_of_day_that_training_lacks(tmp_path: Path) -> None:
    data = make_earth(60, 6)[["2m_temperature"]]
    training = data["time"] < np.datetime64("2003-02-01")
    config = make_earth_config(
        tmp_path / "data.nc",
        timestep_hours=6,
        climatology_harmonics=0,
        allow_gaps=True,
        prognostic=["2m_temperature"],
        static=[],
        train=Period(start="2003-01-01", end="2003-01-31"),
        validation=Period(start="2003-02-02", end="2003-02-10"),
        test=Period(start="2003-02-12", end="2003-02-28"),
    )
    assert serious(examine_data(data, tmp_path, config)) == []
    mornings = data.sel(time=~training | (data["time"].dt.hour < 12))
    findings = serious(examine_data(mornings, tmp_path, config))
    assert [finding.check for finding in findings] == ["time-hours", "time-hours"]
    assert "[12, 18]" in findings[0].what
    assert [finding.where for finding in findings] == ["data.validation", "data.test"]


def test_borders_and_overlaps_are_worth_knowing(earth_file: Path, tmp_path: Path) -> None:
    config = make_earth_config(earth_file, validation=Period(start="2004-07-01", end="2004-09-20"))
    horizons = PeriodNeeds(forecast_steps=5, interval_hours=48)
    examination = examine_at(config, tmp_path / "data.zarr", horizons)
    checks = {finding.check: finding for finding in examination.report.findings}
    assert {"split-adjacent", "forecast-overlap"} <= set(checks)
    assert "starts 24 h after" in checks["split-adjacent"].what
    assert "data.validation" in checks["split-adjacent"].where
    assert "up to 3 forecasts" in checks["forecast-overlap"].what


def test_a_source_without_times_for_the_periods(tmp_path: Path) -> None:
    finding = only(
        examine_data(EARTH.assign_coords(time=EARTH["time"] + np.timedelta64(9131, "D")), tmp_path)
    )
    assert finding.check == "prepare"
    assert "no time" in finding.what or "holds 0 states" in finding.what


def test_what_lies_between_trajectories_is_no_gap() -> None:
    config = make_plane_config(Path("data.nc"), ["tracer"])
    times = trajectory_times((3, 2, 2), 8)
    step = replace(Timestep.of_hours(1), trajectories=TrajectoryTimes(step=0.5, num_states=8))
    assert check_times(times.ravel(), times.ravel(), config, step) == []
    facts = describe_times(times.ravel(), config, step)
    assert facts["trajectories"] == {"time_step": 0.5, "trajectory_states": 8}
    lacking = np.delete(times.ravel(), 2)  # of the first trajectory
    (gap,) = check_times(lacking, lacking, config, step)
    assert (gap.check, gap.severity) == ("time-gap", "info")

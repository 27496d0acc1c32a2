"""Running totals, and sums over another period than the timestep, are found."""

from dataclasses import replace
from pathlib import Path

import pytest
import xarray as xr

from data_pipeline.doctor.examination import Examination
from data_pipeline.periods import Period
from tests.builders.earth import (
    EARTH_GRID,
    make_earth,
    make_earth_config,
    only,
    serious,
)
from tests.builders.faults import Change, examine_data

RUN = {
    "climatology_harmonics": 0,
    "prognostic": ["2m_temperature", "total_precipitation"],
    "train": Period(start="2003-01-01", end="2003-01-20"),
    "validation": Period(start="2003-01-22", end="2003-01-25"),
    "test": Period(start="2003-01-27", end="2003-01-30"),
}


def hourly(
    tmp_path: Path, timestep_hours: int, change: Change = lambda d: d, **changes: object
) -> Examination:
    data = change(make_earth(30, 1)[["2m_temperature", "total_precipitation"]])
    config = make_earth_config(
        tmp_path / "data.nc", timestep_hours=timestep_hours, static=[], **(RUN | changes)
    )
    return examine_data(data, tmp_path, config)


def running_total(data: xr.Dataset) -> xr.Dataset:
    rain = data["total_precipitation"]
    total = rain.groupby("time.dayofyear").cumsum().assign_attrs(rain.attrs)
    return data.assign(total_precipitation=total.transpose(*rain.dims))


def test_hourly_sums_at_an_hourly_timestep_are_clean(tmp_path: Path) -> None:
    assert serious(hourly(tmp_path, 1)) == []


def test_running_totals_are_found(tmp_path: Path) -> None:
    finding = only(hourly(tmp_path, 1, running_total))
    assert (finding.check, finding.severity) == ("accumulated", "error")
    assert "starts again about every 24 h" in finding.what
    assert "total_precipitation" in finding.where
    assert "differences" in finding.remedy


def test_hourly_sums_need_a_rule_for_a_longer_timestep(tmp_path: Path) -> None:
    finding = only(hourly(tmp_path, 6))
    assert (finding.check, finding.where) == ("prepare", "data.accumulate")
    assert "accumulated over 1 h each" in finding.what
    assert "data.accumulate={total_precipitation: sum}" in finding.remedy


def test_accumulated_sums_are_clean_and_running_totals_still_found(tmp_path: Path) -> None:
    """The running totals lie between the states, so that the source tells them."""
    rules = {"total_precipitation": "sum"}
    examination = hourly(tmp_path, 6, accumulate=rules)
    assert serious(examination) == []
    hours = examination.report.facts["variables"]["total_precipitation"]["mean"]
    mean = float((EARTH_GRID.area_weights() * make_earth(30, 1)["total_precipitation"]).mean())
    assert hours == pytest.approx(6 * mean, rel=0.05)
    finding = only(hourly(tmp_path, 6, running_total, accumulate=rules))
    assert (finding.check, finding.severity) == ("accumulated", "error")


def test_sums_that_no_check_rejects_are_found(tmp_path: Path) -> None:
    config = make_earth_config(
        tmp_path / "data.nc", timestep_hours=6, static=[], **(RUN | {"prognostic": ["runoff"]})
    )
    data = make_earth(30, 1)[["total_precipitation"]].rename(total_precipitation="runoff")
    finding = only(examine_data(data, tmp_path, config))
    assert (finding.check, finding.where) == ("accumulation-period", "runoff")
    assert "sums of 1 h are taken every 6 h" in finding.what
    assert "data.accumulate={runoff: sum}" in finding.remedy
    summed = replace(config, accumulate={"runoff": "sum"})
    assert serious(examine_data(data, tmp_path, summed)) == []


@pytest.mark.parametrize(("timestep_hours", "checks"), [(6, []), (24, ["accumulation-period"])])
def test_sums_of_six_hours_suit_a_timestep_of_six_hours(
    timestep_hours: int, checks: list[str], tmp_path: Path
) -> None:
    data = make_earth(40, 1)[["2m_temperature", "total_precipitation"]]
    settings = RUN | {
        "prognostic": ["2m_temperature", "total_precipitation_6hr"],
        "train": Period(start="2003-01-02", end="2003-01-20"),  # the first sums are incomplete
    }
    config = make_earth_config(
        tmp_path / "data.nc", timestep_hours=timestep_hours, static=[], **settings
    )
    assert [f.check for f in serious(examine_data(data, tmp_path, config))] == checks


def test_a_daily_cycle_is_no_running_total(tmp_path: Path) -> None:
    config = make_earth_config(
        tmp_path / "data.nc",
        timestep_hours=1,
        static=[],
        **(RUN | {"prognostic": ["toa_incident_solar_radiation"]}),
    )
    assert serious(examine_data(make_earth(30, 1), tmp_path, config)) == []

"""Clean data has no finding above info; faults that prepare rejects are collected, each alone."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data_pipeline.doctor.times import PeriodNeeds
from data_pipeline.grids.coarsening import GridConfig
from data_pipeline.periods import Period, SubsetConfig
from data_pipeline.preparation.config import DataConfig
from tests.builders.earth import EARTH, EARTH_GRID, examine_at, make_earth_config, serious
from tests.builders.faults import Fault, check_fault, examine_data, full_text, replaced, with_value

FAULTS = {
    "no label": Fault(
        lambda d: d.assign(
            mean_sea_level_pressure=d["mean_sea_level_pressure"].assign_attrs(units="")
        ),
        "prepare",
        "error",
        ["mean_sea_level_pressure", "data.source.units"],
    ),
    "variable": Fault(
        lambda d: d.drop_vars("2m_temperature"), "prepare", "error", ["2m_temperature"]
    ),
    "level": Fault(
        lambda d: d.assign_coords(latitude=d["latitude"] * 1.2),
        "prepare",
        "error",
        ["-90..90", "latitude"],
    ),
    "series": Fault(
        lambda d: d.assign(
            {"2m_temperature": d["2m_temperature"].mean(["latitude", "longitude"], keep_attrs=True)}
        ),
        "prepare",
        "error",
        ["2m_temperature has dimensions ['time']", "data.prognostic, 2m_temperature"],
    ),
    "member": Fault(
        lambda d: d.assign({"2m_temperature": d["2m_temperature"].expand_dims(member=2)}),
        "source",
        "error",
        ["member", "2 members", "data.source.select={member: 0}"],
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_found_and_nothing_else(name: str, tmp_path: Path) -> None:
    check_fault(FAULTS[name], tmp_path)


def test_clean_data_has_no_findings(earth_file: Path, tmp_path: Path) -> None:
    examination = examine_at(make_earth_config(earth_file), tmp_path / "data.zarr")
    assert serious(examination) == []
    facts = examination.report.facts
    assert facts["time"]["periods"]["train"]["num_states"] == 547
    assert facts["grid"]["kind"] == "regular"
    assert facts["grid"]["coverage"] == "global"
    assert facts["sample"]["num_times"] == 64 + 8 + 8
    temperature = facts["variables"]["2m_temperature"]
    area = EARTH_GRID.area_weights()
    assert temperature["mean"] == pytest.approx(
        float((area * EARTH["2m_temperature"].values).mean()), abs=2
    )
    assert examination.num_static == 2
    assert examination.grid == EARTH_GRID


def test_gaps_and_filled_values_that_are_configured_are_worth_knowing(tmp_path: Path) -> None:
    missing = with_value({"latitude": 4, "longitude": 9}, np.nan)
    data = replaced("2m_temperature", missing)(EARTH.drop_isel(time=[20]))
    config = make_earth_config(
        tmp_path / "data.nc", allow_gaps=True, fill={"2m_temperature": "climatology"}
    )
    examination = examine_data(data, tmp_path, config)
    assert serious(examination) == []
    checks = {finding.check: finding for finding in examination.report.findings}
    assert "2m_temperature: 2003-01" in checks["filled"].where
    assert "2003-01-20" in checks["time-gap"].where
    assert examination.num_static == 3  # one says where temperature is missing


def configured(**changes: object) -> Callable[[Path], DataConfig]:
    return lambda path: make_earth_config(path, **changes)


CONFIGURATIONS: dict[str, tuple[Callable[[Path], DataConfig], PeriodNeeds, str, list[str]]] = {
    "fill": (configured(fill={"sst": 0.0}), PeriodNeeds(), "fill", ["sst", "data.fill"]),
    "windows": (
        configured(),
        PeriodNeeds(training_steps=80),
        "split-windows",
        ["81 consecutive", "data.validation", "training.stages.num_steps"],
    ),
    "forecasts": (
        configured(),
        PeriodNeeds(forecast_steps=92),
        "split-windows",
        ["93 consecutive", "data.test", "forecast.num_steps"],
    ),
    "climatology": (
        configured(climatology_harmonics=3, train=Period(start="2003-01-01", end="2003-01-20")),
        PeriodNeeds(),
        "climatology",
        ["data.train", "climatology_harmonics"],
    ),
    "subset": (
        configured(subset=SubsetConfig(months=[6], years=[2004])),
        PeriodNeeds(training_steps=70),
        "split-windows",
        ["71 consecutive", "in data.subset", "data.train"],
    ),
    "levels": (configured(levels=[500, 700]), PeriodNeeds(), "prepare", ["700", "data.levels"]),
    "grid": (
        configured(grid=GridConfig(num_latitudes=6, num_longitudes=12)),
        PeriodNeeds(),
        "prepare",
        ["global data", "data.grid"],
    ),
    "timestep": (configured(timestep_hours=6), PeriodNeeds(), "prepare", ["6 h", "timestep"]),
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_configuration_that_does_not_suit_the_data(
    name: str, earth_file: Path, tmp_path: Path
) -> None:
    build, horizons, check, named = CONFIGURATIONS[name]
    path = earth_file
    if name == "grid":
        path = tmp_path / "data.nc"
        EARTH.sel(latitude=slice(90, 0)).to_netcdf(path)
    examination = examine_at(build(path), tmp_path / "data.zarr", horizons)
    errors = [finding for finding in examination.report.findings if finding.severity == "error"]
    assert {finding.check for finding in errors} == {check}
    assert all(text in full_text(errors[0]) for text in named)

"""Clean data has no finding above info; each planted fault is found, named and placed, alone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import netCDF4
import numpy as np
import pytest
import xarray as xr

from data_pipeline.doctor.examination import Examination, examine
from data_pipeline.doctor.findings import CHECKS, Finding
from data_pipeline.doctor.physics import check_north_is_up
from data_pipeline.doctor.plausibility import GRAVITY, RANGES, standard_height
from data_pipeline.doctor.sampling import SampledValues
from data_pipeline.doctor.times import PeriodNeeds
from data_pipeline.grids.coarsening import GridConfig
from data_pipeline.grids.grid import LatLonGrid
from data_pipeline.periods import Period, SubsetConfig
from data_pipeline.preparation.config import DataConfig
from data_pipeline.simulation.planet import VARIABLES, SimulationConfig, simulate_planet
from data_pipeline.sources import files as opening
from data_pipeline.sources.config import SourceConfig
from tests.builders.earth import (
    EARTH,
    EARTH_GRID,
    examine_at,
    make_earth,
    make_earth_config,
    only,
    serious,
)

Change = Callable[[xr.Dataset], xr.Dataset]


def examined(data: xr.Dataset, folder: Path, config: DataConfig | None = None) -> Examination:
    data.to_netcdf(folder / "data.nc")
    config = config or make_earth_config(folder / "data.nc")
    return examine_at(config, folder / "data.zarr")


def texts(finding: Finding) -> str:
    return f"{finding.what} | {finding.where} | {finding.remedy}"


def test_clean_data_has_no_findings(earth_file: Path, tmp_path: Path) -> None:
    found = examine_at(make_earth_config(earth_file), tmp_path / "data.zarr")
    assert serious(found) == []
    facts = found.report.facts
    assert facts["time"]["periods"]["train"]["num_states"] == 547
    assert facts["grid"]["kind"] == "regular"
    assert facts["grid"]["coverage"] == "global"
    assert facts["sample"]["num_times"] == 64 + 8 + 8
    temperature = facts["variables"]["2m_temperature"]
    area = EARTH_GRID.area_weights()
    assert temperature["mean"] == pytest.approx(
        float((area * EARTH["2m_temperature"].values).mean()), abs=2
    )
    assert found.num_static == 2
    assert found.grid == EARTH_GRID


def replaced(name: str, change: Callable[[xr.DataArray], Any]) -> Change:
    """The data with one variable changed, and its attributes kept."""

    def apply(data: xr.Dataset) -> xr.Dataset:
        changed = change(data[name]).astype(np.float32)
        return data.assign({name: changed.assign_attrs(data[name].attrs)})

    return apply


def flipped(*names: str) -> Change:
    """Fields stored upside down against their latitudes."""

    def apply(data: xr.Dataset) -> xr.Dataset:
        turned = {n: data[n].copy(data=data[n].isel(latitude=slice(None, None, -1))) for n in names}
        return data.assign(turned)

    return apply


def at(index: dict[str, Any], value: float) -> Callable[[xr.DataArray], xr.DataArray]:
    def change(array: xr.DataArray) -> xr.DataArray:
        array = array.copy(deep=True)
        array[index] = value
        return array

    return change


EVERY_FIFTH = slice(None, None, 5)
HALF = {"time": slice(400, None)}


def in_celsius_later(array: xr.DataArray) -> xr.DataArray:
    later = array["time"] >= np.datetime64("2004-02-01")
    return array - 273.15 * later


class Fault(NamedTuple):
    change: Change
    check: str
    severity: str
    names: Sequence[str]


FAULTS = {
    "celsius": Fault(
        replaced("2m_temperature", lambda a: a - 273.15),
        "units",
        "error",
        ["degrees Celsius", "2m_temperature", "add 273.15"],
    ),
    "mixed units": Fault(
        replaced("2m_temperature", in_celsius_later), "units", "error", ["add 273.15"]
    ),
    "hPa": Fault(
        replaced("mean_sea_level_pressure", lambda a: a / 100),
        "units",
        "error",
        ["hPa", "mean_sea_level_pressure", "multiply by 100"],
    ),
    "g/kg": Fault(
        replaced("specific_humidity", lambda a: a * 1000),
        "units",
        "error",
        ["g kg-1", "specific_humidity_500, specific_humidity_850", "multiply by 0.001"],
    ),
    "height": Fault(
        replaced("geopotential", lambda a: a / GRAVITY),
        "units",
        "error",
        ["geopotential height", "geopotential_500, geopotential_850", "multiply by 9.80665"],
    ),
    "mm": Fault(
        replaced("total_precipitation", lambda a: a * 1000),
        "units",
        "error",
        ["mm", "total_precipitation", "multiply by 0.001"],
    ),
    "nonsense": Fault(
        replaced("2m_temperature", lambda a: a - 1e6),
        "units",
        "error",
        ["2m_temperature", "not this variable"],
    ),
    "outlier": Fault(
        replaced("2m_temperature", at({"time": EVERY_FIFTH, "latitude": 4, "longitude": 9}, 1e4)),
        "outlier",
        "warning",
        ["1e+04", "2m_temperature: 200", "latitude 50, longitude 90"],
    ),
    "nan": Fault(
        replaced("2m_temperature", at({"latitude": 4, "longitude": 9}, np.nan)),
        "nan",
        "error",
        [
            "0.146 %",
            "2m_temperature: 2003-01",
            "latitude 50, longitude 90",
            "data.fill={2m_temperature: climatology}",
        ],
    ),
    "infinite": Fault(
        replaced("geopotential", at({"level": 1, "longitude": 0}, np.inf)),
        "nan",
        "error",
        ["geopotential_850", "Replace"],
    ),
    "static nan": Fault(
        replaced("land_sea_mask", at({"latitude": 4, "longitude": 9}, np.nan)),
        "prepare",
        "error",
        ["data.static, land_sea_mask", "has 1 values", "data.fill={land_sea_mask"],
    ),
    "zero": Fault(
        replaced("specific_humidity", at({"level": 0}, 0)),
        "constant",
        "error",
        ["values are 0", "specific_humidity_500"],
    ),
    "still": Fault(
        replaced("mean_sea_level_pressure", lambda a: a[0] + 0 * a),
        "constant",
        "error",
        ["same at all sampled times", "mean_sea_level_pressure"],
    ),
    "constant static": Fault(
        replaced("land_sea_mask", lambda a: 0 * a + 1), "constant", "warning", ["land_sea_mask"]
    ),
    "blank": Fault(
        replaced("2m_temperature", at({"time": EVERY_FIFTH}, 0)),
        "blank",
        "warning",
        ["single value, 0", "2m_temperature: 200"],
    ),
    "seasons": Fault(flipped("2m_temperature"), "upside-down", "error", ["seasons", "temperature"]),
    "land": Fault(flipped("land_sea_mask"), "upside-down", "error", ["land at the north pole"]),
    "sunlight": Fault(
        flipped("toa_incident_solar_radiation"), "upside-down", "error", ["sunlight", "toa_"]
    ),
    "wind": Fault(
        flipped("geopotential", "v_component_of_wind"),
        "upside-down",
        "error",
        ["wind", "v_component_of_wind_500"],
    ),
    "all flipped": Fault(
        lambda d: flipped(*map(str, d.data_vars))(d), "upside-down", "error", ["latitude"]
    ),
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
    "repeated": Fault(
        lambda d: d.isel(time=[0, 1, 1, *range(2, 731)]),
        "source",
        "error",
        ["time repeats", "index 2", "drop_duplicates"],
    ),
    "unsorted": Fault(
        lambda d: d.isel(time=[0, 2, 1, *range(3, 731)]),
        "source",
        "error",
        ["time decreases", "index 2"],
    ),
    "short": Fault(
        lambda d: d.isel(time=slice(0, 640)), "prepare", "error", ["data.test", "holds 1 states"]
    ),
    "column": Fault(
        lambda d: d.drop_isel(longitude=7),
        "grid-irregular",
        "warning",
        ["10 to 20 degrees", "longitude 60 to 80"],
    ),
    "last column": Fault(
        lambda d: d.isel(longitude=slice(0, 35)),
        "grid-open",
        "warning",
        ["35 columns", "longitude 340 to 360"],
    ),
    "label": Fault(
        lambda d: d.assign(
            mean_sea_level_pressure=d["mean_sea_level_pressure"].assign_attrs(units="hPa")
        ),
        "source",
        "error",
        ["mean_sea_level_pressure in 'hPa'", "data.source.units"],
    ),
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
        "prepare",
        "error",
        ["'member'", "Select one entry"],
    ),
    "role": Fault(
        lambda d: d.assign(
            land_sea_mask=(d["2m_temperature"] > 280).astype("f4").assign_attrs(units="1")
        ),
        "prepare",
        "error",
        ["land_sea_mask changes in time", "data.static, land_sea_mask"],
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_found_and_nothing_else(name: str, tmp_path: Path) -> None:
    fault = FAULTS[name]
    finding = only(examined(fault.change(EARTH.copy()), tmp_path))
    assert (finding.check, finding.severity) == (fault.check, fault.severity)
    for text in fault.names:
        assert text in texts(finding)
    assert finding.why == CHECKS[finding.check]
    assert finding.remedy


def test_gaps_and_filled_values_that_are_configured_are_worth_knowing(tmp_path: Path) -> None:
    data = FAULTS["nan"].change(EARTH.drop_isel(time=[20]))
    config = make_earth_config(
        tmp_path / "data.nc", allow_gaps=True, fill={"2m_temperature": "climatology"}
    )
    found = examined(data, tmp_path, config)
    assert serious(found) == []
    checks = {finding.check: finding for finding in found.report.findings}
    assert "2m_temperature: 2003-01" in checks["filled"].where
    assert "2003-01-20" in checks["time-gap"].where
    assert found.num_static == 3  # one says where temperature is missing


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
    found = examine_at(build(path), tmp_path / "data.zarr", horizons)
    errors = [finding for finding in found.report.findings if finding.severity == "error"]
    assert {finding.check for finding in errors} == {check}
    assert all(text in texts(errors[0]) for text in named)


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
    assert serious(examined(data, tmp_path, config)) == []
    mornings = data.sel(time=~training | (data["time"].dt.hour < 12))
    findings = serious(examined(mornings, tmp_path, config))
    assert [finding.check for finding in findings] == ["time-hours", "time-hours"]
    assert "[12, 18]" in findings[0].what
    assert [finding.where for finding in findings] == ["data.validation", "data.test"]


def test_borders_and_overlaps_are_worth_knowing(earth_file: Path, tmp_path: Path) -> None:
    config = make_earth_config(earth_file, validation=Period(start="2004-07-01", end="2004-09-20"))
    horizons = PeriodNeeds(forecast_steps=5, interval_hours=48)
    found = examine_at(config, tmp_path / "data.zarr", horizons).report.findings
    checks = {finding.check: finding for finding in found}
    assert {"split-adjacent", "forecast-overlap"} <= set(checks)
    assert "starts 24 h after" in checks["split-adjacent"].what
    assert "data.validation" in checks["split-adjacent"].where
    assert "up to 3 forecasts" in checks["forecast-overlap"].what


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
    return examined(data, tmp_path, config)


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
    found = hourly(tmp_path, 6, accumulate=rules)
    assert serious(found) == []
    hours = found.report.facts["variables"]["total_precipitation"]["mean"]
    mean = float((EARTH_GRID.area_weights() * make_earth(30, 1)["total_precipitation"]).mean())
    assert hours == pytest.approx(6 * mean, rel=0.05)
    finding = only(hourly(tmp_path, 6, running_total, accumulate=rules))
    assert (finding.check, finding.severity) == ("accumulated", "error")


def test_sums_that_nothing_refuses_are_found(tmp_path: Path) -> None:
    config = make_earth_config(
        tmp_path / "data.nc", timestep_hours=6, static=[], **(RUN | {"prognostic": ["runoff"]})
    )
    data = make_earth(30, 1)[["total_precipitation"]].rename(total_precipitation="runoff")
    finding = only(examined(data, tmp_path, config))
    assert (finding.check, finding.where) == ("accumulation-period", "runoff")
    assert "sums of 1 h are taken every 6 h" in finding.what
    assert "data.accumulate={runoff: sum}" in finding.remedy
    summed = replace(config, accumulate={"runoff": "sum"})
    assert serious(examined(data, tmp_path, summed)) == []


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
    assert [f.check for f in serious(examined(data, tmp_path, config))] == checks


def test_a_simulated_planet_has_its_wind_the_right_way(tmp_path: Path) -> None:
    planet = simulate_planet(SimulationConfig(num_trajectories=1, days=2, spinup_days=15))
    grid = LatLonGrid.from_dataset(planet)
    fields = {str(name): planet[name].values for name in VARIABLES}
    sample = SampledValues(planet["time"].values, fields, 0)
    assert check_north_is_up(sample, None, grid) == []
    turned = {name: values[:, ::-1] for name, values in fields.items()}
    (finding,) = check_north_is_up(SampledValues(sample.times, turned, 0), None, grid)
    assert "wind" in finding.what


def test_a_daily_cycle_is_no_running_total(tmp_path: Path) -> None:
    config = make_earth_config(
        tmp_path / "data.nc",
        timestep_hours=1,
        static=[],
        **(RUN | {"prognostic": ["toa_incident_solar_radiation"]}),
    )
    assert serious(examined(make_earth(30, 1), tmp_path, config)) == []


def test_poleward_warming_of_a_region(tmp_path: Path) -> None:
    north = EARTH.sel(latitude=slice(80, 20))[["2m_temperature"]]
    config = make_earth_config(tmp_path / "data.nc", prognostic=["2m_temperature"], static=[])
    assert serious(examined(north, tmp_path, config)) == []
    finding = only(examined(flipped("2m_temperature")(north), tmp_path, config))
    assert finding.check == "upside-down"
    assert "warmer toward the pole" in finding.what


def test_gaussian_and_uneven_rows(tmp_path: Path) -> None:
    nodes = np.rad2deg(np.arcsin(np.polynomial.legendre.leggauss(19)[0]))[::-1]
    gaussian = examined(EARTH.assign_coords(latitude=nodes), tmp_path)
    assert serious(gaussian) == []
    assert gaussian.report.facts["grid"]["kind"] == "gaussian"
    uneven = nodes + np.where(np.arange(19) == 9, 4, 0)
    finding = only(examined(EARTH.assign_coords(latitude=uneven), tmp_path))
    assert finding.check == "grid-irregular"
    assert "latitude 4" in finding.where or "to 4" in finding.where


def test_the_layout_of_the_source_is_told(tmp_path: Path) -> None:
    data = xr.concat([EARTH, EARTH.isel(longitude=[0])], "longitude", data_vars="minimal")
    data = data.assign_coords(longitude=np.arange(37) * 10.0).isel(latitude=slice(None, None, -1))
    found = examined(data, tmp_path)
    assert serious(found) == []
    layout = found.report.facts["layout"]
    assert layout["latitude_order"] == "south to north"
    assert layout["duplicated_meridian"]
    notes = [f.what for f in found.report.findings if f.check == "grid-layout"]
    assert len(notes) == 2


def test_noleap_calendars_are_named(tmp_path: Path) -> None:
    noleap = EARTH.sel(time=EARTH["time"] != np.datetime64("2004-02-29"))
    noleap = noleap.convert_calendar("noleap")
    found = examined(noleap, tmp_path)
    assert found.report.facts["layout"]["calendar"] == "noleap"
    assert only(found).check == "time-leap-day"


def test_a_pole_that_was_cut_off_is_told(tmp_path: Path) -> None:
    found = examined(EARTH.isel(latitude=slice(0, 18)), tmp_path)
    assert serious(found) == []
    assert "north pole" in next(f for f in found.report.findings if f.check == "grid-poles").what


def test_nothing_there(tmp_path: Path) -> None:
    found = examine_at(make_earth_config(tmp_path / "no.nc"), tmp_path / "data.zarr")
    finding = only(found)
    assert finding.check == "source"
    assert "no.nc" in finding.what


def two_files(folder: Path, second: Change) -> Examination:
    (folder / "years").mkdir()
    EARTH.sel(time="2003").drop_vars(["land_sea_mask", "geopotential_at_surface"]).to_netcdf(
        folder / "years" / "2003.nc"
    )
    later = EARTH.sel(time="2004").drop_vars(["land_sea_mask", "geopotential_at_surface"])
    second(later).to_netcdf(folder / "years" / "2004.nc")
    config = make_earth_config(folder / "years", static=[])
    return examine_at(config, folder / "data.zarr")


def test_files_of_years_are_clean(tmp_path: Path) -> None:
    assert serious(two_files(tmp_path, lambda d: d)) == []


def test_another_grid_in_one_file(tmp_path: Path) -> None:
    finding = only(two_files(tmp_path, lambda d: d.isel(latitude=slice(1, None))))
    assert finding.check == "source"
    assert "2004.nc" in finding.what


def test_a_truncated_file_is_named_and_the_rest_is_examined(tmp_path: Path) -> None:
    two_files(tmp_path, lambda d: d)
    later = tmp_path / "years" / "2004.nc"
    later.write_bytes(later.read_bytes()[:1000])
    config = make_earth_config(tmp_path / "years", static=[])
    found = examine_at(config, tmp_path / "data.zarr")
    finding = only(found)
    assert finding.check == "source"
    assert "2004.nc" in finding.what
    assert found.report.facts["variables"]["2m_temperature"]["nan_share"] == 0
    assert not found.report.facts["source"]["complete"]


def test_both_label_and_values_in_another_unit(tmp_path: Path) -> None:
    data = FAULTS["hPa"].change(FAULTS["label"].change(EARTH.copy()))
    checks = [finding.check for finding in serious(examined(data, tmp_path))]
    assert checks == ["source", "units"]


def test_static_fields_are_read_as_prepare_does(tmp_path: Path) -> None:
    """With a time axis, classes, and missing values that are filled."""
    rng = np.random.default_rng(0)
    soil = EARTH["land_sea_mask"].copy(data=rng.integers(1, 4, EARTH_GRID.shape).astype("f4"))
    mask = at({"latitude": 4, "longitude": 9}, np.nan)(EARTH["land_sea_mask"])
    height = EARTH["geopotential_at_surface"].expand_dims(time=EARTH["time"])
    data = EARTH.assign(soil_type=soil, land_sea_mask=mask, geopotential_at_surface=height)
    config = make_earth_config(
        tmp_path / "data.nc",
        prognostic=["2m_temperature"],
        static=["soil_type", "land_sea_mask", "geopotential_at_surface"],
        fill={"land_sea_mask": "climatology"},
    )
    found = examined(data, tmp_path, config)
    assert serious(found) == []
    assert found.num_static == 3 + 2 + 1
    assert {"soil_type_1", "land_sea_mask_missing"} <= set(found.report.facts["variables"])


def test_options_of_the_source_reach_its_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["2m_temperature", "mean_sea_level_pressure"]
    EARTH[names].chunk(time=100).to_zarr(tmp_path / "data.zarr", zarr_format=2, consolidated=True)
    given, original = [], opening._open_zarr

    def seen(path: str, options: Mapping[str, Any]) -> xr.Dataset:
        given.append(options["auto_mkdir"])
        return original(path, options)

    monkeypatch.setattr(opening, "_open_zarr", seen)
    source = SourceConfig(
        path=f"file://{tmp_path}/data.zarr", storage_options={"auto_mkdir": False}
    )
    config = make_earth_config("", source=source, prognostic=names, static=[])
    assert serious(examine_at(config, tmp_path / "store")) == []
    assert given == [False]


def test_damaged_chunks_are_named(tmp_path: Path) -> None:
    names = ["2m_temperature", "mean_sea_level_pressure"]
    EARTH[names].chunk(time=10).to_zarr(tmp_path / "data.zarr", zarr_format=2, consolidated=True)
    for index in range(0, 73, 5):
        chunk = tmp_path / "data.zarr" / "2m_temperature" / f"{index}.0.0"
        chunk.write_bytes(chunk.read_bytes()[:20])
    config = make_earth_config(tmp_path / "data.zarr", prognostic=names, static=[])
    finding = only(examine_at(config, tmp_path / "store"))
    assert (finding.check, finding.severity) == ("reading", "error")
    assert "2m_temperature: " in finding.where
    assert "of 80 sampled times, the first 2003-0" in finding.where


def test_reading_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts what is read of the arrays, in a file without chunks and in one with."""
    many = xr.concat([EARTH[["geopotential"]]] * 4, "time")
    many = many.assign_coords(
        time=EARTH["time"].values[0] + np.arange(2924) * np.timedelta64(6, "h")
    )
    many.to_netcdf(tmp_path / "whole.nc", format="NETCDF3_64BIT")
    many.to_netcdf(
        tmp_path / "chunked.nc", encoding={"geopotential": {"chunksizes": (10, 1, 19, 36)}}
    )
    count = {"bytes": 0}
    original = netCDF4.Variable.__getitem__

    def counted(variable: Any, key: object) -> Any:  # noqa: ANN401
        values = original(variable, key)
        count["bytes"] += np.asarray(values).nbytes
        return values

    monkeypatch.setattr("xarray.backends.netCDF4_.operator.getitem", counted, raising=True)
    allowed = 2**20
    for name in ("whole", "chunked"):
        count["bytes"] = 0
        config = make_earth_config(
            tmp_path / f"{name}.nc", prognostic=["geopotential"], static=[], timestep_hours=6
        )
        found = examine(
            config,
            str(tmp_path / "store"),
            PeriodNeeds(),
            sample_bytes=2**20,
            piece_bytes=2**16,
        )
        sample = found.report.facts["sample"]
        axes = 200_000  # the times are read for every opening
        assert 0 < sample["bytes"] <= allowed < many["geopotential"].nbytes
        assert 0 < count["bytes"] <= sample["bytes"] + axes
        assert sample["num_times"] > 1


def test_derived_variables_count_with_what_they_are_computed_from(tmp_path: Path) -> None:
    data = make_earth(40, 1)[["total_precipitation"]]
    data.to_netcdf(
        tmp_path / "data.nc", encoding={"total_precipitation": {"chunksizes": (6, 19, 36)}}
    )
    settings = RUN | {"prognostic": ["total_precipitation_6hr"]}
    config = make_earth_config(tmp_path / "data.nc", timestep_hours=6, static=[], **settings)
    allowed = 2**20
    sample = examine_at(config, tmp_path / "s", PeriodNeeds(), sample_mib=1).report.facts["sample"]
    assert sample["num_times"] * 6 * 4 * 19 * 36 < sample["bytes"] <= allowed


def test_chunks_beyond_the_bound_are_not_read(earth_file: Path, tmp_path: Path) -> None:
    config = make_earth_config(earth_file)
    found = examine_at(config, tmp_path / "data.zarr", PeriodNeeds(), sample_mib=0.01)
    assert {finding.check for finding in serious(found)} == {"sample"}
    assert found.report.facts["sample"]["bytes"] == 0
    assert all("--sample_mib" in finding.remedy for finding in serious(found))


@pytest.mark.parametrize(
    ("pressure", "height"),
    [(101325, 0), (50000, 5574), (22632, 11000), (5475, 20000), (1000, 31055)],
)
def test_heights_of_the_standard_atmosphere(pressure: int, height: int) -> None:
    """Values of the tables of the U.S. Standard Atmosphere, 1976."""
    assert standard_height(float(pressure)) == pytest.approx(height, abs=10)


def test_ranges_are_in_order() -> None:
    assert all(range_.low < range_.high for range_ in RANGES.values())


def test_a_source_without_times_for_the_periods(tmp_path: Path) -> None:
    finding = only(
        examined(EARTH.assign_coords(time=EARTH["time"] + np.timedelta64(9131, "D")), tmp_path)
    )
    assert finding.check == "prepare"
    assert "no time" in finding.what or "holds 0 states" in finding.what


def test_several_paths(tmp_path: Path) -> None:
    static = ["land_sea_mask", "geopotential_at_surface"]
    EARTH.drop_vars(static).to_netcdf(tmp_path / "a.nc")
    EARTH[static].to_netcdf(tmp_path / "b.nc")
    paths = [str(tmp_path / "a.nc"), str(tmp_path / "b.nc")]
    config = make_earth_config("", source=SourceConfig(path=paths))
    assert serious(examine_at(config, tmp_path / "data.zarr")) == []

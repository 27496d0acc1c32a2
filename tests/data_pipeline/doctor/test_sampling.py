"""Samples are bounded, static fields read as prepare does, damaged chunks named."""

from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest

from data_pipeline.doctor.examination import examine
from data_pipeline.doctor.times import PeriodNeeds
from data_pipeline.periods import Period
from tests.builders.earth import (
    EARTH,
    EARTH_GRID,
    examine_at,
    make_earth,
    make_earth_config,
    only,
    serious,
)
from tests.builders.faults import Fault, check_fault, examine_data, replaced, with_value

HOUR = np.timedelta64(1, "h")

FAULTS = {
    "static nan": Fault(
        replaced("land_sea_mask", with_value({"latitude": 4, "longitude": 9}, np.nan)),
        "prepare",
        "error",
        ["data.static, land_sea_mask", "has 1 values", "data.fill={land_sea_mask"],
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
    check_fault(FAULTS[name], tmp_path)


def test_static_fields_are_read_as_prepare_does(tmp_path: Path) -> None:
    """With a time axis, classes, and missing values that are filled."""
    rng = np.random.default_rng(0)
    soil = EARTH["land_sea_mask"].copy(data=rng.integers(1, 4, EARTH_GRID.shape).astype("f4"))
    mask = with_value({"latitude": 4, "longitude": 9}, np.nan)(EARTH["land_sea_mask"])
    height = EARTH["geopotential_at_surface"].expand_dims(time=EARTH["time"])
    data = EARTH.assign(soil_type=soil, land_sea_mask=mask, geopotential_at_surface=height)
    config = make_earth_config(
        tmp_path / "data.nc",
        prognostic=["2m_temperature"],
        static=["soil_type", "land_sea_mask", "geopotential_at_surface"],
        fill={"land_sea_mask": "climatology"},
    )
    examination = examine_data(data, tmp_path, config)
    assert serious(examination) == []
    assert examination.num_static == 3 + 2 + 1
    assert {"soil_type_1", "land_sea_mask_missing"} <= set(examination.report.facts["variables"])


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


@pytest.mark.parametrize("name", ["contiguous", "chunked"])
def test_reading_is_bounded(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes read of the arrays of a file are those that the sample counts, at most."""
    path, data = tmp_path / "data.nc", make_earth(100, 1)[["geopotential"]]
    data = data.assign_coords(time=EARTH["time"].values[0] + np.arange(2400) * 6 * HOUR)
    if name == "contiguous":
        data.to_netcdf(path, format="NETCDF3_64BIT")
    else:
        data.to_netcdf(path, encoding={"geopotential": {"chunksizes": (10, 1, 19, 36)}})
    count, get = {"bytes": 0}, netCDF4.Variable.__getitem__

    def counted(variable: Any, key: object) -> Any:  # noqa: ANN401
        values = get(variable, key)
        count["bytes"] += np.asarray(values).nbytes
        return values

    monkeypatch.setattr("xarray.backends.netCDF4_.operator.getitem", counted)
    config = make_earth_config(path, prognostic=["geopotential"], static=[], timestep_hours=6)
    allowed, store = 2**20, str(tmp_path / "store")
    examination = examine(config, store, PeriodNeeds(), sample_bytes=allowed, piece_bytes=2**16)
    sample = examination.report.facts["sample"]
    axes = 200_000  # the times are read for every opening
    assert 0 < sample["bytes"] <= allowed < data["geopotential"].nbytes
    assert 0 < count["bytes"] <= sample["bytes"] + axes
    assert sample["num_times"] > 1


def test_derived_variables_count_with_what_they_are_computed_from(tmp_path: Path) -> None:
    data = make_earth(40, 1)[["total_precipitation"]]
    config = make_earth_config(
        tmp_path / "data.nc",
        prognostic=["total_precipitation_6hr"],
        static=[],
        timestep_hours=6,
        climatology_harmonics=0,
        train=Period(start="2003-01-01", end="2003-01-20"),
        validation=Period(start="2003-01-22", end="2003-01-25"),
        test=Period(start="2003-01-27", end="2003-01-30"),
    )
    data.to_netcdf(
        tmp_path / "data.nc", encoding={"total_precipitation": {"chunksizes": (6, 19, 36)}}
    )
    sample = examine_at(config, tmp_path / "s", sample_mib=1).report.facts["sample"]
    assert sample["num_times"] * 6 * 4 * 19 * 36 < sample["bytes"] <= 2**20


def test_chunks_beyond_the_bound_are_not_read(earth_file: Path, tmp_path: Path) -> None:
    config = make_earth_config(earth_file)
    examination = examine_at(config, tmp_path / "data.zarr", PeriodNeeds(), sample_mib=0.01)
    assert {finding.check for finding in serious(examination)} == {"sample"}
    assert examination.report.facts["sample"]["bytes"] == 0
    assert all("--sample_mib" in finding.remedy for finding in serious(examination))

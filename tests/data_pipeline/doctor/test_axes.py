"""Uneven and open grids are found, and the layout of the source is described."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from tests.builders.earth import (
    EARTH,
    only,
    serious,
)
from tests.builders.faults import Fault, check_fault, examine_data

FAULTS = {
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
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_found_and_nothing_else(name: str, tmp_path: Path) -> None:
    check_fault(FAULTS[name], tmp_path)


def test_gaussian_and_uneven_rows(tmp_path: Path) -> None:
    nodes = np.rad2deg(np.arcsin(np.polynomial.legendre.leggauss(19)[0]))[::-1]
    gaussian = examine_data(EARTH.assign_coords(latitude=nodes), tmp_path)
    assert serious(gaussian) == []
    assert gaussian.report.facts["grid"]["kind"] == "gaussian"
    uneven = nodes + np.where(np.arange(19) == 9, 4, 0)
    finding = only(examine_data(EARTH.assign_coords(latitude=uneven), tmp_path))
    assert finding.check == "grid-irregular"
    assert "latitude 4" in finding.where or "to 4" in finding.where


def test_the_layout_of_the_source_is_told(tmp_path: Path) -> None:
    data = xr.concat([EARTH, EARTH.isel(longitude=[0])], "longitude", data_vars="minimal")
    data = data.assign_coords(longitude=np.arange(37) * 10.0).isel(latitude=slice(None, None, -1))
    examination = examine_data(data, tmp_path)
    assert serious(examination) == []
    layout = examination.report.facts["layout"]
    assert layout["latitude_order"] == "south to north"
    assert layout["duplicated_meridian"]
    notes = [f.what for f in examination.report.findings if f.check == "grid-layout"]
    assert len(notes) == 2


def test_noleap_calendars_are_named(tmp_path: Path) -> None:
    noleap = EARTH.sel(time=EARTH["time"] != np.datetime64("2004-02-29"))
    noleap = noleap.convert_calendar("noleap")
    examination = examine_data(noleap, tmp_path)
    assert examination.report.facts["layout"]["calendar"] == "noleap"
    assert serious(examination) == []  # a year of 365 days is complete


def test_a_pole_that_was_cut_off_is_told(tmp_path: Path) -> None:
    examination = examine_data(EARTH.isel(latitude=slice(0, 18)), tmp_path)
    assert serious(examination) == []
    assert (
        "north pole" in next(f for f in examination.report.findings if f.check == "grid-poles").what
    )

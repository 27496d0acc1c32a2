"""One entry of members, experiments, steps and levels, by its value."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from data_pipeline.sources.fields.select import with_final_values
from tests.builders.era5 import make_era5, read_source
from tests.builders.errors import rejects

NAME = "2m_temperature"
FINAL, EARLY = [1.0, np.nan, 3.0, np.nan], [10.0, 20.0, np.nan, np.nan]


@pytest.mark.parametrize("versions", [[1, 5], [5, 1], ["0005", "0001"], [b"0001", b"0005"]])
def test_final_values_win_in_any_order(versions: list[Any]) -> None:
    rows = {"1": FINAL, "5": EARLY}
    values = [rows[str(int(version))] for version in versions]
    dataset = xr.Dataset({"t2m": (("expver", "time"), values), "sp": ("time", FINAL)})
    found = with_final_values(dataset.assign_coords(expver=np.array(versions)), "a.nc")
    np.testing.assert_array_equal(found["t2m"], [1, 20, 3, np.nan])
    np.testing.assert_array_equal(found["sp"], FINAL)


def test_other_experiments_are_chosen_by_the_user(tmp_path: Path) -> None:
    both = make_era5()[[NAME]].expand_dims(expver=["hj1f", "0001"])
    both = both.assign({NAME: both[NAME] + xr.DataArray([0, 100], dims="expver")})
    both[NAME].attrs["units"] = "K"
    both.to_netcdf(tmp_path / "a.nc")
    with rejects("unknown-entry", "hj1f", "a.nc", "data.source.select"):
        read_source(tmp_path)
    found = read_source(tmp_path, select={"expver": 1})[NAME]
    np.testing.assert_allclose(found, make_era5()[NAME] + 100, rtol=1e-6)


@pytest.fixture
def members(tmp_path: Path) -> Path:
    era5 = make_era5()[["temperature"]]
    dataset = xr.concat([era5, era5 + 50], xr.Variable("number", [0, 7]))
    dataset["temperature"].attrs["units"] = "K"
    dataset.to_netcdf(tmp_path / "members.nc")
    return tmp_path / "members.nc"


def test_members(members: Path) -> None:
    with rejects("several-members", "members.nc", "0, 7", "data.source.select={number: 0}"):
        read_source(members)
    expected = make_era5()["temperature"] + 50
    for key in ("number", "realization"):
        found = read_source(members, select={key: 7})["temperature"]
        assert found.dims == ("time", "level", "latitude", "longitude")
        np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize("wanted", [850, 850.0, "850", [850]])
def test_a_level(members: Path, wanted: object) -> None:
    found = read_source(members, select={"number": 0, "level": wanted})["temperature"]
    assert found["level"].values.tolist() == [850]
    np.testing.assert_allclose(found, make_era5()["temperature"].sel(level=[850]))


@pytest.mark.parametrize(
    ("select", "named"),
    [
        ({"number": 3}, ["number: 3", "0, 7"]),
        ({"level": 700}, ["level: 700", "500, 850"]),
        ({"nubmer": 0}, ["'nubmer'", "number", "level"]),
    ],
)
def test_unknown_entries_are_named(members: Path, select: dict[str, Any], named: list[str]) -> None:
    with rejects("unknown-entry", *named):
        read_source(members, select=select)


def test_files_without_the_entry_are_left_out(tmp_path: Path) -> None:
    era5 = make_era5()[["temperature"]]
    for level in (500, 850):
        era5.sel(level=level).to_netcdf(tmp_path / f"{level}.nc")
    era5.rename(temperature="t2m").isel(level=0, drop=True).to_netcdf(tmp_path / "surface.nc")
    found = read_source(tmp_path, select={"level": 850})
    assert found["temperature"]["level"].values.tolist() == [850]
    np.testing.assert_allclose(found["temperature"], era5["temperature"].sel(level=[850]))
    assert NAME in found


def test_a_height_of_an_axis(tmp_path: Path) -> None:
    wind = make_era5()[[NAME]].rename({NAME: "u"})
    wind["u"].attrs["units"] = "m s-1"
    heights = xr.Variable("height", [10.0, 100.0], {"units": "m"})
    xr.concat([wind, wind + 1], heights).to_netcdf(tmp_path / "u.nc")
    found = read_source(
        tmp_path, select={"height": 100}, units={"100m_u_component_of_wind": "m s-1"}
    )
    expected = make_era5()[NAME] + 1
    np.testing.assert_allclose(found["100m_u_component_of_wind"], expected, rtol=1e-6)

"""Pressure levels of any convention become integers in hPa; other axes are not taken for them."""

from pathlib import Path

import pytest
import xarray as xr

from data_pipeline.channels import Channels
from data_pipeline.sources.levels import vertical_kind, vertical_values
from tests.builders.era5 import assert_same, make_era5, read_source
from tests.builders.errors import rejects


@pytest.mark.parametrize(
    ("levels", "units"),
    [
        ([500, 850], "millibars"),
        ([850.0, 500.0], "hPa"),
        ([50000.0, 85000.0], "Pa"),
        ([85000, 50000], ""),
    ],
)
def test_levels_of_any_convention(tmp_path: Path, levels: list[float], units: str) -> None:
    profile = make_era5()[["temperature"]]
    hectopascals = [int(level if level < 2000 else level / 100) for level in levels]
    turned = profile.sel(level=hectopascals).assign_coords(level=("level", levels))
    turned["level"].attrs["units"] = units
    turned.to_netcdf(tmp_path / "data.nc")
    assert_same(read_source(tmp_path / "data.nc"), profile)


@pytest.mark.parametrize(
    ("name", "attrs", "kind"),
    [
        ("level", {}, "pressure"),
        ("level", {"units": "millibar"}, "pressure"),
        ("level", {"units": "1", "long_name": "model_level_number"}, "model level"),
        ("level", {"units": "layer"}, "model level"),
        ("level", {"units": "m", "standard_name": "height"}, "height"),
        ("level", {"units": "K"}, "isentropic"),
        ("level", {"units": "furlong"}, "other"),
        ("lev", {"standard_name": "atmosphere_hybrid_sigma_pressure_coordinate"}, "model level"),
        ("lev", {"units": "hPa", "long_name": "hybrid level at midpoints"}, "model level"),
        ("plev", {"units": "Pa", "standard_name": "air_pressure"}, "pressure"),
        ("isobaricInPa", {}, "pressure"),
        ("heightAboveGround", {"units": "m"}, "height"),
        ("heightAboveSea", {"units": "m"}, "altitude"),
        ("depthBelowLandLayer", {"units": "m"}, "depth"),
        ("lev", {"units": "m", "positive": "down"}, "depth"),
        ("surface", {}, "surface"),
        ("hybrid", {"units": "1"}, "model level"),
        ("tropopause", {}, "other"),
    ],
)
def test_the_kind_of_a_vertical_coordinate(name: str, attrs: dict[str, str], kind: str) -> None:
    assert vertical_kind(xr.DataArray(2.0, name=name, attrs=attrs)) == kind


def test_stated_units_replace_those_of_the_file() -> None:
    mislabelled = xr.DataArray([500.0], dims="level", name="level", attrs={"units": "1"})
    assert vertical_kind(mislabelled, "hPa") == "pressure"
    assert vertical_values(mislabelled, "hPa").tolist() == [500]


@pytest.mark.parametrize(
    ("units", "values", "expected"),
    [("kPa", 85.0, 850), ("Pa", 100.0, 1), ("", 85000.0, 850), ("km", 0.01, 10), ("m", 2.0, 2)],
)
def test_vertical_values_are_in_hectopascals_or_meters(
    units: str, values: float, expected: float
) -> None:
    coordinate = xr.DataArray(values, name="level", attrs={"units": units})
    assert vertical_values(coordinate) == pytest.approx(expected)


@pytest.mark.parametrize("units", ["m", "1", "layer", "kPa"])
def test_other_levels_are_an_error_only_if_requested(tmp_path: Path, units: str) -> None:
    era5 = make_era5()
    era5["level"].attrs = {"units": units}
    era5.to_netcdf(tmp_path / "levels.nc")
    found = read_source(tmp_path / "levels.nc")
    assert_same(found, make_era5()[["2m_temperature"]])
    with rejects("missing-variable", "temperature", "levels.nc", "axis level", repr(units)):
        Channels.from_dataset(found, ["temperature"], [500])


def test_other_levels_do_not_contradict_pressure_levels_in_another_file(tmp_path: Path) -> None:
    make_era5().to_netcdf(tmp_path / "pressure.nc")
    model = make_era5()[["temperature"]].assign_coords(level=("level", [1, 2], {"units": "1"}))
    model.to_netcdf(tmp_path / "model.nc")
    assert_same(read_source(tmp_path), make_era5())


@pytest.mark.parametrize("levels", [[500.0, 500.0], [499.99999, 500.0], [500.5, 850.0]])
def test_levels_are_different_integers(tmp_path: Path, levels: list[float]) -> None:
    profile = make_era5()[["temperature"]].sel(level=[500, 850])
    profile.assign_coords(level=("level", levels)).to_netcdf(tmp_path / "data.nc")
    with rejects("bad-levels", "data.nc", str(levels[0])):
        read_source(tmp_path / "data.nc")


def test_levels_with_a_formula_are_those_of_a_model() -> None:
    level = xr.DataArray([500.0], dims="lev", attrs={"units": "hPa"}, name="lev")
    assert vertical_kind(level) == "pressure"
    formula = {"units": "hPa", "formula_terms": "a: hyam b: hybm p0: P0 ps: PS"}
    assert vertical_kind(level.assign_attrs(formula)) == "model level"

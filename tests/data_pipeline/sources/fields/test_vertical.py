"""Vertical coordinates belong to a variable as an axis, or as a scalar that NetCDF lists for it."""

import pytest
import xarray as xr

from data_pipeline.sources.fields.vertical import verticals_by_variable


def field(**scalars: object) -> xr.Dataset:
    array = xr.DataArray([[280.0]], dims=("latitude", "longitude"))
    return xr.Dataset({"a": array, "b": array}).assign_coords(**scalars)  # type: ignore[arg-type]


def test_scalars_belong_to_all_variables_unless_the_file_tells() -> None:
    dataset = field(plev=((), 85000.0, {"units": "Pa"}))
    assert [v.text for v in verticals_by_variable(dataset)["b"]] == ["850"]
    dataset["a"].encoding["coordinates"] = "plev time"
    assert [v.text for v in verticals_by_variable(dataset)["a"]] == ["850"]
    assert verticals_by_variable(dataset)["b"] == []


@pytest.mark.parametrize(
    ("name", "value", "units", "kind", "text"),
    [
        ("isobaricInhPa", 500, "hPa", "pressure", "500"),
        ("level", 2, "m", "height", "2"),
        ("height", 0.002, "km", "height", "2"),
        ("level", 0, "", "surface", "0"),
        ("meanSea", 0, "1", "surface", "0"),
        ("depthBelowLandLayer", 0.07, "m", "depth", "0.07"),
        ("potentialVorticity", 2, "K m**2 kg**-1 s**-1", "other", "2"),
    ],
)
def test_kinds_of_scalars(name: str, value: float, units: str, kind: str, text: str) -> None:
    dataset = field(**{name: ((), value, {"units": units})})
    (found,) = verticals_by_variable(dataset)["a"]
    assert (found.kind, found.text, found.is_axis) == (kind, text, False)


def test_other_scalars_are_not_vertical() -> None:
    assert verticals_by_variable(field(number=0, expver="0001", step=6))["a"] == []

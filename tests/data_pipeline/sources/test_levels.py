"""Levels of any convention become integers in hPa."""

from pathlib import Path

import pytest

from tests.builders.era5 import assert_same, make_era5, read_source


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

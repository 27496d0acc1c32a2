"""Forecasts under the names of this project."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from fourcastnet_afno.inference.open import open_forecast, require_netcdf_names
from tests.builders.errors import rejects
from tests.builders.forecasters import make_forecast, make_states


def test_names_are_translated_at_the_border(tmp_path: Path) -> None:
    written = make_forecast(tmp_path / "f.zarr")
    assert written["2m_temperature"].dims == ("init_time", "lead_time", "latitude", "longitude")
    valid = written["valid_time"].isel(init_time=2, lead_time=3).values
    assert valid == np.datetime64("2020-01-01T18", "ns") + np.timedelta64(24, "h")
    with rejects("missing-file", str(tmp_path / "nothing.zarr")):
        open_forecast(tmp_path / "nothing.zarr")
    make_states().to_zarr(tmp_path / "other.zarr", consolidated=False)
    with rejects("other-format", "['prediction_timedelta']"):
        open_forecast(tmp_path / "other.zarr")


@pytest.mark.parametrize("file", ["latitude/c/0", "2m_temperature/zarr.json"])
def test_a_damaged_forecast_is_named(tmp_path: Path, file: str) -> None:
    path = tmp_path / "f.zarr"
    make_forecast(path)
    (path / file).write_bytes(b"\x91")
    with rejects("unreadable-file", f"the variable {file.split('/')[0]} of {path}"):
        open_forecast(path)


def test_names_that_netcdf_cannot_hold_are_named(tmp_path: Path) -> None:
    for name in ("$x", "-x", "<x>", "x "):
        with rejects("bad-name", repr(name), "f.nc", ".zarr"):
            require_netcdf_names([name], tmp_path / "f.nc")
    names = ["2m_temperature", "_x", "气温", "a b$%{}[1]"]
    require_netcdf_names(names, tmp_path / "f.nc")
    xr.Dataset({name: 1 for name in names}).to_netcdf(tmp_path / "f.nc")

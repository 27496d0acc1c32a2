"""Settings of the training's source hold for another one where they fit and it says nothing."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from data_pipeline.sources.canonical import open_source
from data_pipeline.sources.config import SourceConfig
from data_pipeline.sources.fields.defaults import recorded_settings
from tests.builders.era5 import make_era5

NAME = "2m_temperature"
RECORD = {
    "path": "elsewhere/*.nc",
    "rename": {"TREFHT": "t2m", "PHI": "z", "other.*": {"X": "sp"}},
    "units": {"t2m": "K"},
    "select": {"number": 3, "expver": 1},
    "channels": ["t850"],
}


def read(path: Path, **given: object) -> xr.Dataset:
    config = SourceConfig(path=str(path), **given)  # type: ignore[arg-type]
    return open_source(config, defaults=recorded_settings(RECORD)).compute()


@pytest.fixture
def members(tmp_path: Path) -> Path:
    era5 = make_era5()[[NAME]].rename({NAME: "TREFHT"})
    both = xr.concat([era5, era5 + 1], xr.Variable("number", [0, 3]))
    both["TREFHT"].attrs = {}
    both.to_netcdf(tmp_path / "a.nc")
    return tmp_path / "a.nc"


def test_names_entries_and_missing_units_are_those_of_training(members: Path) -> None:
    found = read(members)[NAME]
    np.testing.assert_allclose(found, make_era5()[NAME] + 1, rtol=1e-6)
    assert found.attrs["units"] == "K"


def test_what_the_source_states_wins(members: Path) -> None:
    found = read(members, select={"number": 0}, rename={"TREFHT": "skt"})
    np.testing.assert_allclose(found["skin_temperature"], make_era5()[NAME], rtol=1e-6)


def test_a_source_without_these_names_is_read_as_it_is(tmp_path: Path) -> None:
    make_era5()[["temperature"]].to_netcdf(tmp_path / "b.nc")
    found = read(tmp_path / "b.nc")
    assert list(found.data_vars) == ["temperature"]


def test_a_record_without_such_settings() -> None:
    assert recorded_settings({"path": "a.nc", "rename": {}, "channels": ["t850"]}) is None

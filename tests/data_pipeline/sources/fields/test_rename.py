"""Names that users give: by file, in short, and only those that files have."""

from pathlib import Path

import numpy as np
import pytest

from data_pipeline.sources.fields.rename import renames_of
from tests.builders.era5 import make_era5, read_source
from tests.builders.errors import rejects

NAME = "2m_temperature"


def test_names_for_some_files_win() -> None:
    rename = {"air": "t", "air.2m.*.nc": {"air": "t2m"}}
    assert renames_of(rename, "/data/air.2m.2001.nc") == {"air": "t2m"}
    assert renames_of(rename, "/data/air.2001.nc") == {"air": "t"}


def test_one_name_in_two_files(tmp_path: Path) -> None:
    """NCEP calls the temperature of its levels, and that at 2 m, ``air``."""
    era5 = make_era5()
    era5[["temperature"]].rename(temperature="air").to_netcdf(tmp_path / "air.2001.nc")
    era5[[NAME]].rename({NAME: "air"}).to_netcdf(tmp_path / "air.2m.2001.nc")
    found = read_source(tmp_path, rename={"air.2m.*.nc": {"air": "t2m"}})
    np.testing.assert_allclose(found[NAME], era5[NAME])
    np.testing.assert_allclose(found["temperature"], era5["temperature"])


@pytest.mark.parametrize(
    ("rename", "named"),
    [
        ({"trefth": NAME}, ["'trefth'", "did you mean TREFHT?"]),
        ({"*.nc": {"TREFTH": NAME}}, ["'TREFTH'", "'*.nc'", "TREFHT"]),
        ({"b.*": {"TREFHT": NAME}}, ["'b.*'", "a.nc"]),
        ({"quite_other": NAME}, ["'quite_other'", "TREFHT", "longitude"]),
    ],
)
def test_names_that_no_file_has_are_rejected(
    tmp_path: Path, rename: dict[str, object], named: list[str]
) -> None:
    make_era5()[[NAME]].rename({NAME: "TREFHT"}).to_netcdf(tmp_path / "a.nc")
    with rejects("unknown-name", *named):
        read_source(tmp_path, rename=rename)


def test_short_names_of_variables_and_axes(tmp_path: Path) -> None:
    era5 = make_era5()
    other = era5[[NAME, "temperature"]].rename({NAME: "TREFHT", "level": "pfull"})
    other.rename(latitude="rows").to_netcdf(tmp_path / "a.nc")
    rename = {"TREFHT": "t2m", "pfull": "plev", "rows": "lat"}
    found = read_source(tmp_path, rename=rename)
    np.testing.assert_allclose(found[NAME], era5[NAME])
    np.testing.assert_allclose(found["temperature"], era5["temperature"])

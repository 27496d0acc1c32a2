"""Times that are numbers become dates by their units, or by those that the user states."""

from pathlib import Path

import netCDF4
import pytest

from data_pipeline.sources.time_numbers import open_with_dates
from tests.builders.era5 import ERA5_GRID, read_source
from tests.builders.errors import rejects


def write(path: Path, values: list[float], units: str = "", calendar: str = "") -> Path:
    with netCDF4.Dataset(path, "w") as file:
        for axis, coordinate in (("time", values), *ERA5_GRID.coords.items()):
            file.createDimension(axis, len(coordinate))
            file.createVariable(axis, "f8", (axis,))[:] = coordinate
        if units:
            file["time"].units = units
        if calendar:
            file["time"].calendar = calendar
        variable = file.createVariable("t2m", "f4", ("time", "latitude", "longitude"))
        variable.units = "K"
        variable[:] = 280
    return path


def first_dates(path: Path, **settings: str) -> list[str]:
    times = read_source(path, **settings)["time"].values[:2]
    return times.astype("datetime64[h]").astype(str).tolist()


@pytest.mark.parametrize(
    ("values", "units", "expected"),
    [
        ([6, 12], "Hours since 1900-01-01", ["1900-01-01T06", "1900-01-01T12"]),
        ([1, 2], "months since 1990-01-16", ["1990-02-16T00", "1990-03-16T00"]),
        ([19990131.75, 19990201], "day as %Y%m%d.%f", ["1999-01-31T18", "1999-02-01T00"]),
    ],
)
def test_units_in_use_are_read(
    tmp_path: Path, values: list[float], units: str, expected: list[str]
) -> None:
    found = first_dates(write(tmp_path / "a.nc", values, units))
    assert found == expected


def test_numbers_get_units_and_origin_from_the_settings(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nc", [0, 6])
    with rejects("no-times", "a.nc", "without units", "data.source.time_units"):
        read_source(path)
    found = first_dates(path, time_units="hours since 2001-02-28")
    assert found == ["2001-02-28T00", "2001-02-28T06"]
    with rejects("bad-setting", "data.source.time_units", "fortnights"):
        read_source(path, time_units="fortnights")


def test_a_year_0_needs_a_calendar(tmp_path: Path) -> None:
    """730500 days after January 1st of year 0 is January 16th, 2000, if the calendar has it."""
    path = write(tmp_path / "a.nc", [730500, 730501], "days since 0000-01-01", "standard")
    with rejects("no-times", "a.nc", "year 0", "data.source.time_calendar"):
        read_source(path)
    found = first_dates(path, time_calendar="proleptic_gregorian")
    assert found == ["2000-01-16T00", "2000-01-17T00"]


def test_other_errors_of_opening_are_kept() -> None:
    def fail(decode: bool) -> None:
        raise ValueError(f"damaged, {decode}")

    with pytest.raises(ValueError, match="damaged, True"):
        open_with_dates(fail)  # type: ignore[arg-type]

"""Climatologies of stores, tables and years, and how years are fitted."""

from pathlib import Path

import numpy as np
import psutil
import pytest
import xarray as xr

from data_pipeline.channels import Channels
from data_pipeline.sources.config import SourceConfig
from fourcastnet_afno.evaluation.config import ClimatologyFit
from fourcastnet_afno.evaluation.inputs.climatology_sources import (
    climatology_of,
    open_climatology,
    open_climatology_data,
)
from tests.builders.errors import rejects
from tests.builders.evaluation_fixtures import GRID, make_coefficients, make_table, make_truth

TRUTH = make_truth(30)
CHANNELS = Channels.from_dataset(TRUTH, ["2m_temperature", "temperature"])
LEAP_YEAR = np.arange("2004-01-01", "2005-01-01", dtype="datetime64[D]").astype("datetime64[ns]")


def make_waves() -> xr.Dataset:
    """A year of the third harmonic in K, and as much at two levels."""
    wave = 280 + np.cos(2 * np.pi * 3 * np.arange(366) / 366)[:, None, None] * np.ones(GRID.shape)
    dims = ("time", "level", "latitude", "longitude")
    data = {
        "2m_temperature": (("time", *dims[2:]), wave, {"units": "K"}),
        "temperature": (dims, np.stack([wave - 50, wave - 20], axis=1), {"units": "K"}),
    }
    return xr.Dataset(data, {"time": LEAP_YEAR, "level": [500, 850], **GRID.coords})


def test_years_are_averaged_by_a_window_or_fitted_by_harmonics() -> None:
    waves, (surface, _, upper) = make_waves(), CHANNELS
    by_window = climatology_of(waves, CHANNELS, "window")
    by_harmonics = climatology_of(waves, CHANNELS, "harmonics", 2)
    kernel = (np.sin(np.pi * 90 / 366) / (30 * np.sin(np.pi * 3 / 366))) ** 2
    wave = waves["2m_temperature"].values[::50] - 280
    np.testing.assert_allclose(
        by_window.at(surface, LEAP_YEAR[::50]), 280 + kernel * wave, rtol=1e-6
    )
    np.testing.assert_allclose(by_window.at(upper, LEAP_YEAR[::50]), 260 + kernel * wave, rtol=1e-6)
    np.testing.assert_allclose(by_harmonics.at(surface, LEAP_YEAR[::50]), 280, atol=0.01)
    assert "61 days" in by_window.description
    assert "2004-01-01 to 2004-12-31" in by_window.description
    assert by_window.times is not None
    np.testing.assert_array_equal(by_window.times, LEAP_YEAR)


@pytest.mark.parametrize("fit", ["window", "harmonics"])
def test_hours_of_monthly_years_do_not_matter(fit: ClimatologyFit) -> None:
    months = np.arange("2001-01", "2003-01", dtype="datetime64[M]").astype("datetime64[ns]")
    middles = months + np.arange(24) % 2 * np.timedelta64(12, "h") + np.timedelta64(14, "D")
    years = make_truth(24).assign_coords(time=middles)
    climatology = climatology_of(years, CHANNELS, fit, 0)
    climatology.require_times(months)
    assert climatology.hours == [0]
    fields = climatology.at(CHANNELS.channels[0], months[:3])
    values = years["2m_temperature"].values
    # On February 1 the middles of January and February are 17 and 14 days away: weights 13 and 16.
    neighbors = 13 * (values[0] + values[12]) + 16 * (values[1] + values[13])
    expected = neighbors / 58 if fit == "window" else values.mean(axis=0)
    np.testing.assert_allclose(fields[1], expected, rtol=1e-6)


def test_days_that_a_window_does_not_cover() -> None:
    climatology = climatology_of(TRUTH, CHANNELS, "window")  # of January 2001
    climatology.require_times(np.array(["2010-01-30"], "datetime64[ns]"))
    for day in ("2010-02-01", "2009-12-31", "2010-07-01"):
        with rejects("short-period", day):
            climatology.require_times(np.array([day], "datetime64[ns]"))
    with rejects("short-period", "evaluation.climatology_harmonics"):
        climatology_of(TRUTH, CHANNELS, "harmonics", 2)


def test_a_window_that_memory_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    class Little:
        available = 1000

    monkeypatch.setattr(psutil, "virtual_memory", Little)
    with rejects("too-little-memory", "evaluation.climatology=harmonics", "evaluation.channels"):
        climatology_of(TRUTH, CHANNELS, "window")


def test_a_dataset_says_by_its_axes_what_it_is() -> None:
    times = TRUTH["time"].values[:2]
    surface = CHANNELS.channels[0]
    found = climatology_of(make_coefficients(TRUTH), CHANNELS)
    expected = TRUTH["2m_temperature"].mean("time")
    np.testing.assert_allclose(found.at(surface, times)[1], expected, rtol=1e-6)
    assert climatology_of(make_table(), CHANNELS).at(surface, times)[1, 0, 0] == 2
    with rejects("missing-axis", "['row']", "--climatology.rename"):
        climatology_of(xr.Dataset({"2m_temperature": ("row", [1.0])}), CHANNELS)
    with rejects("missing-level", "temperature_850"):
        climatology_of(TRUTH.sel(level=[500]), CHANNELS)


@pytest.mark.parametrize("given", ["years", "years/*.nc", "years/0.nc,years/1.nc"])
def test_years_in_many_files_are_all_read(tmp_path: Path, given: str) -> None:
    (tmp_path / "years").mkdir()
    for part in (0, 1):
        piece = TRUTH.isel(time=slice(15 * part, 15 * part + 15))
        piece.to_netcdf(tmp_path / "years" / f"{part}.nc")
    paths = [str(tmp_path / path) for path in given.split(",")]
    found = open_climatology(SourceConfig(path=paths), CHANNELS, 0)
    mean = TRUTH["2m_temperature"].values.mean(axis=0)
    np.testing.assert_allclose(found.mean(CHANNELS.channels[0]), mean, rtol=1e-9)


def test_a_table_is_found_in_a_folder_and_under_another_name(tmp_path: Path) -> None:
    make_table().rename(dayofyear="doy").to_netcdf(tmp_path / "table.nc")
    source = SourceConfig(path=str(tmp_path), rename={"doy": "dayofyear"})
    found = open_climatology(source, CHANNELS)
    assert found.description == "table table.nc by day of year and hour of day"
    assert found.at(CHANNELS.channels[0], TRUTH["time"].values[4:5])[0, 0, 0] == 5


def test_paths_that_hold_no_climatology(tmp_path: Path) -> None:
    for name in ("none.nc", "none.zarr", "none/*.nc"):
        with rejects("missing-file", name):
            open_climatology_data(SourceConfig(path=str(tmp_path / name)))
    (tmp_path / "damaged.nc").write_bytes(b"no data")
    with rejects("unreadable-file", "damaged.nc"):
        open_climatology_data(SourceConfig(path=str(tmp_path / "damaged.nc")))

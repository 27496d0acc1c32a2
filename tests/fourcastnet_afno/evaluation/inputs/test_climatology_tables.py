"""Tables of a climatology: how days are looked up, files they come in, axes that are wrong."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from data_pipeline.channels import Channel
from data_pipeline.sources.config import SourceConfig
from fourcastnet_afno.evaluation.inputs.climatology_tables import from_table, is_table, open_table
from tests.builders.errors import rejects
from tests.builders.evaluation_fixtures import make_table

SURFACE = Channel(name="2m_temperature", units="K")


def looked_up(table: xr.Dataset, *times: str) -> list[float]:
    """Values at the first cell."""
    found = from_table(table).at(SURFACE, np.array(times, "datetime64[ns]"))
    return found[:, 0, 0].tolist()


def test_a_table_is_looked_up_by_day_and_hour() -> None:
    days = "2001-01-01", "2001-12-31T12", "2004-12-31", "2004-02-29", "2004-03-01", "2003-03-01"
    assert looked_up(make_table(), *days) == pytest.approx([1, 365.12, 366, 60, 61, 60])
    np.testing.assert_allclose(from_table(make_table()).mean(SURFACE), 183.5 + 0.06)
    with rejects("hours-mismatch", "[0, 12]", "[6]"):
        looked_up(make_table(), "2001-01-01T06")


def test_a_table_of_365_days_has_the_dates_of_a_year_without_leap_day() -> None:
    days = "2004-02-28", "2004-02-29", "2004-03-01T12", "2004-12-31", "2003-12-31", "2003-03-01"
    assert looked_up(make_table(365), *days) == pytest.approx([59, 59.5, 60.12, 365, 365, 60])


def test_a_table_by_month_is_the_same_on_all_days_of_a_month() -> None:
    by_month = make_table(12).rename(dayofyear="month").isel(hour=0, drop=True)
    assert looked_up(by_month, "2001-01-01", "2001-01-31T18", "2004-02-29", "2001-12-31") == [
        1, 1, 2, 12,
    ]  # fmt: skip
    months = [31, 28.25, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
    expected = np.dot(months, np.arange(1, 13)) / 365.25
    np.testing.assert_allclose(from_table(by_month).mean(SURFACE), expected)


def test_a_table_by_hour_alone_is_the_same_on_all_days() -> None:
    table = make_table().isel(dayofyear=4, drop=True)
    assert looked_up(table, "2001-01-01", "2004-12-31T12") == pytest.approx([5, 5.12])
    assert is_table(table)
    assert not is_table(table.rename(hour="row"))
    assert is_table(table.rename(hour="row"), SourceConfig(path="c.nc", rename={"row": "hour"}))


def test_days_in_any_order_are_sorted() -> None:
    shuffled = make_table().isel(dayofyear=slice(None, None, -1), hour=[1, 0])
    assert looked_up(shuffled, "2001-01-02T12") == pytest.approx([2.12])


@pytest.mark.parametrize(
    ("table", "code", "named"),
    [
        (make_table().isel(dayofyear=slice(31)), "short-period", "dayofyear"),
        (make_table().assign_coords(dayofyear=np.arange(366)), "wrong-dimensions", "dayofyear"),
        (make_table().drop_vars("hour"), "wrong-dimensions", "hour"),
        (make_table().assign_coords(hour=[0, 24]), "wrong-dimensions", "hour"),
        (make_table(2).assign_coords(dayofyear=["a", "b"]), "wrong-dimensions", "dayofyear"),
        (make_table().expand_dims(number=[0, 1]), "wrong-dimensions", "number"),
        (make_table(360), "wrong-dimensions", "360"),
        (make_table(13).rename(dayofyear="month"), "wrong-dimensions", "month"),
        (make_table(12).expand_dims(month=[1]), "wrong-dimensions", "month"),
    ],
)
def test_axes_that_are_wrong(table: xr.Dataset, code: str, named: str) -> None:
    with rejects(code, named):
        looked_up(table, "2001-02-01")


def test_a_table_in_files_by_variable_and_by_hour(tmp_path: Path) -> None:
    table = make_table(365)
    table["surface_pressure"] = (1e5 + table["2m_temperature"]).assign_attrs(units="Pa")
    for name, dataset in table.items():
        for hour in (0, 12):  # a single hour, as a scalar in units that xarray decodes
            part = dataset.sel(hour=hour).to_dataset()
            part["hour"].attrs["units"] = "hours"
            rounded = part.assign_coords(longitude=part["longitude"] + (1e-5 if hour else 0))
            rounded.to_netcdf(tmp_path / f"{name}_{hour:02d}.nc")
    found = open_table(SourceConfig(path=str(tmp_path / "*.nc")))
    assert looked_up(found, "2001-01-05T12") == pytest.approx([5.12])
    pressure = from_table(found).at(
        Channel(name="surface_pressure"), np.array(["2001-01-05"], "datetime64[ns]")
    )
    np.testing.assert_allclose(pressure, 1e5 + 5)


def test_files_that_make_no_table(tmp_path: Path) -> None:
    table = make_table(12)
    table.to_netcdf(tmp_path / "a.nc")
    moved = table.assign_coords(longitude=table["longitude"] + 15, hour=[6, 18])
    moved.to_netcdf(tmp_path / "b.nc")
    with rejects("files-differ", str(tmp_path), "longitude"):
        open_table(SourceConfig(path=str(tmp_path)))

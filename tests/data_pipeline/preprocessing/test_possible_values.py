"""Undeclared marks of missing values are found, and weather never is."""

from pathlib import Path

import numpy as np
import pytest

from data_pipeline.channels import Channel, Channels
from data_pipeline.preparation.prepare import prepare
from data_pipeline.preprocessing.possible_values import PossibleValues
from data_pipeline.sources.config import SourceConfig
from tests.builders.errors import rejects
from tests.builders.experiments import GRID, make_data_config, make_dataset
from tests.builders.planes import SQUARE

TIMES = np.datetime64("2001-01-01", "ns") + np.arange(4) * np.timedelta64(6, "h")


def check(values: np.ndarray, name: str, units: str, level: int | None = None) -> None:
    channels = Channels((Channel(name=name, level=level, units=units),))
    PossibleValues(channels, GRID).check(values[:, None].astype(np.float32), TIMES)


def field(low: float, high: float) -> np.ndarray:
    return np.random.default_rng(0).uniform(low, high, (4, *GRID.shape))


@pytest.mark.parametrize(
    ("name", "level", "units", "low", "high"),
    [
        ("2m_temperature", None, "K", 190, 325),
        ("temperature", 1, "K", 180, 310),
        ("geopotential", 1000, "m2 s-2", -5500, 4500),
        ("geopotential", 1, "m2 s-2", 4.0e5, 4.9e5),
        ("vertical_velocity", 500, "Pa s-1", -200, 200),  # convection at a scale of kilometers
        ("specific_humidity", 850, "kg kg-1", -2e-5, 0.03),
        ("surface_pressure", None, "Pa", 31000, 108000),
        ("total_precipitation", None, "m", 0, 9),  # of a month
        ("toa_incident_solar_radiation", None, "J m-2", 0, 1.4e9),  # of a month
        ("total_cloud_cover", None, "%", 0, 100),
        ("potential_vorticity", 500, "PVU", -5, 80),
        ("salinity", None, "1", -9000, -0.5),
        ("number_density", None, "m-3", 1e16, 1e19),
    ],
)
def test_what_is_possible(
    name: str, level: int | None, units: str, low: float, high: float
) -> None:
    check(field(low, high), name, units, level)


@pytest.mark.parametrize(
    ("name", "units", "low", "high", "mark"),
    [
        ("sea_surface_temperature", "K", 271, 305, -9999),
        ("sea_surface_temperature", "K", 271, 305, 9.96921e36),
        ("sea_surface_temperature", "K", 271, 305, 0),
        ("sea_surface_temperature", "K", 271, 305, 273.15 - 327.67),  # packed -32767
        ("mean_sea_level_pressure", "Pa", 96000, 104000, -32767),
        ("geopotential_at_surface", "m2 s-2", -1000, 50000, -9999),
        ("surface_altitude", "m", -400, 8000, -999),
        ("salinity", "1", 0, 40, -999),
        ("salinity", "1", 0, 40, 1e20),
        ("salinity", "1", 0, 40, 9999),
    ],
)
def test_marks_are_named(name: str, units: str, low: float, high: float, mark: float) -> None:
    values = field(low, high)
    values[1:, 2, 3] = mark
    values[3, 0, 0] = np.nan
    text = str(np.float32(mark))
    named = (f"{name} has 3 impossible values", text, "2001-01-01T06:00", "latitude 15")
    with rejects("impossible-values", *named, f"data.source.missing={{{name}: {text}}}"):
        check(values, name, units)


def test_values_in_another_unit_are_named_with_the_range() -> None:
    with rejects("impossible-values", "2m_temperature", "expected 75 to 450 K"):
        check(field(-40, 40), "2m_temperature", "K")


def test_planes_have_no_ranges_but_marks() -> None:
    grid = SQUARE
    channels = Channels((Channel(name="temperature", units="1"),))
    values = np.random.default_rng(0).normal(size=(4, 1, *grid.shape)).astype(np.float32)
    PossibleValues(channels, grid).check(values, TIMES)
    values[:, 0, 0, 0] = 1e20
    with rejects("impossible-values", "temperature"):
        PossibleValues(channels, grid).check(values, TIMES)


def test_a_preparation_rejects_marks_and_reads_declared_ones_as_missing(tmp_path: Path) -> None:
    data, name = make_dataset(), "2m_temperature"
    data[name][:, 2, 3] = -9999
    data.to_netcdf(tmp_path / "data.nc")
    config = make_data_config(tmp_path / "data.nc", fill={name: 280.0})
    with rejects("impossible-values", name, "-9999"):
        prepare(config, tmp_path / "data.zarr")
    assert not (tmp_path / "data.zarr").exists()
    source = SourceConfig(path=str(tmp_path / "data.nc"), missing={name: -9999})
    config = make_data_config(tmp_path / "data.nc", fill={"t2m": 280.0}, source=source)
    store = prepare(config, tmp_path / "data.zarr")
    assert (store.dataset()[name][:, 2, 3] == 280).all()
    assert np.isnan(store.observed()[name]).sum() == len(store.times)


def test_static_fields_are_checked(tmp_path: Path) -> None:
    data = make_dataset()
    data["height"][:2] = -9999
    data.to_netcdf(tmp_path / "data.nc")
    with rejects("impossible-values", "height", "-9999", "24"):
        prepare(make_data_config(tmp_path / "data.nc"), tmp_path / "data.zarr")


def test_a_mark_that_occurs_once_is_far_from_all_others() -> None:
    values = field(250, 290)
    values[2, 1, 1] = -999
    with rejects("impossible-values", "brightness has 1 impossible values", "-999.0"):
        check(values, "brightness", "K")
    wide = field(-800, 1200)  # of which -999 is one more
    wide[2, 1, 1] = -999
    check(wide, "heat_flux", "W m-2")
    capped = field(0, 3000)
    capped[2, 1, 1] = 9999
    check(capped, "potential_energy", "J kg-1")

"""Derived variables by hand and by published values."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from data_pipeline.grids.grid import LatLonGrid
from data_pipeline.preparation.prepare import prepare
from data_pipeline.preprocessing.derived import needed_for, saturation_pressure, with_derived
from tests.builders.experiments import make_data_config, make_dataset

GRID = LatLonGrid.equiangular(4, 6)
DIMS = ("time", "latitude", "longitude")


def series(values: np.ndarray, hours: int = 1, **attrs: str) -> xr.DataArray:
    times = np.datetime64("2001-01-01", "ns") + np.arange(len(values)) * np.timedelta64(hours, "h")
    field = np.asarray(values, float)[:, None, None] + np.zeros(GRID.shape)
    return xr.DataArray(field, dims=DIMS, coords={"time": times, **GRID.coords}, attrs=attrs)


def test_wind_speed_by_hand() -> None:
    u, v = series(np.array([3.0, 0.0])), series(np.array([-4.0, 2.0]))
    names = ("10m_u_component_of_wind", "10m_v_component_of_wind")
    dataset = with_derived(xr.Dataset(dict(zip(names, (u, v), strict=True))), ["10m_wind_speed"])
    assert dataset["10m_wind_speed"][:, 0, 0].values.tolist() == [5, 2]
    assert dataset["10m_wind_speed"].attrs["units"] == "m s-1"


@pytest.mark.parametrize(
    ("celsius", "pascals"),
    # Over water, and over ice from -23 degrees down: CIMO Guide of the WMO, annex 4.B.
    [(20.0, 2338.8), (10.0, 1228.0), (-30.0, 38.0), (-50.0, 3.94)],
)
def test_saturation_pressure_is_that_of_tables(celsius: float, pascals: float) -> None:
    found = saturation_pressure(xr.DataArray(celsius + 273.15))
    assert float(found) == pytest.approx(pascals, rel=0.01)


def test_saturated_air_has_a_relative_humidity_of_one_hundred() -> None:
    temperature = series(np.array([220.0, 255.0, 270.0, 300.0])).expand_dims(level=[300, 850])
    pressure = 100.0 * temperature["level"]
    vapor, ratio = saturation_pressure(temperature), 287.0597 / 461.5250
    humidity = ratio * vapor / (pressure - (1 - ratio) * vapor)
    dataset = xr.Dataset({"temperature": temperature, "specific_humidity": humidity})
    found = with_derived(dataset, ["relative_humidity_850"])["relative_humidity"]
    np.testing.assert_allclose(found, 100, rtol=1e-6)
    halved = with_derived(dataset.assign(specific_humidity=0 * humidity), ["r300"])
    assert float(abs(halved["relative_humidity"]).max()) == 0


def test_variables_without_units_are_computed_again() -> None:
    """WeatherBench 2's relative humidity is a share without units."""
    temperature = series(np.array([280.0, 290.0]), units="K").expand_dims(level=[850])
    humidity = (0 * temperature + 0.005).assign_attrs(units="kg kg-1")
    share = xr.full_like(temperature, 0.5).drop_attrs()
    dataset = xr.Dataset({"temperature": temperature, "specific_humidity": humidity})
    ours = with_derived(dataset, ["r850"])["relative_humidity"]
    found = with_derived(dataset.assign(relative_humidity=share), ["r850"])["relative_humidity"]
    xr.testing.assert_identical(found, ours)
    stated = dataset.assign(relative_humidity=share.assign_attrs(units="%"))
    assert with_derived(stated, ["r850"]) is stated


def test_other_variables_stay_as_they_are() -> None:
    given = xr.Dataset({"10m_wind_speed": series(np.arange(3))})
    assert with_derived(given, ["10m_wind_speed", "relative_humidity", "unknown"]) is given


def test_a_store_with_a_derived_variable(tmp_path: Path) -> None:
    dataset = make_dataset()
    for name in ("u10", "v10"):
        dataset[name] = dataset["2m_temperature"] - 270
        dataset[name].attrs["units"] = "m s-1"
    dataset.to_netcdf(tmp_path / "data.nc")
    config = make_data_config(tmp_path / "data.nc", prognostic=["t2m", "10m_wind_speed"])
    store = prepare(config, tmp_path / "data.zarr")
    assert store.channels.labels == ["2m_temperature", "10m_wind_speed"]
    found = store.dataset()
    expected = np.sqrt(2) * abs(found["2m_temperature"] - 270)
    np.testing.assert_allclose(found["10m_wind_speed"], expected, rtol=1e-5, atol=1e-4)


def test_half_precision_is_widened_before_it_is_computed_with() -> None:
    """9000 m times gravity is more than float16 holds."""
    heights = xr.DataArray(np.full((2, 2), 9000, np.float16), dims=("latitude", "longitude"))
    dataset = xr.Dataset({"surface_altitude": heights.assign_attrs(units="m")})
    derived = with_derived(dataset, ["geopotential_at_surface"])["geopotential_at_surface"]
    np.testing.assert_allclose(derived, 9000 * 9.80665, rtol=1e-6)


def test_what_a_variable_can_be_computed_from_is_needed() -> None:
    found = needed_for(["r500", "log_total_precipitation_6hr", "t2m"])
    assert found == {
        *("relative_humidity", "specific_humidity", "temperature", "2m_temperature"),
        *("log_total_precipitation_6hr", "total_precipitation_6hr", "total_precipitation"),
    }

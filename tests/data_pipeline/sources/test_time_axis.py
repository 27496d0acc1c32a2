"""Times of sources are valid times of the standard calendar."""

from pathlib import Path

import eccodes
import numpy as np
import pytest
import xarray as xr

from data_pipeline.sources.time_axis import as_durations, snap_times
from fourcastnet_afno.evaluation.inputs.time_axes import parse_lead_times
from tests.builders.era5 import ERA5_GRID, make_era5, read_source
from tests.builders.errors import rejects


def test_calendars_without_leap_days_leave_them_out(tmp_path: Path) -> None:
    times = xr.date_range("2004-02-27", periods=4, calendar="noleap", use_cftime=True)
    values = np.arange(4.0)[:, None, None] + np.zeros(ERA5_GRID.shape)
    dataset = xr.Dataset({"t2m": (("time", "latitude", "longitude"), values)})
    dataset = dataset.assign_coords({"time": times, **ERA5_GRID.coords})
    dataset["t2m"].attrs["units"] = "K"
    dataset.to_netcdf(tmp_path / "model.nc")
    found = read_source(tmp_path / "model.nc")
    days = found["time"].values.astype("datetime64[D]").astype(str).tolist()
    assert days == ["2004-02-27", "2004-02-28", "2004-03-01", "2004-03-02"]
    assert found["2m_temperature"].values[:, 0, 0].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("edition", [1, 2])
def test_grib_accumulations_have_one_time(tmp_path: Path, edition: int) -> None:
    """ERA5's precipitation: forecasts from 06 and 18 UTC, each of twelve single hours."""
    values = np.random.default_rng(0).random((24, 84))
    steps = [(start, step) for start in (6, 18) for step in range(1, 13)]
    with (tmp_path / "tp.grib").open("wb") as file:
        for (start, step), field in zip(steps, values, strict=True):
            message = eccodes.codes_grib_new_from_samples(f"regular_ll_sfc_grib{edition}")
            keys = {"Ni": 12, "Nj": 7, "longitudeOfLastGridPointInDegrees": 330}
            keys |= {"latitudeOfFirstGridPointInDegrees": 90}
            keys |= {"latitudeOfLastGridPointInDegrees": -90}
            keys |= {f"{axis}DirectionIncrementInDegrees": 30 for axis in "ij"}
            keys |= {"dataDate": 20010101, "dataTime": 100 * start}
            keys |= {"productDefinitionTemplateNumber": 8} if edition == 2 else {}
            keys |= {"shortName": "tp", "stepType": "accum", "stepRange": f"{step - 1}-{step}"}
            keys |= {"bitsPerValue": 24}
            for key, value in keys.items():
                eccodes.codes_set(message, key, value)
            eccodes.codes_set_values(message, field)
            eccodes.codes_write(message, file)
            eccodes.codes_release(message)
    found = read_source(tmp_path / "tp.grib", units={"total_precipitation": "m"})[
        "total_precipitation"
    ]
    assert found.dims == ("time", "latitude", "longitude")
    expected = np.datetime64("2001-01-01T07", "ns") + np.arange(24) * np.timedelta64(1, "h")
    np.testing.assert_array_equal(found["time"], expected)
    np.testing.assert_allclose(found.values.reshape(24, -1), values, atol=1e-6)


def test_times_that_arco_has_not_filled_are_left_out(tmp_path: Path) -> None:
    """Its axis continues to 2050; times that are not filled read as NaN."""
    era5 = make_era5()
    filled = era5.where(era5["time"] < np.datetime64("2001-01-02"))
    era5["2m_temperature"].values[:] = filled["2m_temperature"]
    era5.attrs = {"valid_time_start": "2001-01-01", "valid_time_stop": "2001-01-01"}
    era5.to_zarr(tmp_path / "arco.zarr", zarr_format=2, consolidated=True)
    found = read_source(tmp_path / "arco.zarr")
    assert [str(time)[:13] for time in found["time"].values[[0, -1]]] == [
        "2001-01-01T00",
        "2001-01-01T18",
    ]
    assert found["2m_temperature"].notnull().all()


HOURLY = np.datetime64("2001-01-01", "ns") + np.arange(200) * np.timedelta64(1, "h")


@pytest.mark.parametrize(
    "noise", [np.timedelta64(30, "us"), np.timedelta64(9, "ms"), np.timedelta64(500, "ms")]
)
def test_times_that_are_off_by_digits_are_rounded(noise: np.timedelta64) -> None:
    off = noise * np.resize([1, -1, 0], len(HOURLY))
    np.testing.assert_array_equal(snap_times(HOURLY + off), HOURLY)
    np.testing.assert_array_equal(snap_times(HOURLY - HOURLY[0] + off), HOURLY - HOURLY[0])


@pytest.mark.parametrize("milliseconds", [30_000, 90_000, 1000, 500, 100, 3_600_100])
def test_true_steps_of_any_length_are_kept(milliseconds: int) -> None:
    times = HOURLY[0] + np.arange(100) * np.timedelta64(milliseconds, "ms")
    np.testing.assert_array_equal(snap_times(times), times)


def test_missing_times_stay_missing() -> None:
    times = np.array(["2001-01-01T00:00:00.000010", "NaT"], "datetime64[ns]")
    assert np.isnat(snap_times(times)).tolist() == [False, True]
    assert len(snap_times(times[:0])) == 0


@pytest.mark.parametrize("minutes", [30, 60, 180])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("units", ["days since 1970-01-01", "hours since 1900-01-01"])
def test_times_are_rounded_to_the_digits_of_their_numbers(
    tmp_path: Path, minutes: int, dtype: str, units: str
) -> None:
    """Float32 days since 1970 are 84 s apart in 2001."""
    times = HOURLY[0] + np.arange(40) * np.timedelta64(minutes, "m")
    fields = np.zeros((40, *ERA5_GRID.shape), np.float32)
    dataset = xr.Dataset(
        {"t2m": (("time", "latitude", "longitude"), fields, {"units": "K"})},
        {"time": times, **ERA5_GRID.coords},
    )
    encoding = {"time": {"dtype": dtype, "units": units}}
    dataset.to_netcdf(tmp_path / "t2m.nc", encoding=encoding)
    np.testing.assert_array_equal(read_source(tmp_path / "t2m.nc")["time"], times)


def test_a_state_without_a_time_is_named(tmp_path: Path) -> None:
    era5 = make_era5()
    times = era5["time"].values.copy()
    times[3] = np.datetime64("NaT")
    era5.assign_coords(time=times).to_netcdf(tmp_path / "era5.nc")
    with rejects("no-times", "era5.nc", "index 3"):
        read_source(tmp_path / "era5.nc")


@pytest.mark.parametrize(
    ("units", "unit"),
    [
        *(("weeks", "W"), ("Days", "D"), ("hr", "h"), ("HOURS", "h"), ("mins", "m"), ("sec", "s")),
        *(("msec", "ms"), ("usec", "us"), ("microsec", "us"), ("nsec", "ns")),
    ],
)
def test_steps_and_lead_times_are_read_in_the_same_units(units: str, unit: str) -> None:
    stored = xr.Variable("step", [0.0, 2.0], {"units": units})
    expected = np.array([0, 2], f"timedelta64[{unit}]")
    steps = as_durations(xr.DataArray(stored, name="step"), "a.nc")
    np.testing.assert_array_equal(steps, expected)
    np.testing.assert_array_equal(parse_lead_times(stored, "f.nc")[0], expected)

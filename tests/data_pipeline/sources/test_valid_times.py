"""The time of a source is the valid time, whatever its file calls starts and steps."""

import cftime
import numpy as np
import pytest
import xarray as xr

from data_pipeline.sources.canonical import canonicalize
from data_pipeline.sources.config import SourceConfig
from tests.builders.errors import rejects

HOUR = np.timedelta64(3_600_000_000_000, "ns")
START = np.datetime64("2001-01-01", "ns") + 12 * np.arange(4) * HOUR
STEPS = 6 * np.arange(1, 3) * HOUR  # 6 and 12 hours: every valid time once
SPACE = {"latitude": [45.0, -45.0], "longitude": [0.0, 90.0, 180.0, 270.0]}
SIX = np.timedelta64(6, "h").astype("timedelta64[ns]")


def forecasts(start: str, step: str, steps: np.ndarray = STEPS) -> xr.Dataset:
    """Values are the hours since the year began at which they are valid."""
    coords = {start: START, step: steps, **SPACE}
    hours = (START[:, None] + steps - START[0]) / HOUR
    values = hours[:, :, None, None] + np.zeros((2, 4))
    return xr.Dataset({"t2m": ((start, step, *SPACE), values, {"units": "K"})}, coords)


def read(dataset: xr.Dataset, **rename: str) -> xr.DataArray:
    source = SourceConfig(path="a.nc", rename=rename)  # type: ignore[arg-type]
    return canonicalize(dataset, source)["2m_temperature"]


def assert_valid(found: xr.DataArray, count: int) -> None:
    assert found.dims == ("time", *SPACE)
    assert found.sizes["time"] == count
    hours = (found["time"].values - START[0]) / HOUR
    np.testing.assert_array_equal(found.values[:, 0, 0], hours)


LAYOUTS = [
    ("time", "step"),
    ("forecast_reference_time", "forecast_period"),
    ("init_time", "lead_time"),
    ("time", "prediction_timedelta"),
]


@pytest.mark.parametrize(("start", "step"), LAYOUTS)
@pytest.mark.parametrize("with_valid_time", [True, False])
@pytest.mark.parametrize("steps", ["one", "scalar", "many"])
def test_layouts_of_forecasts_become_a_series(
    start: str, step: str, with_valid_time: bool, steps: str
) -> None:
    dataset = forecasts(start, step)
    if with_valid_time:
        valid = (START[:, None] + STEPS).astype("datetime64[ns]")
        dataset = dataset.assign_coords(valid_time=((start, step), valid))
    dataset = {
        "one": dataset.isel({step: [0]}),
        "scalar": dataset.isel({step: 0}),
        "many": dataset,
    }[steps]
    assert_valid(read(dataset), 8 if steps == "many" else 4)


def test_one_forecast_is_a_series() -> None:
    assert_valid(read(forecasts("time", "step").isel(time=[0])), 2)


def test_steps_are_stacked_lazily() -> None:
    dataset = forecasts("time", "step")
    found = read(dataset.chunk(time=1))
    assert found.chunks is not None
    assert_valid(found, 8)


def test_standard_names_decide_where_names_do_not() -> None:
    dataset = forecasts("t0", "tau").isel(tau=[1])
    dataset["t0"].attrs["standard_name"] = "forecast_reference_time"
    dataset["tau"].attrs["standard_name"] = "forecast_period"
    assert_valid(read(dataset), 4)


def test_steps_may_be_numbers_of_hours() -> None:
    dataset = forecasts("time", "step")
    hours = ("step", np.array([6.0, 12.0], np.float32), {"units": "hours"})
    assert_valid(read(dataset.assign_coords(step=hours)), 8)
    with rejects("units-mismatch", "a.nc", "step", "furlongs"):
        read(dataset.assign_coords(step=("step", [6, 12], {"units": "furlongs"})))


def test_dates_of_other_calendars_are_added() -> None:
    dates = [cftime.DatetimeNoLeap(2001, 1, day, hour) for day in (1, 2) for hour in (0, 12)]
    dataset = forecasts("time", "step").assign_coords(time=dates)
    assert_valid(read(dataset), 8)


def test_time_is_valid_next_to_its_start() -> None:
    """Climate and forecast files of CF: the period is stated, not to be added."""
    dataset = forecasts("init_time", "step").isel(step=0)
    valid = dataset["init_time"].values + SIX
    dataset = dataset.rename(init_time="time", step="forecast_period").assign_coords(time=valid)
    with_start = dataset.assign_coords(forecast_reference_time=("time", valid - SIX))
    assert_valid(read(with_start), 4)
    dataset["time"].attrs["standard_name"] = "time"
    assert_valid(read(dataset), 4)


def test_a_step_of_zero_changes_nothing() -> None:
    dataset = forecasts("time", "step", np.array([0, 6]) * HOUR).isel(step=0)
    assert_valid(read(dataset), 4)


def test_valid_times_that_repeat_are_rejected_with_the_setting_that_takes_a_step() -> None:
    overlapping = forecasts("time", "step", 12 * np.arange(1, 3) * HOUR)
    with rejects("ambiguous-times", "a.nc", "4 along time", "data.source.select={step: 6}"):
        read(overlapping)


def test_a_start_alone_is_no_valid_time() -> None:
    dataset = forecasts("time", "step").isel(step=0, drop=True)
    dataset["time"].attrs["standard_name"] = "forecast_reference_time"
    with rejects("ambiguous-times", "a.nc", "{time: valid_time}"):
        read(dataset)
    named = read(dataset, time="valid_time")
    np.testing.assert_array_equal(named["time"], START)


def test_times_of_both_readings_are_rejected_until_one_is_named() -> None:
    dataset = forecasts("time", "forecast_period")
    dataset["time"].attrs["standard_name"] = "time"
    with rejects("ambiguous-times", "a.nc", "forecast_period"):
        read(dataset)
    assert_valid(read(dataset, time="forecast_reference_time"), 8)


def test_valid_times_that_contradict_start_and_step_are_rejected() -> None:
    dataset = forecasts("time", "step").isel(step=0)
    dataset = dataset.assign_coords(valid_time=("time", START))
    with rejects("ambiguous-times", "valid_time", "time + step", "360 minutes"):
        read(dataset)


def test_steps_without_starts_are_rejected() -> None:
    dataset = forecasts("time", "step").isel(time=0, drop=True)
    with rejects("ambiguous-times", "no starts"):
        read(dataset)

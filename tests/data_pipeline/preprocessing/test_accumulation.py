"""Accumulations by hand: windows end at the state, successive windows add up to the total."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from data_pipeline.grids.grid import LatLonGrid
from data_pipeline.periods import Period
from data_pipeline.preparation.prepare import prepare
from data_pipeline.preprocessing.accumulation import AccumulateRule, accumulate
from data_pipeline.timestep import Timestep
from tests.builders.errors import rejects
from tests.builders.experiments import make_data_config

GRID = LatLonGrid.equiangular(4, 6)
RAIN = "total_precipitation"

SIX_HOURS = Timestep.parse("6h")


def hourly(num_hours: int = 31, step_hours: int = 1, start: str = "2001-01-01") -> xr.Dataset:
    """Rain of 1, 2, 3, ... mm, twice as much at each longitude, and 280 K plus the hour."""
    steps = np.arange(num_hours // step_hours)
    times = np.datetime64(start, "ns") + steps * np.timedelta64(step_hours, "h")
    plane = np.ones(GRID.shape) * 2.0 ** np.arange(GRID.shape[1])
    dims = ("time", *GRID.dims)
    rain = 1e-3 * (steps + 1)[:, None, None] * plane
    hour = 280.0 + steps[:, None, None] + 0 * plane
    dataset = xr.Dataset(
        {RAIN: (dims, rain, {"units": "m"}), "2m_temperature": (dims, hour, {"units": "K"})},
        {"time": times, **GRID.coords},
    )
    return dataset.chunk(time=1)


def everything(times: np.ndarray) -> np.ndarray:
    return np.ones(len(times), bool)


def resampled(
    dataset: xr.Dataset,
    rules: dict[str, AccumulateRule],
    variables: Sequence[str] = (RAIN, "2m_temperature"),
    step: Timestep = SIX_HOURS,
    allow_gaps: bool = False,
) -> xr.Dataset:
    return accumulate(dataset, variables, rules, step, everything, allow_gaps).compute()


def test_sums_end_at_the_state_and_instants_are_thinned() -> None:
    found = resampled(hourly(), {RAIN: "sum"})
    # The window of 00 UTC reaches back before the data: it is left out.
    assert [str(time)[11:13] for time in found["time"].values] == ["06", "12", "18", "00", "06"]
    # At 06 UTC (the seventh value) the hours 01, ..., 06: 2 + 3 + ... + 7 mm.
    np.testing.assert_allclose(found[RAIN][0, 0, :2], [0.027, 0.054], rtol=1e-12)
    assert found["2m_temperature"][:, 0, 0].values.tolist() == [286, 292, 298, 304, 310]
    assert found[RAIN].attrs["units"] == "m"


def test_the_total_is_conserved() -> None:
    source = hourly(49)
    found = resampled(source, {RAIN: "sum"})
    covered = source[RAIN].isel(time=slice(1, None)).sum("time")
    np.testing.assert_allclose(found[RAIN].sum("time"), covered, rtol=1e-12)


def test_means_are_sums_over_their_number_and_last_is_the_value() -> None:
    source = hourly()
    total, mean = (resampled(source, {RAIN: rule})[RAIN] for rule in ("sum", "mean"))
    np.testing.assert_allclose(6 * mean, total, rtol=1e-12)
    last = resampled(source, {RAIN: "last"})
    xr.testing.assert_identical(last[RAIN], source[RAIN].compute())


@pytest.mark.parametrize("step_hours", [2, 3])
def test_coarser_accumulations_add_up_alike(step_hours: int) -> None:
    """What was accumulated over 2 or 3 hours before gives the same sums."""
    fine = hourly(48 + 1)
    first, rest = fine.isel(time=[0]), fine.isel(time=slice(1, None))
    summed = rest.coarsen(time=step_hours).sum()
    ends = rest["time"].values[step_hours - 1 :: step_hours]
    coarse = xr.concat([first, summed.assign_coords(time=ends)], "time")
    for name in fine.data_vars:
        coarse[name].attrs = fine[name].attrs
    expected = resampled(fine, {RAIN: "sum"})[RAIN]
    np.testing.assert_allclose(resampled(coarse, {RAIN: "sum"})[RAIN], expected, rtol=1e-12)


def test_six_hours_of_precipitation_and_their_logarithm() -> None:
    wanted = ["total_precipitation_6hr", "log_total_precipitation_6hr"]
    source = hourly()
    found = resampled(source, {}, wanted)
    expected = resampled(source, {RAIN: "sum"})[RAIN]
    np.testing.assert_array_equal(found["total_precipitation_6hr"], expected)
    logs = np.log(1 + found["total_precipitation_6hr"] / 1e-5)
    np.testing.assert_allclose(found["log_total_precipitation_6hr"], logs, rtol=1e-12)
    daily = resampled(source, {}, wanted[:1], step=Timestep.parse("1D"))
    assert str(daily["time"].values[0])[:13] == "2001-01-02T00"
    np.testing.assert_allclose(daily[wanted[0]][0], expected[3], rtol=1e-12)
    given = found[["total_precipitation_6hr"]]  # as WeatherBench 2 has it
    again = resampled(given, {}, wanted)["log_total_precipitation_6hr"]
    np.testing.assert_array_equal(again, found["log_total_precipitation_6hr"])


def test_derived_variables_are_averaged_too() -> None:
    source = hourly()
    for name in ("10m_u_component_of_wind", "10m_v_component_of_wind"):
        source[name] = source["2m_temperature"].assign_attrs(units="m s-1")
    found = resampled(source, {"10m_wind_speed": "mean"}, ["10m_wind_speed"])
    expected = np.sqrt(2) * (281 + np.arange(6)).mean()
    np.testing.assert_allclose(found["10m_wind_speed"][0], expected, rtol=1e-12)


def test_a_gap_in_a_window_is_rejected_or_left_out() -> None:
    source = hourly().drop_isel(time=9)  # 09 UTC, in the window that ends at 12
    with rejects("gap-in-time", "T12", "T10", "2 h", "1 states"):
        resampled(source, {RAIN: "sum"})
    found = resampled(source, {RAIN: "sum"}, allow_gaps=True)
    assert [str(time)[11:13] for time in found["time"].values] == ["06", "18", "00", "06"]


@pytest.mark.parametrize("minutes", [-10, 10])
def test_a_shifted_time_is_named(minutes: int) -> None:
    """One of 31 hourly times is not on the hour: the others have steps of 1 h all the same."""
    source = hourly()
    times = source["time"].values.copy()
    times[9] += np.timedelta64(minutes, "m")
    shifted = source.assign_coords(time=times)
    with rejects("gap-in-time", "T12", str(times[9])[:16], f"{60 + minutes} min"):
        resampled(shifted, {RAIN: "sum"})
    found = resampled(shifted, {RAIN: "sum"}, allow_gaps=True)
    assert [str(time)[11:13] for time in found["time"].values] == ["06", "18", "00", "06"]
    np.testing.assert_array_equal(found[RAIN][1], resampled(source, {RAIN: "sum"})[RAIN][2])


def test_gaps_outside_of_the_periods_do_not_matter() -> None:
    source = hourly().drop_isel(time=3)
    later = accumulate(
        source,
        [RAIN],
        {RAIN: "sum"},
        SIX_HOURS,
        lambda t: t > np.datetime64("2001-01-01T10"),
        False,
    )
    assert len(later["time"]) == 4


@pytest.mark.parametrize(
    ("step_hours", "rules", "code", "named"),
    [
        (1, {}, "accumulation-rule", "data.accumulate={total_precipitation: sum}"),
        (6, {RAIN: "sum"}, "timestep-mismatch", "steps of 6 h"),
        (4, {RAIN: "sum"}, "timestep-mismatch", "steps of 4 h"),
        (1, {RAIN: "sum", "snowfall": "sum"}, "bad-setting", "snowfall"),
    ],
)
def test_sums_without_their_parts_are_rejected(
    step_hours: int, rules: dict[str, AccumulateRule], code: str, named: str
) -> None:
    with rejects(code, named):
        resampled(hourly(48, step_hours), rules)


def test_accumulations_on_their_own_times_stay_as_they_are() -> None:
    source = hourly(48, 6)
    assert accumulate(source, [RAIN], {}, SIX_HOURS, everything, False) is source
    with rejects("timestep-mismatch", "total_precipitation_6hr"):
        resampled(source, {}, ["total_precipitation_6hr"])


def test_a_store_with_accumulations(tmp_path: Path) -> None:
    source = hourly(24 * 6 + 1)
    source.to_netcdf(tmp_path / "data.nc")
    config = make_data_config(
        tmp_path / "data.nc",
        prognostic=["tp", "t2m", "log_total_precipitation_6hr"],
        static=[],
        accumulate={"tp": "sum"},
        timestep_hours=6,
        train=Period(start="2001-01-01", end="2001-01-02"),
        validation=Period(start="2001-01-03", end="2001-01-04"),
        test=Period(start="2001-01-05", end="2001-01-06"),
    )
    store = prepare(config, tmp_path / "data.zarr")
    assert str(store.times[0])[:13] == "2001-01-01T06"
    assert len(store.times) == 23
    expected = resampled(source, {RAIN: "sum"})
    found = store.dataset()
    np.testing.assert_allclose(found[RAIN], expected[RAIN][:23], rtol=1e-6)
    logs = np.log1p(found[RAIN] / 1e-5)
    np.testing.assert_allclose(found["log_total_precipitation_6hr"], logs, rtol=1e-5)

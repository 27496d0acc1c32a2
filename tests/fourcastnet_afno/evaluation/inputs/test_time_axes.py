"""Initial and lead times are told by their meaning, whatever their names and shapes."""

from collections.abc import Sequence

import numpy as np
import pytest
import xarray as xr

from fourcastnet_afno.evaluation.inputs.time_axes import parse_lead_times, with_time_axes
from tests.builders.errors import rejects

HOUR = np.timedelta64(3600 * 10**9, "ns")
INITS = np.datetime64("2001-01-01", "ns") + 12 * HOUR * np.arange(3)
LEADS = 6 * HOUR * np.arange(1, 3)
VALID = INITS[:, None] + LEADS
REFERENCE = {"standard_name": "forecast_reference_time"}
PERIOD = {"standard_name": "forecast_period"}
TIME = {"standard_name": "time"}


def fields(*dims: str, **coords: object) -> xr.Dataset:
    """Numbers that tell initial and lead time apart."""
    sizes = {"y": 2, "x": 3} | dict(xr.Dataset(coords=coords).sizes)
    sizes = {dim: sizes[dim] for dim in dims}
    values = np.arange(np.prod(list(sizes.values())), dtype="f4")
    return xr.Dataset({"t": (dims, values.reshape(list(sizes.values())))}, coords)


def both(init: str, lead: str, **coords: object) -> xr.Dataset:
    return fields(init, lead, "y", "x", **{init: INITS, lead: LEADS}, **coords)


TABLES = [
    both("init_time", "lead_time"),
    both("time", "prediction_timedelta"),
    both("time", "step", valid_time=(("time", "step"), VALID)),
    both("init_time", "lead_time", time=(("init_time", "lead_time"), VALID)),
    both("forecast_reference_time", "forecast_period"),
    both("time", "ahead").assign_coords(ahead=("ahead", LEADS, PERIOD)),
    both("run", "step").assign_coords(run=("run", INITS, REFERENCE)),
    both("run", "step", forecast_reference_time=("run", INITS)).drop_vars("run"),
    fields("batch", "time", "y", "x", time=LEADS, datetime=(("batch", "time"), VALID)),  # GraphCast
    # The valid times alone tell how far ahead the second axis lies.
    both("init_time", "k", valid_time=(("init_time", "k"), VALID)).drop_vars("k"),
    # Numbers without units are hours, unless valid times say otherwise.
    both("init_time", "step", valid_time=(("init_time", "step"), VALID)).assign_coords(
        step=[360, 720]
    ),
]


@pytest.mark.parametrize("dataset", TABLES)
def test_two_axes(dataset: xr.Dataset) -> None:
    found, notes = with_time_axes(dataset, "f.nc")
    assert found["t"].dims == ("init_time", "lead_time", "y", "x")
    np.testing.assert_array_equal(found["init_time"], INITS)
    np.testing.assert_array_equal(found["lead_time"], LEADS)
    np.testing.assert_array_equal(found["t"], dataset["t"])
    assert notes == []
    again, _ = with_time_axes(found, "f.nc")
    xr.testing.assert_identical(again, found)


def one_run(**coords: object) -> xr.Dataset:
    return fields("time", "y", "x", time=("time", VALID[0], TIME), **coords)


RUNS = [
    fields("step", "y", "x", step=LEADS, time=INITS[0]),
    fields("step", "y", "x", step=LEADS, time=INITS[0], valid_time=("step", VALID[0])),
    one_run(forecast_reference_time=INITS[0]),
    one_run(run=((), INITS[0], REFERENCE)),
    one_run().assign(forecast_reference_time=((), INITS[0])),
    one_run(step=("time", LEADS)),
    one_run(step=("time", LEADS), forecast_reference_time=("time", INITS[[0, 0]])),
    one_run(init_time=("init_time", INITS[:1])),
]


@pytest.mark.parametrize("dataset", RUNS)
def test_a_single_initial_time(dataset: xr.Dataset) -> None:
    found, _ = with_time_axes(dataset, "f.nc")
    assert found.sizes["init_time"] == 1
    assert found["init_time"].values[0] == INITS[0]
    np.testing.assert_array_equal(found["lead_time"], LEADS)
    values = found["t"].transpose("init_time", "lead_time", "y", "x").values
    np.testing.assert_array_equal(values[0], dataset["t"].values)


@pytest.mark.parametrize(
    "dataset",
    [
        fields("init_time", "y", "x", init_time=INITS, lead_time=LEADS[0]),
        fields("time", "y", "x", time=INITS, step=LEADS[0]),
        fields("time", "y", "x", time=("time", VALID[:, 0], TIME), step=LEADS[0]),
        fields("time", "y", "x", time=INITS, valid_time=("time", VALID[:, 0])),
        fields("valid_time", "y", "x", valid_time=VALID[:, 0], step=("valid_time", LEADS[[0] * 3])),
    ],
)
def test_a_single_lead_time(dataset: xr.Dataset) -> None:
    found, _ = with_time_axes(dataset, "f.nc")
    np.testing.assert_array_equal(found["init_time"], INITS)
    np.testing.assert_array_equal(found["lead_time"], LEADS[:1])
    values = found["t"].transpose("lead_time", "init_time", "y", "x").values
    np.testing.assert_array_equal(values[0], dataset["t"].values)


@pytest.mark.parametrize(
    ("dataset", "code", "named"),
    [
        (fields("time", "y", "x", time=INITS), "missing-axis", "lead_time"),
        (one_run(), "missing-axis", "lead_time"),
        (fields("lead_time", "y", "x", lead_time=LEADS), "missing-axis", "init_time or time"),
        (both("init_time", "lead_time").drop_vars("lead_time"), "missing-axis", "axis lead_time"),
        (both("time", "step").assign_coords(time=[0, 12, 24]), "no-times", "int64"),
        (both("valid_time", "lead_time"), "other-layout", "valid_time"),
        (
            fields("init_time", "time", "y", "x", init_time=INITS, time=VALID[0]),
            "other-layout",
            "along",
        ),
        (
            both("init_time", "step", valid_time=(("init_time", "step"), VALID + 24 * HOUR)),
            "other-layout",
            "2001-01-02T06",
        ),
        (both("time", "step").assign_coords(step=LEADS - 12 * HOUR), "negative-lead-times", "-6 h"),
        (both("time", "step").assign_coords(step=["6", "12"]), "units-mismatch", "such as 6h"),
    ],
)
def test_axes_that_do_not_say_enough(dataset: xr.Dataset, code: str, named: str) -> None:
    with rejects(code, "f.nc", named):
        with_time_axes(dataset, "f.nc")


def in_calendar(calendar: str, start: str, leads: np.ndarray) -> xr.Dataset:
    inits = xr.date_range(start, periods=3, freq="D", calendar=calendar, use_cftime=True)
    return fields("init_time", "lead_time", "y", "x", init_time=inits, lead_time=leads)


def test_the_calendar_is_kept() -> None:
    found, notes = with_time_axes(in_calendar("noleap", "2004-02-27", LEADS), "f.nc")
    days = found["init_time"].values.astype("datetime64[D]").astype(str).tolist()
    assert days == ["2004-02-27", "2004-02-28", "2004-03-01"]
    assert found.attrs["calendar"] == "noleap"
    assert notes == []


def test_initial_times_of_other_calendars_that_do_not_exist_are_left_out() -> None:
    found, notes = with_time_axes(in_calendar("360_day", "2003-02-28", LEADS), "f.nc")
    assert found.sizes["init_time"] == 1
    assert "2 initial times of f.nc" in notes[0]


def test_years_that_nanoseconds_do_not_reach() -> None:
    with rejects("no-times", "0001-01-01", "1678"):
        with_time_axes(in_calendar("noleap", "0001-01-01", LEADS), "f.nc")


def test_noleap_runs_that_are_stored_by_valid_time() -> None:
    """Feb 28 and Mar 1 are a day apart."""
    valid = xr.date_range("2004-02-28", periods=3, freq="D", calendar="noleap", use_cftime=True)
    dataset = fields("time", "y", "x", time=valid, forecast_reference_time=valid[0])
    found, _ = with_time_axes(dataset, "f.nc")
    np.testing.assert_array_equal(found["lead_time"] / (24 * HOUR), [0, 1, 2])


SIX_HOURS = np.arange(1, 5) * np.timedelta64(6 * 3600 * 10**9, "ns")


def stored(values: Sequence[object] | np.ndarray, units: str = "") -> xr.Variable:
    return xr.Variable("lead_time", np.asarray(values), {"units": units} if units else {})


@pytest.mark.parametrize(
    ("size", "units"),
    [
        (6, "hours"),
        (6, "h"),
        (6, "Hours"),
        (6, "hr"),
        (6, "hours since the initial time"),
        (0.25, "days"),
        (0.25, "d"),
        (360, "min"),
        (360, "minutes"),
        (21600, "s"),
        (21600 * 10**9, "nanoseconds"),
        (0.25 / 7, "weeks"),
    ],
)
def test_units(size: float, units: str) -> None:
    for dtype in ["f4", "f8", *(["i8"] if size >= 1 else [])]:
        values = (size * np.arange(1, 5)).astype(dtype)
        found, note = parse_lead_times(stored(values, units), "f.nc")
        np.testing.assert_array_equal(found, SIX_HOURS)
        assert found.dtype == "timedelta64[ns]"
        assert not note


def test_hours_as_fractions_of_a_day_in_single_precision() -> None:
    """A third of the hours of ten days are no float32 numbers of days."""
    days = (np.arange(1, 241) / 24).astype("f4")
    found, _ = parse_lead_times(stored(days, "days"), "f.nc")
    np.testing.assert_array_equal(found / np.timedelta64(1, "h"), np.arange(1, 241))


@pytest.mark.parametrize("words", [["6h", "12h"], ["PT6H", "PT12H"], ["06:00:00", "12:00:00"]])
def test_text(words: list[str]) -> None:
    np.testing.assert_array_equal(parse_lead_times(stored(words), "f.nc")[0], SIX_HOURS[:2])


def test_an_empty_axis_of_lead_times_is_named() -> None:
    with rejects("no-lead-times", "f.nc"):
        parse_lead_times(stored(SIX_HOURS[:0]), "f.nc")


def test_durations_of_any_unit() -> None:
    seconds = SIX_HOURS.astype("timedelta64[s]")
    np.testing.assert_array_equal(parse_lead_times(stored(seconds), "f.nc")[0], SIX_HOURS)


def test_months_stay_months() -> None:
    found, _ = parse_lead_times(stored([1, 2], "months"), "f.nc")
    np.testing.assert_array_equal(found, np.array([1, 2], "timedelta64[M]"))


def test_numbers_without_units_are_hours_and_said_to_be() -> None:
    found, note = parse_lead_times(stored([6, 12, 18, 24]), "f.nc")
    np.testing.assert_array_equal(found, SIX_HOURS)
    assert "f.nc" in note
    assert "hours" in note


@pytest.mark.parametrize(
    ("values", "units", "named"),
    [
        ([6, 12], "fortnights", "'fortnights'"),
        ([6.5, 12], "months", "'months'"),
        (SIX_HOURS.astype("int64"), "", "without units"),
        ([21600.0, 43200.0], "", "without units"),
        ([6.0, np.nan], "hours", "not finite"),
        ([6, 10**9], "days", "1000000000 days"),
        (["soon", "later"], "", "soon"),
        (np.array(["2001-01-01"], "datetime64[ns]"), "", "2001-01-01"),
        (np.array(["NaT", 1], "timedelta64[ns]"), "", "missing"),
    ],
)
def test_what_is_no_duration_is_rejected(values: Sequence[object], units: str, named: str) -> None:
    with rejects("units-mismatch", "f.nc", named):
        parse_lead_times(stored(values, units), "f.nc")

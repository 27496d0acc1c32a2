"""Lead times in any spelling of their units are the same durations."""

from collections.abc import Sequence

import numpy as np
import pytest
import xarray as xr

from fourcastnet_afno.evaluation.inputs.lead_times import has_units, parse_lead_times
from tests.builders.errors import rejects

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
@pytest.mark.parametrize("dtype", ["f4", "f8", "i8"])
def test_units(size: float, units: str, dtype: str) -> None:
    if dtype == "i8" and size < 1:
        pytest.skip("no integer")
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


def test_durations_of_any_unit() -> None:
    seconds = SIX_HOURS.astype("timedelta64[s]")
    np.testing.assert_array_equal(parse_lead_times(stored(seconds), "f.nc")[0], SIX_HOURS)


def test_months_stay_months() -> None:
    found, _ = parse_lead_times(stored([1, 2], "months"), "f.nc")
    np.testing.assert_array_equal(found, np.array([1, 2], "timedelta64[M]"))


def test_numbers_without_units_are_hours_and_said_to_be() -> None:
    assert not has_units(stored([6, 12]))
    assert has_units(stored([6, 12], "h"))
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

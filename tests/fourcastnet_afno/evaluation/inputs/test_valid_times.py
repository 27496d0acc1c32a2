"""Valid times are dates of the forecast's own calendar."""

import numpy as np
import xarray as xr

from fourcastnet_afno.evaluation.inputs.valid_times import ValidTimes, valid_times_of, where_dated

DAY = np.timedelta64(1, "D").astype("timedelta64[ns]")


def forecast(start: str, leads: np.ndarray, **attrs: str) -> xr.Dataset:
    return xr.Dataset(
        coords={"init_time": [np.datetime64(start, "ns")], "lead_time": leads}, attrs=attrs
    )


def days(table: np.ndarray) -> list[str]:
    return table[0].astype("datetime64[D]").astype(str).tolist()


def test_leap_days_count_only_where_the_calendar_has_them() -> None:
    leads = DAY * np.arange(1, 3)
    standard = valid_times_of(forecast("2004-02-28", leads))
    assert days(standard.table) == ["2004-02-29", "2004-03-01"]
    noleap = valid_times_of(forecast("2004-02-28", leads, calendar="noleap"))
    assert days(noleap.table) == ["2004-03-01", "2004-03-02"]


def test_dates_that_do_not_exist_are_not_a_time() -> None:
    found = valid_times_of(forecast("2003-02-28", DAY * np.arange(1, 4), calendar="360_day"))
    assert np.isnat(found.table[0, :2]).all()
    assert days(found.table[:, 2:]) == ["2003-03-01"]
    assert len(found.unique) == 1


def test_some_initial_and_lead_times() -> None:
    inits = np.datetime64("2001-01-01", "ns") + DAY * np.arange(3)
    leads = DAY * np.arange(1, 4)
    times = ValidTimes(inits, leads, inits[:, None] + leads)
    np.testing.assert_array_equal(times.at(inits[[0, 2]], slice(1, 3)), times.table[[0, 2], 1:])
    assert len(times.unique) == 5


def test_the_precision_is_that_of_the_function_with_and_without_dates_that_lack() -> None:
    """Sums in another precision would make scores depend on which times are read together."""
    times = np.array(["2001-01-01", "NaT"], "datetime64[ns]")
    for dated in (times, times[:1]):
        fields = where_dated(lambda given: np.ones((len(given), 2), np.float32), dated, (2,))
        assert fields.dtype == np.float32


def test_fields_are_missing_where_there_is_no_date() -> None:
    times = np.array(["2001-01-01", "NaT"], "datetime64[ns]")

    def ones(dated: np.ndarray) -> np.ndarray:
        assert not np.isnat(dated).any()
        return np.ones((len(dated), 2, 3))

    found = where_dated(ones, times, (2, 3))
    assert (found[0] == 1).all()
    assert np.isnan(found[1]).all()
    assert where_dated(ones, times[1:], (2, 3)).shape == (1, 2, 3)

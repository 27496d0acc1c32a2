"""Climatologies by harmonics and by week, and what they lack."""

import numpy as np
import pytest

from data_pipeline.channels import Channel
from fourcastnet_afno.evaluation.inputs.climatologies import (
    from_coefficients,
    pick,
    time_invariant,
    weekly_mean,
)
from fourcastnet_afno.evaluation.inputs.climatology_tables import from_table
from tests.builders.errors import rejects
from tests.builders.evaluation_fixtures import make_table, make_truth
from tests.builders.forecasts import make_climatology
from tests.builders.forecasts import make_truth as make_six_hourly

SURFACE = Channel(name="2m_temperature", units="K")


def test_a_week_has_one_climatology() -> None:
    at = weekly_mean(from_table(make_table()).at, [0, 12])
    times = np.array(["2001-01-01", "2001-01-07", "2001-01-08"], "datetime64[ns]")
    # The first week holds the days 1 to 7, the second 8 to 14; the hours add 0.06.
    np.testing.assert_allclose(at(SURFACE, times)[:, 0, 0], [4.06, 4.06, 11.06])


def test_a_field_without_annual_cycle_is_the_same_at_all_times() -> None:
    at = time_invariant(lambda channel: np.full((2, 3), 5.0))
    times = np.array(["2001-01-01", "2001-07-01"], "datetime64[ns]")
    np.testing.assert_array_equal(at(SURFACE, times), np.full((2, 2, 3), 5.0))


def test_an_hour_that_the_climatology_lacks() -> None:
    table = from_coefficients(make_climatology(make_six_hourly()).sel(hour=[0, 12]))
    times = np.array(["2001-01-01T06"], "datetime64[ns]")
    for ask in (table.require_times, lambda times: table.at(SURFACE, times)):
        with rejects("hours-mismatch", "[0, 12]", "[6]"):
            ask(times)


def test_axes_in_any_order_give_the_same_fields() -> None:
    coefficients = make_climatology(make_six_hourly())
    times = coefficients["hour"].values * np.timedelta64(1, "h") + np.datetime64("2001-01-01", "ns")
    turned = coefficients.transpose("longitude", "latitude", "harmonic", "hour", ...)
    found, expected = from_coefficients(turned), from_coefficients(coefficients)
    np.testing.assert_array_equal(found.at(SURFACE, times), expected.at(SURFACE, times))
    np.testing.assert_array_equal(found.mean(SURFACE), expected.mean(SURFACE))


@pytest.mark.parametrize(
    ("channel", "code", "named"),
    [
        (Channel(name="10m_wind_speed"), "missing-variable", "10m_wind_speed"),
        (Channel(name="temperature", level=700), "missing-level", "temperature_700"),
        (Channel(name="temperature"), "missing-level", "[500, 850]"),
        (Channel(name="2m_temperature", level=850), "missing-level", "2m_temperature_850"),
    ],
)
def test_a_channel_that_is_not_there(channel: Channel, code: str, named: str) -> None:
    with rejects(code, "these years", named):
        pick(make_truth(1), channel, "these years")

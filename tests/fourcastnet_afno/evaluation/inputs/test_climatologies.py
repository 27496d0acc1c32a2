"""Climatologies by day and hour, by week, and of the years that are scored."""

import numpy as np
import xarray as xr

from data_pipeline.channels import Channel
from fourcastnet_afno.evaluation.config import EvaluationConfig
from fourcastnet_afno.evaluation.evaluate import evaluate
from fourcastnet_afno.evaluation.inputs.climatologies import (
    Climatology,
    from_coefficients,
    from_table,
    weekly_mean,
)
from tests.builders.errors import rejects
from tests.builders.evaluation_fixtures import GRID, make_forecast, make_truth
from tests.builders.forecasts import make_climatology
from tests.builders.forecasts import make_truth as make_six_hourly

TRUTH = make_truth()


FORECAST = make_forecast(TRUTH, num_members=2)


SURFACE = Channel(name="2m_temperature", units="K")


def yearly_table() -> xr.Dataset:
    """Day of the year plus the hour of day over 100."""
    days, hours = np.arange(1, 367), np.array([0, 12])
    values = days[None, :, None, None] + hours[:, None, None, None] / 100
    dims = ("hour", "dayofyear", "latitude", "longitude")
    return xr.Dataset(
        {"2m_temperature": (dims, values * np.ones((1, 1, *GRID.shape)))},
        coords={"hour": hours, "dayofyear": days, **GRID.coords},
    )


def test_a_table_is_looked_up_by_day_and_hour() -> None:
    climatology = from_table(yearly_table())
    times = np.array(["2001-01-01", "2001-12-31T12", "2004-12-31"], "datetime64[ns]")
    found = climatology.at(SURFACE, times)
    np.testing.assert_allclose(found[:, 0, 0], [1, 365.12, 366])
    np.testing.assert_allclose(climatology.mean(SURFACE), 183.5 + 0.06)
    with rejects("hours-mismatch", "[0, 12]", "[6]"):
        climatology.at(SURFACE, np.array(["2001-01-01T06"], "datetime64[ns]"))
    with rejects("missing-variable", "10m_wind_speed"):
        climatology.at(Channel(name="10m_wind_speed"), times)


def test_a_week_has_one_climatology() -> None:
    at = weekly_mean(from_table(yearly_table()))
    times = np.array(["2001-01-01", "2001-01-07", "2001-01-08"], "datetime64[ns]")
    # The first week holds the days 1 to 7, the second 8 to 14; the hours add 0.06.
    np.testing.assert_allclose(at(SURFACE, times)[:, 0, 0], [4.06, 4.06, 11.06])


def test_a_climatology_of_scored_years_is_warned_of() -> None:
    given = from_table(yearly_table())
    inside = Climatology(
        given.at, given.mean, "test", (np.datetime64("2001-01-10"), np.datetime64("2001-01-12"))
    )
    config = EvaluationConfig(num_resamples=0, channels=["2m_temperature"])
    scores = evaluate({"m": FORECAST}, TRUTH, inside, config)
    assert "includes 3 of the 22 valid times" in scores.attrs["notes"]


def test_an_hour_that_the_climatology_lacks() -> None:
    table = from_coefficients(make_climatology(make_six_hourly()).sel(hour=[0, 12]))
    with rejects("hours-mismatch", "[0, 12]", "[6]"):
        table.at(SURFACE, np.array(["2001-01-01T06"], "datetime64[ns]"))

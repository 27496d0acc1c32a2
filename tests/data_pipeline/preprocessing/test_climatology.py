"""Climatologies fit a smooth year for each hour of day."""

import numpy as np
import xarray as xr

from data_pipeline.preprocessing.climatology import (
    ALL_HOURS,
    climatology_at,
    fields_at,
    fit_climatology,
    harmonics,
    hours_of_day,
)
from tests.builders.errors import rejects

TIMES = np.datetime64("2001-01-01", "ns") + np.arange(4 * 365) * np.timedelta64(6, "h")


def make_values(times: np.ndarray) -> np.ndarray:
    """Two channels of three points, a constant and two harmonics for each hour of day."""
    rng = np.random.default_rng(0)
    coefficients = rng.standard_normal((24, 5, 2, 3))
    basis = harmonics(times, 2)
    return np.einsum("tk,tkcx->tcx", basis, coefficients[hours_of_day(times)])


def test_a_fit_in_blocks_is_exact_for_harmonics() -> None:
    values = make_values(TIMES)
    blocks = [(TIMES[i : i + 300], values[i : i + 300]) for i in range(0, len(TIMES), 300)]
    hours, coefficients = fit_climatology(blocks, 2)
    assert hours.tolist() == [0, 6, 12, 18]
    assert coefficients.shape == (4, 5, 2, 3)
    later = TIMES[::-7] + np.timedelta64(365, "D")
    np.testing.assert_allclose(
        fields_at(coefficients, hours, later), make_values(later), rtol=1e-4, atol=1e-4
    )


def test_hours_of_day_are_fractions_between_full_hours() -> None:
    half_hours = TIMES[0] + np.arange(5) * np.timedelta64(30, "m")
    assert hours_of_day(half_hours).tolist() == [0, 0.5, 1, 1.5, 2]
    assert hours_of_day(TIMES[:3]).dtype == np.int64
    values = np.arange(48.0)[np.arange(4800) % 48, None]  # the half hour of the day
    times = TIMES[0] + np.arange(4800) * np.timedelta64(30, "m")
    hours, coefficients = fit_climatology([(times, values)], 0)
    assert fields_at(coefficients, hours, times[:96])[:, 0].tolist() == [*range(48), *range(48)]


def test_months_are_fitted_whatever_their_hour() -> None:
    starts = np.arange("2001-01", "2009-02", dtype="datetime64[M]").astype("datetime64[ns]")
    middles = starts[:-1] + np.diff(starts) / 2  # at noon or midnight
    basis = harmonics(middles, 2)
    values = (basis @ [1.0, 2.0, 3.0, 4.0, 5.0])[:, None]
    hours, coefficients = fit_climatology([(middles, values)], 2, together=True)
    assert hours.tolist() == [ALL_HOURS]
    np.testing.assert_allclose(fields_at(coefficients, hours, middles), values, rtol=1e-5)


def test_without_harmonics_it_is_the_mean_of_each_hour() -> None:
    values = make_values(TIMES)
    _, coefficients = fit_climatology([(TIMES, values)], 0)
    means = values.reshape(-1, 4, 2, 3).mean(axis=0)
    np.testing.assert_allclose(coefficients[:, 0], means, rtol=1e-9, atol=1e-12)


def test_a_channel_alone_is_fitted_to_the_same_bits() -> None:
    values = make_values(TIMES)
    _, both = fit_climatology([(TIMES, values)], 2)
    _, alone = fit_climatology([(TIMES, values[:, 1:])], 2)
    np.testing.assert_array_equal(both[:, :, 1:], alone)


def test_labelled_fields_have_the_times_and_units() -> None:
    coefficients = xr.Dataset(
        {"t": (("hour", "harmonic", "x"), np.ones((1, 1, 3)), {"units": "K"})}, {"hour": [0]}
    )
    fields = climatology_at(coefficients, TIMES[::4])["t"]
    assert fields.dims == ("time", "x")
    assert fields.attrs["units"] == "K"
    assert (fields == 1).all()


def test_short_periods_and_other_hours_are_rejected() -> None:
    short = TIMES[:40]
    with rejects("short-period", "data.climatology_harmonics", "data.train"):
        fit_climatology([(short, make_values(short))], 2)
    hours, coefficients = fit_climatology([(TIMES, make_values(TIMES))], 0)
    with rejects("hours-mismatch", "[3]"):
        fields_at(coefficients, hours, TIMES[:1] + np.timedelta64(3, "h"))

"""A window of 61 days: its weights, its response to harmonics, and the days that it covers."""

import numpy as np
import pytest

from data_pipeline.preprocessing.window_climatology import WindowClimatology, fit_window

HOURS_6 = np.timedelta64(6, "h")


def days_of(start: str, end: str) -> np.ndarray:
    """Every day at 00 UTC."""
    return np.arange(start, end, dtype="datetime64[D]").astype("datetime64[ns]")


def averaged(times: np.ndarray, values: np.ndarray) -> WindowClimatology:
    """The fit to values (time) of one channel at one point, in two blocks."""
    fields, half = values[:, None, None].astype(float), len(times) // 2
    return fit_window([(times[:half], fields[:half]), (times[half:], fields[half:])])


@pytest.mark.parametrize(
    ("harmonic", "passes"), [(1, 0.98), (2, 0.91), (3, 0.82), (4, 0.69), (5, 0.56), (6, 0.42)]
)
def test_the_window_passes_a_harmonic_as_the_square_of_a_dirichlet_kernel(
    harmonic: int, passes: float
) -> None:
    times = days_of("2004-01-01", "2005-01-01")  # 366 days
    wave = np.cos(2 * np.pi * harmonic * np.arange(366) / 366 + 0.3)
    found = averaged(times, wave).fields[0, :, 0, 0]
    angle = np.pi * harmonic / 366
    expected = (np.sin(30 * angle) / (30 * np.sin(angle))) ** 2
    assert expected == pytest.approx(passes, abs=5e-3)
    np.testing.assert_allclose(found, expected * wave, atol=1e-6)


def test_one_state_is_spread_by_the_triangle_around_the_end_of_the_year() -> None:
    times = days_of("2001-01-01", "2002-01-01")  # 365 days: the last counts as day 366 too
    values = np.zeros(365)
    values[0] = 900.0
    found = averaged(times, values).fields[0, :, 0, 0]
    # The weights 1 - |k| / 30 have the sum 30: 900 / 30 = 30 at the day, 1 less for each day.
    np.testing.assert_allclose(found[[0, 1, 10, 29, 30]], [30, 29, 20, 1, 0])
    np.testing.assert_allclose(found[[365, 364, 337]], [29, 28, 1])
    values[[0, -1]] = [0.0, 900.0]
    found = averaged(times, values).fields[0, :, 0, 0]
    # Days 365 and 366 are 2 and 1 days before January 1.
    np.testing.assert_allclose(found[[0, 364, 365]], [28 + 29, 30 + 29, 29 + 30])


def test_a_leap_year_and_its_neighbor_are_averaged_by_day_of_the_year() -> None:
    times = days_of("2003-01-01", "2005-01-01")
    values = np.where(times < np.datetime64("2004-01-01"), 2.0, 4.0)
    np.testing.assert_allclose(averaged(times, values).fields, 3.0)


def test_missing_values_are_left_out() -> None:
    times = days_of("2004-01-01", "2005-01-01")
    values = np.zeros((366, 1, 2))
    values[100], values[101, 0, 0] = 30.0, np.nan
    fields = fit_window([(times, values)]).fields[0, :, 0]
    # Without day 101, whose weight is 29 / 30, the weights at day 100 have the sum 30 - 29 / 30.
    np.testing.assert_allclose(fields[100], [30 / (30 - 29 / 30), 1.0], rtol=1e-6)
    values[..., 1] = np.nan
    assert np.isnan(fit_window([(times, values)]).fields[..., 1]).all()


def test_hours_of_day_are_averaged_apart() -> None:
    days = days_of("2004-01-01", "2005-01-01")
    times = (days[:, None] + np.arange(4) * HOURS_6).ravel()
    found = averaged(times, np.tile([0.0, 6.0, 12.0, 18.0], 366))
    assert found.hours.tolist() == [0, 6, 12, 18]
    np.testing.assert_allclose(found.fields[:, :, 0, 0], [[0.0], [6], [12], [18]] * np.ones(366))


@pytest.mark.parametrize(
    ("times", "num_covered"),
    [
        (days_of("2001-01-10", "2001-01-25"), 0),  # 15 days are less than half of any window
        (days_of("2001-06-01", "2001-09-01"), 92),  # a season covers its own days
        (np.arange("2001-01", "2002-01", dtype="datetime64[M]").astype("datetime64[ns]"), 366),
    ],
)
def test_half_of_a_window_must_lie_between_states(times: np.ndarray, num_covered: int) -> None:
    assert averaged(times, np.ones(len(times))).covered.sum() == num_covered

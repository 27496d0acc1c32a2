import numpy as np
import pytest

from data_pipeline.grids.grid import LatLonGrid
from data_pipeline.preprocessing.forcings import (
    FORCINGS,
    SOLAR_CONSTANT,
    compute_forcings,
    sun,
    toa_incident_solar_radiation,
    toa_insolation,
)
from tests.builders.errors import rejects

GRID = LatLonGrid.equiangular(2, 8)


def test_phases_by_hand() -> None:
    times = np.array(["2001-01-01T00", "2001-01-01T06"], "datetime64[ns]")
    fields = dict(
        zip(FORCINGS, compute_forcings(FORCINGS, times, GRID).swapaxes(0, 1), strict=True)
    )
    assert (fields["day_of_year_sin"][0] == 0).all()
    assert (fields["day_of_year_cos"][0] == 1).all()
    # At 6 UTC it is noon at 90 degrees east and midnight at 270.
    np.testing.assert_allclose(fields["local_time_cos"][1, 0, [2, 6]], [-1, 1], atol=1e-6)
    np.testing.assert_allclose(fields["local_time_sin"][1, 0, [0, 4]], [1, -1], atol=1e-6)


def test_six_hours_turn_the_local_time_by_a_quarter() -> None:
    times = np.array(["2001-05-01T00", "2001-05-01T06"], "datetime64[ns]")
    first, later = compute_forcings(["local_time_sin"], times, GRID)
    np.testing.assert_allclose(np.roll(first, -2, axis=-1), later, atol=1e-6)


def test_unknown_names_are_listed() -> None:
    with rejects("bad-setting", "['tide']", "day_of_year_sin"):
        compute_forcings(["tide"], np.array([], "datetime64[ns]"), GRID)


def test_the_sun_stands_where_the_solar_position_algorithm_says() -> None:
    """The worked example of Reda and Andreas, 2004 (NREL/TP-560-34302), table A4.1."""
    time = np.array(["2003-10-17T19:30:30"], "datetime64[ns]")
    declination, hour_angle, distance = sun(time)
    assert np.rad2deg(declination[0]) == pytest.approx(-9.31434, abs=0.01)
    local = np.rad2deg(hour_angle[0]) - 105.1786
    assert (local + 180) % 360 - 180 == pytest.approx(11.105900, abs=0.01)
    assert distance[0] == pytest.approx(0.9965422974, rel=1e-4)
    place = LatLonGrid(latitude=(39.742476, 0.0), longitude=(-105.1786, 0.0))
    zenith = np.deg2rad(90 - 39.872046)  # without refraction
    expected = np.cos(zenith) / 0.9965422974**2
    assert toa_insolation(time, place)[0, 0, 0] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("time", "distance"), [("2020-01-05T07:48", 0.983244), ("2020-07-04T11:35", 1.016694)]
)
def test_perihelion_and_aphelion(time: str, distance: float) -> None:
    assert sun(np.array([time], "datetime64[ns]"))[2][0] == pytest.approx(distance, rel=2e-4)


@pytest.mark.parametrize(
    ("time", "declination"),
    [("2020-06-20T21:44", 23.436), ("2020-12-21T10:02", -23.436), ("2020-03-20T03:50", 0.0)],
)
def test_solstices_and_equinox(time: str, declination: float) -> None:
    found = np.rad2deg(sun(np.array([time], "datetime64[ns]"))[0][0])
    assert found == pytest.approx(declination, abs=0.01)


@pytest.mark.parametrize("time", ["1979-02-03T04:00", "2020-06-20T21:44"])
def test_the_globe_receives_a_quarter_of_the_solar_constant(time: str) -> None:
    grid = LatLonGrid.equiangular(90, 180)
    times = np.array([time], "datetime64[ns]")
    mean = (toa_insolation(times, grid)[0] * grid.area_weights()).mean()
    assert mean * sun(times)[2][0] ** 2 == pytest.approx(0.25, rel=1e-3)
    if "06-20" in time:
        assert toa_insolation(times, grid)[0, -1].max() == 0
        assert toa_insolation(times, grid)[0, 0].min() > 0.3


def test_daily_mean_at_the_equator_on_the_equinox() -> None:
    times = np.datetime64("2020-03-20", "ns") + np.arange(288) * np.timedelta64(5, "m")
    grid = LatLonGrid(latitude=(0.0, -1.0), longitude=(0.0, 90.0))
    mean = toa_insolation(times, grid)[:, 0].mean(axis=0)
    np.testing.assert_allclose(mean, 1 / np.pi / 0.99598**2, rtol=1e-3)


def test_features_of_the_place() -> None:
    grid = LatLonGrid.equiangular(6, 12)
    names = ("latitude_sin", "latitude_cos", "longitude_sin", "longitude_cos")
    times = np.array(["2001-01-01", "2001-01-02"], "datetime64[ns]")
    sin_lat, cos_lat, sin_lon, cos_lon = compute_forcings(names, times, grid)[1]
    x, y, z = grid.coordinate_channels()
    np.testing.assert_allclose(sin_lat, z, atol=1e-6)
    np.testing.assert_allclose(cos_lat * cos_lon, x, atol=1e-6)
    np.testing.assert_allclose(cos_lat * sin_lon, y, atol=1e-6)


def true_longitude(time: str) -> float:
    """Of the sun on a date of the year 2000 in radians, by the series of Berger, 1978.

    From the mean longitude, which is counted from the vernal equinox of March 20th, 07:35 UTC.
    https://doi.org/10.1175/1520-0469(1978)035<2362:LTVODI>2.0.CO;2
    """
    e, perihelion = ECCENTRICITY, PERIHELION
    beta = np.sqrt(1 - e**2)
    first = (e / 2 + e**3 / 8) * (1 + beta) * np.sin(-perihelion)
    second = e**2 / 4 * (1 / 2 + beta) * np.sin(-2 * perihelion)
    third = e**3 / 8 * (1 / 3 + beta) * np.sin(-3 * perihelion)
    days = (np.datetime64(time) - np.datetime64("2000-03-20T07:35")) / np.timedelta64(1, "D")
    mean = -2 * (first - second + third) + 2 * np.pi * days / 365.2422
    anomaly = mean - perihelion
    return (
        mean
        + (2 * e - e**3 / 4) * np.sin(anomaly)
        + 5 / 4 * e**2 * np.sin(2 * anomaly)
        + 13 / 12 * e**3 * np.sin(3 * anomaly)
    )


# Orbit of the year 2000 (J2000): eccentricity, obliquity, longitude of the perihelion.
ECCENTRICITY, OBLIQUITY = 0.016708, np.deg2rad(23.4393)
PERIHELION = np.deg2rad(282.937)


def berger(time: str, latitude: float) -> float:
    """Mean insolation of the day over the solar constant, the formula of Berger, 1978."""
    longitude, phi = true_longitude(time), np.deg2rad(latitude)
    declination = np.arcsin(np.sin(OBLIQUITY) * np.sin(longitude))
    inverse = (1 + ECCENTRICITY * np.cos(longitude - PERIHELION)) / (1 - ECCENTRICITY**2)
    sunset = np.arccos(np.clip(-np.tan(phi) * np.tan(declination), -1, 1))
    sines, cosines = np.sin(phi) * np.sin(declination), np.cos(phi) * np.cos(declination)
    return inverse**2 / np.pi * (sunset * sines + np.sin(sunset) * cosines)


@pytest.mark.parametrize("date", ["01-05", "03-20", "05-01", "06-21", "08-15", "09-22", "12-21"])
def test_daily_means_are_those_of_berger(date: str) -> None:
    """To 0.1 %, and to 4e-5 of the solar constant where the sun hardly rises."""
    latitudes = (88.0, 65.0, 45.0, 23.0, 0.0, -40.0, -70.0, -88.0)
    grid = LatLonGrid(latitude=latitudes, longitude=(0.0, 90.0, 180.0, 270.0))
    start = np.datetime64(f"2000-{date}", "ns")
    times = start + np.arange(0, 1440, 2) * np.timedelta64(1, "m")
    found = toa_insolation(times, grid).mean(axis=(0, 2))
    expected = np.array([berger(f"2000-{date}T12:00", latitude) for latitude in latitudes])
    shines = expected > 0.02
    np.testing.assert_allclose(found[shines], expected[shines], rtol=1e-3)
    np.testing.assert_allclose(found[~shines], expected[~shines], atol=4e-5)


def test_insolation_follows_the_orbit() -> None:
    """A quarter of the solar constant over sqrt(1 - e^2), and known means at pole and equator."""
    times = np.datetime64("2000-01-01", "ns") + np.arange(8 * 365 + 2) * np.timedelta64(3, "h")
    distance = sun(times)[2]
    mean = (1 / distance**2).mean() / 4
    assert mean == pytest.approx(0.25 / np.sqrt(1 - ECCENTRICITY**2), rel=1e-4)
    grid = LatLonGrid(latitude=(90.0, -90.0), longitude=tuple(np.arange(0.0, 360, 45)))
    poles = toa_insolation(times, grid).mean(axis=(0, 2))
    # The annual mean at a pole is S / sqrt(1 - e^2) * sin(obliquity) / pi.
    expected = np.sin(OBLIQUITY) / np.pi / np.sqrt(1 - ECCENTRICITY**2)
    np.testing.assert_allclose(poles, expected, rtol=1e-3)


HOUR = np.timedelta64(1, "h")


def test_radiation_is_the_integral_of_the_insolation_over_the_hour_before() -> None:
    """To 0.1 W m-2, by steps of 10 seconds; sunrises, sunsets, poles and the date line included."""
    latitudes = (90.0, 89.7, 70.0, 66.6, 45.0, 10.0, 0.0, -30.0, -66.5, -80.0, -90.0)
    grid = LatLonGrid(latitude=latitudes, longitude=tuple(np.arange(0.0, 360, 12.5)))
    dates = ["1979-06-21T00", "2000-03-20T08", "2011-09-23T12", "2020-12-21T17", "2024-02-29T05:30"]
    times = np.array(dates, "datetime64[ns]")
    steps = np.arange(5, 3600, 10) * np.timedelta64(1, "s")
    seconds = (times[:, None] - HOUR + steps).ravel()
    means = toa_insolation(seconds, grid).reshape(len(times), len(steps), *grid.shape).mean(axis=1)
    found = toa_incident_solar_radiation(times, grid)
    np.testing.assert_allclose(found / 3600, SOLAR_CONSTANT * means, atol=0.1, rtol=0)
    assert found.min() == 0
    assert np.isfinite(found).all()


def test_hours_of_a_day_add_up_to_berger() -> None:
    latitudes = (88.0, 45.0, 0.0, -40.0, -88.0)
    grid = LatLonGrid(latitude=latitudes, longitude=(0.0, 90.0, 180.0, 270.0))
    hours = np.datetime64("2000-05-01T01", "ns") + np.arange(24) * HOUR
    total = toa_incident_solar_radiation(hours, grid).sum(axis=0).mean(axis=-1)
    expected = [berger("2000-05-01T12:00", latitude) for latitude in latitudes]
    np.testing.assert_allclose(total / 86400, 1361 * np.array(expected), rtol=1e-3, atol=0.05)


def test_the_hour_before_differs_from_the_moment() -> None:
    """By 68 W m-2 over globe and year; the value of the moment half an hour before, by 8."""
    grid = LatLonGrid.equiangular(30, 60)
    times = np.datetime64("2020-01-01", "ns") + np.arange(0, 8784, 61) * HOUR
    before = toa_incident_solar_radiation(times, grid) / 3600

    def distance(moment: np.ndarray) -> float:
        square = (SOLAR_CONSTANT * toa_insolation(moment, grid) - before) ** 2
        return float(np.sqrt((square * grid.area_weights()).mean()))

    assert distance(times) == pytest.approx(68, abs=1)
    assert distance(times - np.timedelta64(30, "m")) < 10

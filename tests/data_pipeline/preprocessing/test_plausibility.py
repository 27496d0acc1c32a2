"""Plausible ranges, and the standard atmosphere behind that of geopotential."""

import numpy as np
import pytest

from data_pipeline.preprocessing.plausibility import (
    RANGES,
    guess_units,
    is_accumulated,
    plausible_range,
    possible_range,
    standard_height,
)


@pytest.mark.parametrize(
    ("pressure", "height"),
    [(101325, 0), (50000, 5574), (22632, 11000), (5475, 20000), (1000, 31055)],
)
def test_heights_of_the_standard_atmosphere(pressure: int, height: int) -> None:
    """Values of the tables of the U.S. Standard Atmosphere, 1976."""
    assert standard_height(float(pressure)) == pytest.approx(height, abs=10)


def test_ranges_are_in_order() -> None:
    assert all(range_.low < range_.high for range_ in RANGES.values())


def test_geopotential_has_the_range_of_its_level() -> None:
    expected = plausible_range("geopotential", 500, "m2 s-2")
    assert expected is not None
    assert expected.contains(np.array([4.6e4, 5.5e4, 5.9e4])).all()
    assert not expected.contains(np.array([1.4e4, 1.1e5])).any()


@pytest.mark.parametrize(
    ("name", "units", "values", "likely"),
    [
        ("2m_temperature", "K", [-20, 5, 30], "degrees Celsius"),
        ("surface_pressure", "Pa", [600, 980, 1010], "hPa"),
        ("total_cloud_cover", "1", [20, 70, 100], "%"),
    ],
)
def test_units_that_values_look_like(
    name: str, units: str, values: list[float], likely: str
) -> None:
    expected = plausible_range(name, None, units)
    assert expected is not None
    conversion = guess_units(name, np.array(values), expected, units)
    assert conversion is not None
    assert conversion.units == likely
    converted = conversion.factor * np.array(values) + conversion.offset
    assert expected.contains(converted).all()


def test_values_of_no_known_unit_are_not_guessed() -> None:
    expected = RANGES["2m_temperature"]
    assert guess_units("2m_temperature", np.array([-1e6]), expected, "K") is None


@pytest.mark.parametrize(
    ("name", "units", "attrs", "is_sum"),
    [
        ("total_precipitation", "m", {}, True),
        ("precipitation_rate", "m s-1", {}, False),
        ("surface_solar_radiation", "J m-2", {}, True),
        ("snow", "m", {"cell_methods": "time: sum"}, True),
        ("snow", "m", {"GRIB_stepType": "accum"}, True),
        ("2m_temperature", "K", {}, False),
    ],
)
def test_sums_over_time_are_told_by_name_units_or_attributes(
    name: str, units: str, attrs: dict[str, str], is_sum: bool
) -> None:
    assert is_accumulated(name, units, attrs) == is_sum


@pytest.mark.parametrize(
    ("name", "level", "units", "low", "high"),
    [
        ("surface_pressure", None, "Pa", 4.8e4, 1.085e5),
        ("2m_temperature", None, "K", 183, 331),
        ("geopotential", 1000, "m2 s-2", -6500, 5200),
        ("specific_humidity", 1000, "kg kg-1", -5e-5, 0.032),
        ("relative_humidity", 300, "%", -15, 170),
        ("u_component_of_wind", 1, "m s-1", -150, 220),
        ("total_precipitation", None, "m", -1e-6, 8),
        ("top_net_thermal_radiation", None, "J m-2", -4e7, 0),
        ("vertical_integral_of_total_energy", None, "J m-2", 1.5e9, 2.9e9),
        ("ocean_heat_content", None, "J m-2", -1e9, 5e10),
    ],
)
def test_extremes_of_reanalyses_are_possible(
    name: str, level: int | None, units: str, low: float, high: float
) -> None:
    """Extremes of ERA5 and its numerical noise, sums of a month, and energies of columns."""
    possible = possible_range(name, level, units)
    assert possible is None or possible.contains(np.array([low, high])).all()

"""Implausible, missing and constant values are found, named and placed, each alone."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from data_pipeline.channels import Channel, Channels
from data_pipeline.doctor.sampling import SampledValues
from data_pipeline.doctor.values import describe_values
from data_pipeline.sources.convert import GRAVITY
from tests.builders.earth import EARTH_GRID
from tests.builders.faults import Fault, check_fault, replaced, with_value

EVERY_FIFTH = slice(None, None, 5)


def in_celsius_later(array: xr.DataArray) -> xr.DataArray:
    later = array["time"] >= np.datetime64("2004-02-01")
    return array - 273.15 * later


FAULTS = {
    "celsius": Fault(
        replaced("2m_temperature", lambda a: a - 273.15),
        "units",
        "error",
        ["degrees Celsius", "2m_temperature", "add 273.15"],
    ),
    "mixed units": Fault(
        replaced("2m_temperature", in_celsius_later), "units", "error", ["add 273.15"]
    ),
    "hPa": Fault(
        replaced("mean_sea_level_pressure", lambda a: a / 100),
        "units",
        "error",
        ["hPa", "mean_sea_level_pressure", "multiply by 100"],
    ),
    "g/kg": Fault(
        replaced("specific_humidity", lambda a: a * 1000),
        "units",
        "error",
        ["g kg-1", "specific_humidity_500, specific_humidity_850", "multiply by 0.001"],
    ),
    "height": Fault(
        replaced("geopotential", lambda a: a / GRAVITY),
        "units",
        "error",
        ["geopotential height", "geopotential_500, geopotential_850", "multiply by 9.80665"],
    ),
    "mm": Fault(
        replaced("total_precipitation", lambda a: a * 1000),
        "units",
        "error",
        ["mm", "total_precipitation", "multiply by 0.001"],
    ),
    "nonsense": Fault(
        replaced("2m_temperature", lambda a: a - 1e6),
        "units",
        "error",
        ["2m_temperature", "not this variable"],
    ),
    "outlier": Fault(
        replaced(
            "2m_temperature", with_value({"time": EVERY_FIFTH, "latitude": 4, "longitude": 9}, 380)
        ),
        "outlier",
        "warning",
        ["380", "2m_temperature: 200", "latitude 50, longitude 90"],
    ),
    "impossible": Fault(
        replaced("2m_temperature", with_value({"latitude": 4, "longitude": 9}, 1e20)),
        "outlier",
        "error",
        [
            "80 impossible",
            "latitude 50, longitude 90",
            "data.source.missing={2m_temperature: 1e+20}",
        ],
    ),
    "land": Fault(
        replaced("2m_temperature", with_value({"longitude": slice(9)}, -9999)),
        "outlier",
        "error",
        ["2m_temperature has 13680", "data.source.missing={2m_temperature: -9999.0}"],
    ),
    "no values": Fault(
        replaced("2m_temperature", with_value({"time": EVERY_FIFTH}, np.nan)),
        "nan",
        "error",
        ["2m_temperature has no value at all in", "set data.allow_gaps=true"],
    ),
    "nan": Fault(
        replaced("2m_temperature", with_value({"latitude": 4, "longitude": 9}, np.nan)),
        "nan",
        "error",
        [
            "80 values",
            "2m_temperature: 2003-01",
            "latitude 50, longitude 90",
            "data.fill={2m_temperature: climatology}",
        ],
    ),
    "infinite": Fault(
        replaced("geopotential", with_value({"level": 1, "longitude": 0}, np.inf)),
        "nan",
        "error",
        ["geopotential_850 has", "Replace the infinite values"],
    ),
    "zero": Fault(
        replaced("specific_humidity", with_value({"level": 0}, 0)),
        "constant",
        "error",
        ["values are 0", "specific_humidity_500"],
    ),
    "still": Fault(
        replaced("mean_sea_level_pressure", lambda a: a[0] + 0 * a),
        "constant",
        "error",
        ["same at all sampled times", "mean_sea_level_pressure"],
    ),
    "constant static": Fault(
        replaced("land_sea_mask", lambda a: 0 * a + 1), "constant", "warning", ["land_sea_mask"]
    ),
    "blank": Fault(
        replaced("2m_temperature", with_value({"time": EVERY_FIFTH}, 0)),
        "blank",
        "error",
        ["single value, 0", "2m_temperature: 200", "data.source.missing={2m_temperature: 0}"],
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_found_and_nothing_else(name: str, tmp_path: Path) -> None:
    check_fault(FAULTS[name], tmp_path)


def test_facts_are_area_weighted_moments_of_the_finite_values() -> None:
    channel = Channel(name="2m_temperature", units="K")
    values = np.full((2, *EARTH_GRID.shape), 280.0, np.float32)
    values[0] = 270
    values[1, 0, 0] = np.nan
    sample = SampledValues(np.array([], "datetime64[ns]"), {channel.label: values}, 0)
    facts = describe_values(sample, Channels((channel,)), EARTH_GRID)["2m_temperature"]
    weights = np.broadcast_to(EARTH_GRID.area_weights(), values.shape)[np.isfinite(values)]
    mean = np.average(values[np.isfinite(values)], weights=weights)
    assert (facts["min"], facts["max"]) == (270, 280)
    assert facts["mean"] == pytest.approx(mean)
    assert facts["nan_share"] == pytest.approx(1 / values.size)

"""Variables without units are named, and rejected where their values cannot be right."""

import numpy as np
import pytest
import xarray as xr

from data_pipeline.channels import Channels
from fourcastnet_afno.evaluation.inputs.compared_units import compare_units
from tests.builders.errors import rejects
from tests.builders.evaluation_fixtures import make_forecast, make_truth

TRUTH = make_truth()
FORECAST = make_forecast(TRUTH)
CHANNELS = Channels.from_dataset(TRUTH, ["temperature", "2m_temperature"])
NAME = "2m_temperature"


def changed(dataset: xr.Dataset, units: str | None, values: xr.DataArray) -> xr.Dataset:
    """A dataset whose temperature at 2 m is in other units, or states none."""
    attrs = {} if units is None else {"units": units}
    return dataset.assign({NAME: values.assign_attrs(units="").assign_attrs(attrs)})


def test_the_same_units_in_other_spellings_need_no_words() -> None:
    spelled = changed(FORECAST, "kelvin", FORECAST[NAME])
    assert compare_units({"m": spelled}, TRUTH, CHANNELS) == []


def test_other_units_are_rejected() -> None:
    with rejects("units-mismatch", "2m_temperature of m", "'degC'", "'K'"):
        compare_units({"m": changed(FORECAST, "degC", FORECAST[NAME])}, TRUTH, CHANNELS)


def test_missing_units_are_said_to_be_those_of_the_other_side() -> None:
    silent, silent_truth = (changed(d, None, d[NAME]) for d in (FORECAST, TRUTH))
    (note,) = compare_units({"m": silent, "n": FORECAST}, TRUTH, CHANNELS)
    assert note == "m states no units of 2m_temperature (taken to be in K)"
    (note,) = compare_units({"n": FORECAST}, silent_truth, CHANNELS)
    assert note == "truth states no units of 2m_temperature (taken to be in K)"
    (note,) = compare_units({"m": silent}, silent_truth, CHANNELS)
    assert "2m_temperature (nor does truth)" in note


@pytest.mark.parametrize("silent", ["forecast", "truth"])
@pytest.mark.parametrize("wrong", ["Celsius", "thousandths"])
def test_values_that_cannot_be_in_these_units_are_rejected(silent: str, wrong: str) -> None:
    centered = FORECAST[NAME] - 273.15
    values = centered if wrong == "Celsius" else FORECAST[NAME] * 1000
    forecast = changed(FORECAST, None if silent == "forecast" else "K", values)
    truth = changed(TRUTH, "K" if silent == "forecast" else None, TRUTH[NAME])
    with rejects("units-mismatch", "2m_temperature of m", "values from", "convert them to K"):
        compare_units({"m": forecast}, truth, CHANNELS)


def test_values_that_hardly_vary_are_a_warning() -> None:
    mean = FORECAST[NAME].mean()
    flat = changed(FORECAST, None, (FORECAST[NAME] - mean) / 1000 + mean)
    warning, _ = compare_units({"m": flat}, TRUTH, CHANNELS)
    assert warning.startswith("warning: 2m_temperature of m")


def test_a_forecast_that_is_missing_is_not_judged() -> None:
    missing = changed(FORECAST, None, FORECAST[NAME] * np.nan)
    assert len(compare_units({"m": missing}, TRUTH, CHANNELS)) == 1

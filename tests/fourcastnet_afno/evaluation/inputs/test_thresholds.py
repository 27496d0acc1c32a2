"""Thresholds of events from training years and from tables."""

import numpy as np
import xarray as xr

from data_pipeline.channels import Channel, Channels
from fourcastnet_afno.evaluation.inputs.climatologies import from_coefficients, from_table
from fourcastnet_afno.evaluation.inputs.thresholds import quantile_thresholds, seeps_thresholds
from fourcastnet_afno.evaluation.inputs.truth import TruthFields
from tests.builders.forecasts import GRID, START, make_climatology, make_truth

TRUTH = make_truth()
RAIN = Channel(name="total_precipitation_24hr", units="m")


def test_quantiles_are_those_of_each_cell() -> None:
    channels = Channels.from_dataset(TRUTH, ["2m_temperature"])
    thresholds = quantile_thresholds(TruthFields(TRUTH), channels, [0.1, 0.9])
    expected = np.quantile(TRUTH["2m_temperature"].values.astype(float), [0.1, 0.9], axis=0)
    np.testing.assert_allclose(thresholds["2m_temperature"], expected)


def test_seeps_of_a_series_and_of_nothing() -> None:
    climatology = from_coefficients(make_climatology(TRUTH))
    assert seeps_thresholds(Channel(name="2m_temperature"), climatology, None) is None
    assert seeps_thresholds(RAIN, climatology, None) is None
    values = np.array([0.0, 0.0, 1.0, 2.0, 3.0, 4.0])[:, None, None] * np.ones(GRID.shape)
    times = START + np.arange(6) * np.timedelta64(1, "D")
    dims = ("time", *GRID.dims)
    series = xr.Dataset({RAIN.name: (dims, values)}, {"time": times, **GRID.coords})
    thresholds = seeps_thresholds(RAIN, climatology, TruthFields(series))
    assert thresholds is not None
    np.testing.assert_allclose(thresholds.dry_fraction, 1 / 3)
    np.testing.assert_allclose(thresholds.heavy(times[:2]), np.full((2, *GRID.shape), 3.0))


def test_seeps_of_a_table() -> None:
    days = np.arange(1, 367)
    by_day = days[:, None, None] * np.ones(GRID.shape)
    dims = ("dayofyear", *GRID.dims)
    data = {f"{RAIN.name}_seeps_dry_fraction": (dims, by_day / 732)}
    data |= {f"{RAIN.name}_seeps_threshold": (dims, by_day)}
    table = xr.Dataset(data, {"dayofyear": days, **GRID.coords})
    thresholds = seeps_thresholds(RAIN, from_table(table), None)
    assert thresholds is not None
    np.testing.assert_allclose(thresholds.dry_fraction, by_day.mean(axis=0) / 732)
    heavy = thresholds.heavy(np.array(["2001-01-05"], "datetime64[ns]"))
    np.testing.assert_array_equal(heavy, np.full((1, *GRID.shape), 5.0))

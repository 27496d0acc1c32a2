"""Baselines as datasets of the form of a forecast."""

import numpy as np
import xarray as xr

from data_pipeline.preprocessing.climatology import climatology_at
from fourcastnet_afno.evaluation.inputs.baselines import at_valid_times


def persistence(truth: xr.Dataset, init_times: np.ndarray, lead_times: np.ndarray) -> xr.Dataset:
    """The state at the initial time, for every lead time."""
    initial = truth.sel(time=init_times).rename(time="init_time")
    repeated = initial.expand_dims(lead_time=lead_times, axis=1)
    return repeated.transpose("init_time", "lead_time", ...)


def climatology(
    coefficients: xr.Dataset, init_times: np.ndarray, lead_times: np.ndarray
) -> xr.Dataset:
    """The climatology at the valid time."""
    return at_valid_times(lambda times: climatology_at(coefficients, times), init_times, lead_times)

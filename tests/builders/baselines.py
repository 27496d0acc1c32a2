"""Baselines as datasets of the form of a forecast."""

from collections.abc import Callable

import numpy as np
import xarray as xr

from data_pipeline.preprocessing.climatology import climatology_at
from data_pipeline.timestep import valid_times
from fourcastnet_afno.evaluation.inputs.baselines import by_valid_time
from fourcastnet_afno.evaluation.inputs.valid_times import ValidTimes


def at_valid_times(
    select: Callable[[np.ndarray], xr.Dataset], init_times: np.ndarray, lead_times: np.ndarray
) -> xr.Dataset:
    """Fields by initial time and lead time of a function of unique, increasing times."""
    table = valid_times(init_times, lead_times)
    return by_valid_time(select, ValidTimes(init_times, lead_times, table))


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

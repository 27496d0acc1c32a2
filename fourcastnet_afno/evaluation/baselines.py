"""Baselines as forecasts of the same form as the model's: persistence and climatology.

Both are lazy along ``init_time``, so that they are never in memory as a whole.
"""

from collections.abc import Callable

import numpy as np
import xarray as xr

from data_pipeline.climatology import climatology_at


def persistence(truth: xr.Dataset, init_times: np.ndarray, lead_times: np.ndarray) -> xr.Dataset:
    """The state at the initial time, for every lead time.

    Args:
        truth: Canonical dataset.
        init_times: datetime64, all in ``truth``.
        lead_times: timedelta64.
    """
    initial = truth.sel(time=init_times).rename(time="init_time")
    repeated = initial.expand_dims(lead_time=lead_times, axis=1)
    return repeated.transpose("init_time", "lead_time", ...)


def climatology(
    coefficients: xr.Dataset, init_times: np.ndarray, lead_times: np.ndarray
) -> xr.Dataset:
    """The climatology at the valid time.

    Args:
        coefficients: See ``data_pipeline.climatology``.
        init_times: datetime64.
        lead_times: timedelta64.
    """
    return at_valid_times(lambda times: climatology_at(coefficients, times), init_times, lead_times)


def at_valid_times(
    select: Callable[[np.ndarray], xr.Dataset], init_times: np.ndarray, lead_times: np.ndarray
) -> xr.Dataset:
    """Lay a function of time out by initial time and lead time.

    Args:
        select: Gives the dataset of an array of unique, increasing times.
        init_times: datetime64.
        lead_times: timedelta64.
    """
    valid = xr.DataArray(
        init_times[:, None] + lead_times[None, :],
        dims=("init_time", "lead_time"),
        coords={"init_time": init_times, "lead_time": lead_times},
    )
    fields = select(np.unique(valid.values))
    laid_out = fields.sel(time=valid).drop_vars("time")
    return laid_out.transpose("init_time", "lead_time", ...)

"""Valid times of forecasts: initial time and lead time, added in the calendar of the forecast.

This is the one place where evaluation adds them. Truth, climatology and baselines are looked up by
the dates that come out.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import xarray as xr

from data_pipeline.calendars import calendar_of
from data_pipeline.timestep import lead_times_of, valid_times


@dataclass(frozen=True)
class ValidTimes:
    """Valid times by initial and lead time, with NaT for pairs that have none.

    Args:
        init_times: Increasing datetime64 (init_time,).
        lead_times: Increasing timedelta64 (lead_time,).
        table: datetime64[ns] (init_time, lead_time).
    """

    init_times: np.ndarray
    lead_times: np.ndarray
    table: np.ndarray

    def at(self, init_times: np.ndarray, leads: slice) -> np.ndarray:
        """The valid times of some initial times and of a range of lead times."""
        return self.table[np.searchsorted(self.init_times, init_times), leads]

    @property
    def unique(self) -> np.ndarray:
        """All of them once, increasing, without NaT."""
        return np.unique(self.table[~np.isnat(self.table)])


def valid_times_of(forecast: xr.Dataset, labels: np.ndarray | None = None) -> ValidTimes:
    """Valid times of a canonical forecast; months take over the ``labels``, see ``timestep``."""
    inits, leads = forecast["init_time"].values, lead_times_of(forecast["lead_time"])
    return ValidTimes(inits, leads, valid_times(inits, leads, calendar_of(forecast), labels))


def where_dated(
    function: Callable[[np.ndarray], np.ndarray], times: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray:
    """Fields (time, *shape) of a function of dates, NaN at times that are NaT."""
    dated = ~np.isnat(times)
    if dated.all():
        return function(times)
    if not dated.any():
        return np.full((len(times), *shape), np.nan)
    known = function(times[dated])
    fields = np.full((len(times), *shape), np.nan, known.dtype)
    fields[dated] = known
    return fields

"""Climatologies: the mean state at a time, on a grid and in units of their own.

They come from the harmonics that a prepared store holds, from tables by hour and day of the year,
see ``climatology_tables``, or are fitted to years, see ``climatology_sources``. Scores take them
aligned with truth, see ``companions``.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import xarray as xr

from data_pipeline.channels import Channel
from data_pipeline.errors import InputError
from data_pipeline.grids.grid import space_dims
from data_pipeline.periods import Period
from data_pipeline.preprocessing.climatology import ALL_HOURS, fields_at, hours_of_day
from data_pipeline.store.reader import PreparedStore

_NUM_WEEKS = 52
_AXES = ("time", "hour", "dayofyear", "month", "harmonic", "level")
FieldsByTime = Callable[[Channel, np.ndarray], np.ndarray]
"""Fields (time, latitude, longitude) of a channel at times, in float32 or float64."""


@dataclass(frozen=True, kw_only=True)
class Climatology:
    """The climatological state by channel, as it was found."""

    at: FieldsByTime
    mean: Callable[[Channel], np.ndarray]  # over the year, (latitude, longitude)
    description: str
    dataset: xr.Dataset  # that it was made of: its grid, units, levels, thresholds and the like
    require_times: Callable[[np.ndarray], None]  # raises where an hour or a day is missing
    times: np.ndarray | None = None  # of the data behind it, where known

    @property
    def hours(self) -> list[int | float]:
        """Hours of day that it tells apart."""
        together = [ALL_HOURS]
        hours = self.dataset["hour"].values.tolist() if "hour" in self.dataset.dims else together
        return [0] if hours == together else list(hours)


def pick(dataset: xr.Dataset, channel: Channel, source: str = "the climatology") -> xr.DataArray:
    """The variable of a channel at its level, by its name or with ``_mean`` after it.

    Raises:
        InputError: If the dataset, called ``source`` in messages, lacks the variable or the level,
            or the variable has further axes.
    """
    names = [name for name in (channel.name, f"{channel.name}_mean") if name in dataset]
    if not names:
        raise InputError(
            f"{source} lacks {channel.name}; it holds {sorted(map(str, dataset.data_vars))}; give "
            "one of all channels, or choose channels with evaluation.channels",
            code="missing-variable",
        )
    array = dataset[names[0]]
    others = [str(dim) for dim in array.dims if dim not in (*_AXES, *space_dims(array.dims))]
    if others:
        raise InputError(
            f"{names[0]} of {source} has the axis {others[0]}; select one of its entries with the "
            f"option's .select={{{others[0]}: ...}}, or average it",
            code="wrong-dimensions",
        )
    levels = array["level"].values.tolist() if "level" in array.dims else []
    if (channel.level is None) != (not levels) or (levels and channel.level not in levels):
        expected = "no levels" if channel.level is None else f"{channel.level} hPa"
        raise InputError(
            f"{source} has {names[0]} at {levels or 'no'} levels, scored is {channel.label}, with "
            f"{expected}; give one of these levels, or choose channels with evaluation.channels",
            code="missing-level",
        )
    array = array.sel(level=channel.level, drop=True) if levels else array
    return array.transpose(..., *space_dims(array.dims))


def from_coefficients(
    coefficients: xr.Dataset,
    description: str = "given coefficients",
    times: np.ndarray | None = None,
) -> Climatology:
    """A climatology of harmonics, see ``data_pipeline.preprocessing.climatology``."""
    hours = coefficients["hour"].values
    known: dict[Channel, xr.DataArray] = {}  # whose values may be read anew each time

    def picked(channel: Channel) -> xr.DataArray:
        if channel not in known:
            known[channel] = pick(coefficients, channel).transpose("hour", "harmonic", ...)
        return known[channel]

    def at(channel: Channel, times: np.ndarray) -> np.ndarray:
        return fields_at(picked(channel).values, hours, times)

    def mean(channel: Channel) -> np.ndarray:
        return picked(channel).values[:, 0].mean(axis=0, dtype=np.float64)

    return Climatology(
        at=at,
        mean=mean,
        description=description,
        dataset=coefficients,
        require_times=lambda times: require_hours(hours, times),
        times=times,
    )


def from_store(store: PreparedStore) -> Climatology:
    """The climatology of a prepared store's training period."""
    text = "harmonics of the day of year for each hour of day, of the store's training period"
    period = training_period(store)
    if period is not None:
        text += f" {period}"
    description = mean_of_trajectories(store) or text
    return from_coefficients(store.climatology(), description, training_times(store))


def mean_of_trajectories(store: PreparedStore) -> str:
    """Describe a climatology that is the mean of trajectories; empty where it is none."""
    harmonics = (store.attrs.get("settings") or {}).get("climatology_harmonics")
    if store.step.trajectories is None or harmonics != 0:
        return ""
    return "mean over the training trajectories at each step"


def training_period(store: PreparedStore) -> Period | None:
    """The period that statistics and climatology of a prepared store have seen, if it says so."""
    train = (store.attrs.get("settings") or {}).get("train") or {}
    return Period(start=train["start"], end=train["end"]) if "start" in train else None


def training_times(store: PreparedStore) -> np.ndarray:
    """Times of a prepared store's training period; all where the store does not state it."""
    period = training_period(store)
    return store.times if period is None else store.times[period.contains(store.times)]


def require_hours(hours: np.ndarray, times: np.ndarray) -> None:
    """Reject times at hours of day that a climatology lacks."""
    together = hours.tolist() == [ALL_HOURS]
    missing = sorted(set(hours_of_day(times, together=together).tolist()) - set(hours.tolist()))
    if missing:
        raise InputError(
            f"the climatology has the hours of day {hours.tolist()}, the scores need {missing}; "
            "give one with these hours",
            code="hours-mismatch",
        )


def weekly_mean(at: FieldsByTime, hours: list[int | float]) -> FieldsByTime:
    """Means of a climatology over each week of the year, all hours of day together.

    Week k holds the days 7 k to 7 k + 6 of the year.

    References:
        WeatherBench, Rasp et al., 2020, https://arxiv.org/abs/2002.00469, section 4 (weekly
        climatology).
    """
    known: dict[Channel, np.ndarray] = {}  # not lru_cache, which no cluster can serialize
    days = np.datetime64("2001-01-01", "ns") + np.arange(365) * np.timedelta64(1, "D")
    week = np.minimum(np.arange(365) // 7, _NUM_WEEKS - 1)
    offsets = [np.timedelta64(round(3600 * hour), "s") for hour in hours]

    def weekly(channel: Channel, times: np.ndarray) -> np.ndarray:
        if channel not in known:
            daily = np.mean([at(channel, days + offset) for offset in offsets], axis=0)
            known[channel] = np.stack([daily[week == w].mean(axis=0) for w in range(_NUM_WEEKS)])
        day = (times.astype("datetime64[D]") - times.astype("datetime64[Y]")).astype(int)
        return known[channel][np.minimum(day // 7, _NUM_WEEKS - 1)]

    return weekly


def time_invariant(field: Callable[[Channel], np.ndarray]) -> FieldsByTime:
    """A climatology without annual cycle."""
    known: dict[Channel, np.ndarray] = {}

    def at(channel: Channel, times: np.ndarray) -> np.ndarray:
        if channel not in known:
            known[channel] = field(channel)
        return np.broadcast_to(known[channel], (len(times), *known[channel].shape))

    return at

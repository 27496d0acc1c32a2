"""Climatologies: the mean state at a time.

It comes from the harmonics that a prepared store holds, from WeatherBench 2's tables (hour,
dayofyear, ...), or is fitted here to a series, see ``data_pipeline.preprocessing.climatology``.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import xarray as xr

from data_pipeline.channels import Channel, Channels
from data_pipeline.errors import InputError
from data_pipeline.files.progress import track
from data_pipeline.grids.coarsening import Coarsening
from data_pipeline.grids.grid import space_dims
from data_pipeline.preprocessing.climatology import fields_at, fit_climatology, hours_of_day
from data_pipeline.sources.canonical import canonicalize, open_source
from data_pipeline.sources.config import SourceConfig
from data_pipeline.store.reader import PreparedStore, is_prepared

_FIT_BYTES = 64 * 2**20
_NUM_WEEKS = 52
FieldsByTime = Callable[[Channel, np.ndarray], np.ndarray]
"""Fields (time, latitude, longitude) of a channel at times, in float32 or float64."""


@dataclass(frozen=True)
class Climatology:
    """The climatological state by channel."""

    at: FieldsByTime
    mean: Callable[[Channel], np.ndarray]  # over the year, (latitude, longitude)
    description: str
    period: tuple[np.datetime64, np.datetime64] | None = None  # of the data behind it, where known
    dataset: xr.Dataset | None = None  # that it was read from, with thresholds and the like

    def coarsened(self, coarsening: Coarsening | None) -> "Climatology":
        """The climatology on the grid onto which truth is averaged, if any."""
        if coarsening is None:
            return self
        return replace(
            self,
            at=lambda channel, times: coarsening.apply(self.at(channel, times)).astype(float),
            mean=lambda channel: coarsening.apply(self.mean(channel)).astype(float),
        )


def from_coefficients(
    coefficients: xr.Dataset,
    description: str = "given coefficients",
    period: tuple[np.datetime64, np.datetime64] | None = None,
) -> Climatology:
    """A climatology of harmonics, see ``data_pipeline.preprocessing.climatology``."""

    def picked(channel: Channel) -> np.ndarray:
        array = coefficients[channel.name]
        return (array if channel.level is None else array.sel(level=channel.level)).values

    def at(channel: Channel, times: np.ndarray) -> np.ndarray:
        return fields_at(picked(channel), coefficients["hour"].values, times)

    def mean(channel: Channel) -> np.ndarray:
        return picked(channel)[:, 0].mean(axis=0, dtype=np.float64)

    return Climatology(at, mean, description, period, coefficients)


def from_table(table: xr.Dataset, description: str = "given table") -> Climatology:
    """A climatology by ``dayofyear`` (1 to 366) and, where it has this axis, ``hour``."""

    def picked(channel: Channel) -> xr.DataArray:
        names = [name for name in (channel.name, f"{channel.name}_mean") if name in table]
        if not names:
            raise InputError(
                f"the climatology lacks {channel.name}; it holds {sorted(map(str, table))}; give "
                "one of all channels, or choose channels with evaluation.channels",
                code="missing-variable",
            )
        array = table[names[0]]
        return array if channel.level is None else array.sel(level=channel.level)

    def at(channel: Channel, times: np.ndarray) -> np.ndarray:
        day = (times.astype("datetime64[D]") - times.astype("datetime64[Y]")).astype(int) + 1
        index: dict[str, xr.DataArray] = {"dayofyear": xr.DataArray(day, dims="time")}
        if "hour" in table.dims:
            hours = hours_of_day(times)
            missing = sorted(set(hours.tolist()) - set(table["hour"].values.tolist()))
            if missing:
                raise InputError(
                    f"the climatology has the hours of day {table['hour'].values.tolist()}, the "
                    f"scores need {missing}; give one with these hours",
                    code="hours-mismatch",
                )
            index["hour"] = xr.DataArray(hours, dims="time")
        fields = picked(channel).sel(index)
        fields = fields.transpose("time", *space_dims(fields.dims))
        return fields.compute(scheduler="synchronous").values.astype(np.float64)

    def mean(channel: Channel) -> np.ndarray:
        axes = [axis for axis in ("hour", "dayofyear") if axis in table.dims]
        return picked(channel).mean(axes, dtype="float64").compute().values

    return Climatology(at, mean, description, None, table)


def from_series(series: xr.Dataset, channels: Channels, num_harmonics: int) -> Climatology:
    """Fit a climatology to fields (time, [level], latitude, longitude) in one pass."""
    times = series["time"].values
    fields = channels.stack(series)
    length = max(1, _FIT_BYTES // (4 * int(np.prod(fields.shape[1:]))))

    def blocks() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for start in track(range(0, len(times), length), "Fitting the climatology"):
            span = slice(start, start + length)
            yield times[span], fields.isel(time=span).values

    try:
        hours, coefficients = fit_climatology(blocks(), num_harmonics)
    except InputError as error:
        raise InputError(
            f"the climatology's times {times[0]} to {times[-1]} do not cover the year well enough "
            f"to fit {num_harmonics} harmonics; give more years, or set "
            "evaluation.climatology_harmonics lower (0 fits a constant)",
            code="short-period",
        ) from error
    axes = {"hour": hours, "harmonic": np.arange(coefficients.shape[1])}
    axes |= {axis: series[axis].values for axis in space_dims(series.dims)}
    text = (
        f"mean and {num_harmonics} harmonics of the day of year for each hour of day, fitted to "
        f"{times[0].astype('datetime64[D]')} to {times[-1].astype('datetime64[D]')}"
    )
    return from_coefficients(channels.unstack(coefficients, axes), text, (times[0], times[-1]))


def open_climatology(
    source: SourceConfig, channels: Channels, num_harmonics: int = 2
) -> Climatology:
    """Open a climatology, or fit one.

    The source is a prepared store, a table by ``dayofyear`` and ``hour`` (WeatherBench 2), or a
    series of the training years, to which harmonics of the day of the year are fitted.
    """
    name = source.paths[0]
    path = Path(name)
    if is_prepared(path):
        return from_store(PreparedStore(path))
    if path.suffix in (".nc", ".zarr") or path.is_dir() or "://" in name:  # it may be a table
        opened = xr.open_dataset(name) if path.suffix == ".nc" else xr.open_zarr(name)
        if "dayofyear" in opened.dims:
            text = f"table {path.name} by day of year and hour of day"
            return from_table(canonicalize(opened, source), text)
        opened.close()
    return from_series(open_source(source), channels, num_harmonics)


def from_store(store: PreparedStore) -> Climatology:
    """The climatology of a prepared store's training period."""
    train = (store.attrs.get("settings") or {}).get("train") or {}
    period = None
    text = "harmonics of the day of year for each hour of day, of the store's training period"
    if "start" in train:
        last = np.datetime64(train["end"], "D").astype("datetime64[ns]") + np.timedelta64(1, "D")
        period = (np.datetime64(train["start"], "ns"), last - np.timedelta64(1, "ns"))
        text += f" {train['start']} to {train['end']}"
    return from_coefficients(store.climatology(), text, period)


def weekly_mean(base: Climatology) -> FieldsByTime:
    """Means of a climatology over each week of the year, all hours of day together.

    Week k holds the days 7 k to 7 k + 6 of the year.

    References:
        WeatherBench, Rasp et al., 2020, https://arxiv.org/abs/2002.00469, section 4 (weekly
        climatology).
    """
    known: dict[Channel, np.ndarray] = {}  # not lru_cache, which no cluster can serialize
    days = np.datetime64("2001-01-01", "ns") + np.arange(365) * np.timedelta64(1, "D")
    week = np.minimum(np.arange(365) // 7, _NUM_WEEKS - 1)
    hours = [0]
    if base.dataset is not None and "hour" in base.dataset.dims:
        hours = base.dataset["hour"].values.tolist()

    def at(channel: Channel, times: np.ndarray) -> np.ndarray:
        if channel not in known:
            by_hour = [base.at(channel, days + np.timedelta64(h, "h")) for h in hours]
            daily = np.mean(by_hour, axis=0)
            known[channel] = np.stack([daily[week == w].mean(axis=0) for w in range(_NUM_WEEKS)])
        day = (times.astype("datetime64[D]") - times.astype("datetime64[Y]")).astype(int)
        return known[channel][np.minimum(day // 7, _NUM_WEEKS - 1)]

    return at


def time_invariant(field: Callable[[Channel], np.ndarray]) -> FieldsByTime:
    """A climatology without annual cycle."""
    known: dict[Channel, np.ndarray] = {}

    def at(channel: Channel, times: np.ndarray) -> np.ndarray:
        if channel not in known:
            known[channel] = field(channel)
        return np.broadcast_to(known[channel], (len(times), *known[channel].shape))

    return at

"""Climatologies: the mean state at a time, from a prepared store, a table, or a series.

A climatology gives float64 fields of a channel at any times. It comes from the harmonics that a
prepared store holds, from WeatherBench 2's tables (hour, dayofyear, ...), or is fitted here to a
series of fields; see ``data_pipeline.climatology`` for the fit.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from data_pipeline.channels import Channel, Channels
from data_pipeline.climatology import climatology_at, fit_climatology, hours_of_day
from data_pipeline.coarsening import Coarsening
from data_pipeline.errors import InputError
from data_pipeline.opening import open_all
from data_pipeline.progress import track
from data_pipeline.sources import SourceConfig, canonicalize, open_source
from data_pipeline.store import PreparedStore

_HARMONICS = 2
_FIT_BYTES = 64 * 2**20
_WEEKS = 52
Fields = Callable[[Channel, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Climatology:
    """The climatological state.

    Args:
        at: Fields (time, latitude, longitude) of a channel at times (datetime64), float64.
        mean: Field (latitude, longitude) of a channel, the mean over the year.
        description: One sentence.
        period: First and last time of the data behind it, where known.
        dataset: What it was read from, for thresholds of precipitation and the like.
    """

    at: Fields
    mean: Callable[[Channel], np.ndarray]
    description: str
    period: tuple[np.datetime64, np.datetime64] | None = None
    dataset: xr.Dataset | None = None


@dataclass(frozen=True)
class _Harmonics:
    """Fields from coefficients, see ``data_pipeline.climatology``."""

    coefficients: xr.Dataset

    def _picked(self, channel: Channel) -> xr.Dataset:
        dataset = self.coefficients[[channel.name]]
        return dataset if channel.level is None else dataset.sel(level=[channel.level])

    def __call__(self, channel: Channel, times: np.ndarray) -> np.ndarray:
        fields = climatology_at(self._picked(channel), times)[channel.name].values
        return fields.reshape(len(times), *fields.shape[-2:]).astype(np.float64)

    def mean(self, channel: Channel) -> np.ndarray:
        constant = self._picked(channel)[channel.name].isel(harmonic=0)
        values = constant.mean("hour", dtype="float64").values
        return values.reshape(values.shape[-2:])


def from_coefficients(
    coefficients: xr.Dataset,
    description: str = "given coefficients",
    period: tuple[np.datetime64, np.datetime64] | None = None,
) -> Climatology:
    """A climatology of harmonics of the day of the year for each hour of day.

    Args:
        coefficients: See ``data_pipeline.climatology``.
        description: One sentence.
        period: First and last time of the data behind it.
    """
    fields = _Harmonics(coefficients)
    return Climatology(fields, fields.mean, description, period, coefficients)


@dataclass(frozen=True)
class _Table:
    """Fields from a table by day of the year and hour of day."""

    table: xr.Dataset

    def _picked(self, channel: Channel) -> xr.DataArray:
        names = [n for n in (channel.name, f"{channel.name}_mean") if n in self.table]
        if not names:
            raise InputError(
                f"the climatology lacks {channel.name}; it holds {sorted(map(str, self.table))}; "
                "give one of all channels, or choose channels with evaluation.channels"
            )
        array = self.table[names[0]]
        return array if channel.level is None else array.sel(level=channel.level)

    def __call__(self, channel: Channel, times: np.ndarray) -> np.ndarray:
        day = (times.astype("datetime64[D]") - times.astype("datetime64[Y]")).astype(int) + 1
        index: dict[str, xr.DataArray] = {"dayofyear": xr.DataArray(day, dims="time")}
        if "hour" in self.table.dims:
            hours, known = hours_of_day(times), self.table["hour"].values.tolist()
            missing = sorted(set(hours.tolist()) - set(known))
            if missing:
                raise InputError(
                    f"the climatology has the hours of day {known}, asked for are {missing}; give "
                    "one with these hours"
                )
            index["hour"] = xr.DataArray(hours, dims="time")
        found = self._picked(channel).sel(index).transpose("time", "latitude", "longitude")
        return found.compute(scheduler="synchronous").values.astype(np.float64)

    def mean(self, channel: Channel) -> np.ndarray:
        axes = [axis for axis in ("hour", "dayofyear") if axis in self.table.dims]
        mean = self._picked(channel).mean(axes, dtype="float64")
        return mean.transpose("latitude", "longitude").compute().values


def from_table(table: xr.Dataset, description: str = "given table") -> Climatology:
    """A climatology by ``dayofyear`` (1 to 366) and, where it has this axis, ``hour``."""
    fields = _Table(table)
    return Climatology(fields, fields.mean, description, None, table)


def from_series(series: xr.Dataset, channels: Channels) -> Climatology:
    """Fit a climatology to fields (time, [level], latitude, longitude) in one pass.

    With two harmonics of the day of the year where the series covers a year, else without.
    """
    times = series["time"].values
    covers_year = times[-1] - times[0] >= np.timedelta64(364, "D")
    num_harmonics = _HARMONICS if covers_year else 0
    fields = channels.stack(series)
    length = max(1, _FIT_BYTES // (4 * int(np.prod(fields.shape[1:]))))

    def blocks() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for start in track(range(0, len(times), length), "Fitting the climatology"):
            part = slice(start, start + length)
            yield times[part], fields.isel(time=part).values

    hours, coefficients = fit_climatology(blocks(), num_harmonics)
    axes = {"hour": hours, "harmonic": np.arange(coefficients.shape[1])}
    space = {axis: series[axis].values for axis in ("latitude", "longitude")}
    text = (
        f"mean and {num_harmonics} harmonics of the day of year for each hour of day, fitted to "
        f"{times[0].astype('datetime64[D]')} to {times[-1].astype('datetime64[D]')}"
    )
    dataset = channels.unstack(coefficients, {**axes, **space})
    return from_coefficients(dataset, text, (times[0], times[-1]))


def open_climatology(source: SourceConfig, channels: Channels) -> Climatology:
    """Open a climatology, or fit one.

    Args:
        source: A prepared store, a table by ``dayofyear`` and ``hour`` (WeatherBench 2), or a
            series of the training years.
        channels: What a fit must cover.
    """
    path = Path(source.paths[0])
    if is_prepared(path):
        return from_store(PreparedStore(path))
    table = _open_table(source)
    if table is not None:
        return from_table(table, f"table {path.name} by day of year and hour of day")
    return from_series(open_source(source), channels)


def is_prepared(path: Path) -> bool:
    """Whether a folder is a training store of this project."""
    if not (path / "zarr.json").exists():
        return False
    with xr.open_zarr(path, consolidated=False) as dataset:
        return "fingerprint" in dataset.attrs and "format" in dataset.attrs


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


def _open_table(source: SourceConfig) -> xr.Dataset | None:
    """A table by day of the year, with canonical axes; ``None`` for anything else."""
    path = source.paths[0]
    local = Path(path)
    is_store = any((local / name).exists() for name in ("zarr.json", ".zmetadata", ".zgroup"))
    if "://" not in path and not is_store and not (local.is_file() and local.suffix == ".nc"):
        return None
    if local.is_file():
        opened = xr.open_dataset(path, chunks={})
    else:
        opened = open_all(path, (), 6, source.storage_options)[0]
    if "dayofyear" not in opened.dims:
        opened.close()
        return None
    return canonicalize(opened, source)


class Weekly:
    """Means of a climatology over each week of the year, all hours of day together.

    Week k holds the days 7 k to 7 k + 6 of the year, the last one 8 or 9 days.

    Args:
        base: Climatology by day of the year.

    References:
        WeatherBench, Rasp et al., 2020, https://arxiv.org/abs/2002.00469, section 4 (weekly
        climatology).
    """

    def __init__(self, base: Climatology) -> None:
        self._base = base
        self._known: dict[Channel, np.ndarray] = {}

    def __call__(self, channel: Channel, times: np.ndarray) -> np.ndarray:
        """Fields (time, latitude, longitude)."""
        if channel not in self._known:
            self._known[channel] = self._table(channel)
        day = (times.astype("datetime64[D]") - times.astype("datetime64[Y]")).astype(int)
        return self._known[channel][np.minimum(day // 7, _WEEKS - 1)]

    def _table(self, channel: Channel) -> np.ndarray:
        days = np.datetime64("2001-01-01", "ns") + np.arange(365) * np.timedelta64(1, "D")
        hours = [days + np.timedelta64(hour, "h") for hour in _known_hours(self._base)]
        daily = np.mean([self._base.at(channel, times) for times in hours], axis=0)
        week = np.minimum(np.arange(365) // 7, _WEEKS - 1)
        return np.stack([daily[week == w].mean(axis=0) for w in range(_WEEKS)])


def _known_hours(climatology: Climatology) -> list[int]:
    dataset = climatology.dataset
    if dataset is None or "hour" not in dataset.dims:
        return [0]
    return dataset["hour"].values.tolist()


@dataclass(frozen=True)
class Constant:
    """A climatology without annual cycle.

    Args:
        means: Field (latitude, longitude) of each channel.
    """

    means: Mapping[Channel, np.ndarray]

    def __call__(self, channel: Channel, times: np.ndarray) -> np.ndarray:
        """Fields (time, latitude, longitude)."""
        mean = self.means[channel]
        return np.broadcast_to(mean, (len(times), *mean.shape))


class Regridded:
    """A climatology that is averaged onto another grid.

    Args:
        base: Climatology on the grid of truth.
        coarsening: Means on the grid of the scores.
    """

    def __init__(self, base: Climatology, coarsening: Coarsening) -> None:
        self._base, self._coarsening = base, coarsening

    def __call__(self, channel: Channel, times: np.ndarray) -> np.ndarray:
        """Fields (time, latitude, longitude)."""
        return self._coarsening.apply(self._base.at(channel, times)).astype(np.float64)

    def mean(self, channel: Channel) -> np.ndarray:
        """Field (latitude, longitude), the mean over the year."""
        return self._coarsening.apply(self._base.mean(channel)).astype(np.float64)

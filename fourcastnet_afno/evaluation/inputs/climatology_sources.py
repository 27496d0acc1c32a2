"""Climatologies of whatever a user has: prepared stores, tables, coefficients, or years to fit."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import psutil
import xarray as xr

from data_pipeline.channels import Channel, Channels
from data_pipeline.errors import InputError
from data_pipeline.files.progress import track
from data_pipeline.grids.grid import space_dims
from data_pipeline.grids.plane import grid_of
from data_pipeline.preprocessing.climatology import fit_climatology, hours_of_day
from data_pipeline.preprocessing.window_climatology import DAYS, fit_window
from data_pipeline.sources.canonical import open_source
from data_pipeline.sources.config import SourceConfig
from data_pipeline.sources.files import (
    expand_glob,
    is_store,
    matching_paths,
    open_all,
)
from data_pipeline.sources.retry import load
from data_pipeline.store.reader import PreparedStore, is_prepared
from fourcastnet_afno.evaluation.config import ClimatologyFit
from fourcastnet_afno.evaluation.inputs.climatologies import (
    Climatology,
    from_coefficients,
    from_store,
    pick,
)
from fourcastnet_afno.evaluation.inputs.climatology_tables import from_table, is_table, open_table

_FIT_BYTES = 64 * 2**20
_SHORTEST_MONTH = np.timedelta64(27, "D")


def open_climatology(
    source: SourceConfig,
    channels: Channels,
    num_harmonics: int = 2,
    fit: ClimatologyFit = "harmonics",
) -> Climatology:
    """Open a climatology, or fit one to years, see ``climatology_of``."""
    opened = open_climatology_data(source)
    if isinstance(opened, Climatology):
        return opened
    return climatology_of(opened, channels, fit, num_harmonics)


def open_climatology_data(source: SourceConfig) -> Climatology | xr.Dataset:
    """The climatology of a prepared store, or else a table or years, canonical and not yet read.

    Raises:
        InputError: If nothing is there, or it cannot be read.
    """
    store = prepared_store(source)
    if store is not None:
        return from_store(store)
    if source.benchmark is not None or not _first_is_table(source):
        return open_source(source)
    return open_table(source)


def prepared_store(source: SourceConfig) -> PreparedStore | None:
    """The prepared store that a source names, if it names one.

    Raises:
        InputError: If it names several, or other data in addition.
    """
    paths = [
        path
        for given in source.paths
        for path in (matching_paths(given) or [given] if "://" not in given else [given])
    ]
    prepared = [path for path in paths if "://" not in path and is_prepared(Path(path))]
    if prepared and len(paths) > 1:
        raise InputError(
            f"{source.path} names {len(paths)} paths, of which {', '.join(prepared[:3])} are "
            "prepared stores; give one prepared store, or other data",
            code="bad-setting",
        )
    return PreparedStore(Path(paths[0])) if prepared else None


def _first_is_table(source: SourceConfig) -> bool:
    """Whether the first file has an axis of a table; the others are not opened."""
    first = source.paths[0]
    if "://" not in first and not is_store(first):
        first = expand_glob(first)[0]
    with ExitStack() as stack:
        opened = [stack.enter_context(dataset) for dataset in open_all(first, source)]
        return any(is_table(dataset, source) for dataset in opened)


def climatology_of(
    dataset: xr.Dataset,
    channels: Channels,
    fit: ClimatologyFit = "harmonics",
    num_harmonics: int = 2,
) -> Climatology:
    """The climatology that a canonical dataset holds, or that is fitted to it.

    Args:
        dataset: Coefficients of harmonics, such as ``PreparedStore.climatology``; a table, see
            ``climatology_tables``; or years, (time, [level], latitude, longitude).
        channels: What is fitted.
        fit: ``window`` or ``harmonics``, see ``preprocessing.window_climatology`` and
            ``preprocessing.climatology``.
        num_harmonics: Of the day of the year; 0 fits a constant.

    Raises:
        InputError: If it has no axis of time, lacks a channel, or covers too little of the year.
    """
    if "harmonic" in dataset.dims:
        return from_coefficients(dataset)
    if is_table(dataset):
        name = Path(str(dataset.encoding.get("source", "given"))).name
        axes = " and ".join(
            text
            for axis, text in (
                ("month", "month"), ("dayofyear", "day of year"), ("hour", "hour of day"),
            )
            if axis in dataset.dims
        )  # fmt: skip
        return from_table(dataset, f"table {name} by {axes}")
    if "time" not in dataset.dims:
        raise InputError(
            f"the climatology has the axes {list(map(str, dataset.dims))}, expected time, or "
            "dayofyear or month, and hour; map their names with --climatology.rename",
            code="missing-axis",
        )
    if dataset.sizes["time"] < 2:
        raise InputError(
            f"the climatology has {dataset.sizes['time']} times; give years, or a table",
            code="short-period",
        )
    own = Channels(
        tuple(
            Channel(name=c.name, level=c.level, units=str(pick(dataset, c).attrs.get("units", "")))
            for c in channels
        )
    )
    if fit == "window":
        return _fit_window(dataset, own)
    return _fit_harmonics(dataset, own, num_harmonics)


def _blocks(
    series: xr.Dataset, channels: Channels, text: str
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Times and fields (time, channel, latitude, longitude), in blocks of bounded size."""
    times, name = series["time"].values, str(series.encoding.get("source", "the climatology"))
    fields = channels.stack(series)
    length = max(1, _FIT_BYTES // (4 * int(np.prod(fields.shape[1:]))))
    for start in track(range(0, len(times), length), text):
        span = slice(start, start + length)
        yield times[span], load(fields.isel(time=span), name).values


def _fit_harmonics(series: xr.Dataset, channels: Channels, num_harmonics: int) -> Climatology:
    times = series["time"].values
    try:
        hours, coefficients = fit_climatology(
            _blocks(series, channels, "Fitting the climatology"),
            num_harmonics,
            together=_is_monthly(times),
        )
    except InputError as error:
        if error.code != "short-period":
            raise
        raise InputError(
            f"the climatology's times {times[0]} to {times[-1]} do not cover the year well enough "
            f"to fit {num_harmonics} harmonics; give more years, or set "
            "evaluation.climatology_harmonics lower (0 fits a constant)",
            code="short-period",
        ) from error
    axes = {"hour": hours, "harmonic": np.arange(coefficients.shape[1])}
    text = f"mean and {num_harmonics} harmonics of the day of year for each hour of day"
    return from_coefficients(
        _unstacked(series, channels, coefficients, axes), f"{text}, {_fitted_to(times)}", times
    )


def _fit_window(series: xr.Dataset, channels: Channels) -> Climatology:
    """Fit one variable after another, so that the sums stay small."""
    times = series["time"].values
    num_cells = int(np.prod([series.sizes[axis] for axis in space_dims(series.dims)]))
    channel_values = len(np.unique(hours_of_day(times))) * DAYS * num_cells
    by_name = {
        name: Channels(tuple(c for c in channels if c.name == name))
        for name in dict.fromkeys(channel.name for channel in channels)
    }
    largest = max(len(group) for group in by_name.values())
    needed = channel_values * (4 * len(channels) + 8 * largest)
    available = psutil.virtual_memory().available
    if needed > available:
        raise InputError(
            f"the climatology by a window needs {needed / 2**30:.1f} GiB for {len(channels)} "
            f"channels, {available / 2**30:.1f} GiB are free; give a table, set "
            "evaluation.climatology=harmonics, or score fewer channels with evaluation.channels",
            code="too-little-memory",
        )
    fitted = {
        name: fit_window(
            _blocks(series, group, "Averaging the climatology"), together=_is_monthly(times)
        )
        for name, group in by_name.items()
    }
    first = fitted[channels.channels[0].name]  # all have the same times
    axes = {"hour": first.hours, "dayofyear": np.arange(1, DAYS + 1)}
    table = xr.merge(
        [_unstacked(series, by_name[name], part.fields, axes) for name, part in fitted.items()],
        combine_attrs="override",
        join="outer",
        compat="no_conflicts",
    )
    assert isinstance(table, xr.Dataset)
    if _is_monthly(times):
        table = table.isel(hour=0, drop=True)
    text = "mean over a window of 61 days for each day of year and hour of day (WeatherBench 2)"
    return from_table(table, f"{text}, {_fitted_to(times)}", covered=first.covered, times=times)


def _is_monthly(times: np.ndarray) -> bool:
    """Whether times are months apart: their hours of day, such as mid-months', do not matter."""
    return bool(np.median(np.diff(times)) >= _SHORTEST_MONTH)


def _unstacked(
    series: xr.Dataset, channels: Channels, values: np.ndarray, axes: dict[str, np.ndarray]
) -> xr.Dataset:
    """Variables of fitted values (*axes, channel, latitude, longitude)."""
    space = {axis: series[axis].values for axis in space_dims(series.dims)}
    return channels.unstack(values, {**axes, **space}).assign_attrs(grid_of(series).attrs)


def _fitted_to(times: np.ndarray) -> str:
    first, last = times[[0, -1]].astype("datetime64[D]")
    return f"fitted to {first} to {last}"

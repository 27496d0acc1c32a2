"""Stored forecasts, read as one canonical dataset.

Canonical means the dimensions (init_time, lead_time, [realization], [level], latitude, longitude),
or y and x on a plane, names, units and axes as in ``sources.canonical``. Understood are
WeatherBench 2's layout (``time``, ``prediction_timedelta``, latitude and longitude in either
order), this project's (``init_time``, ``lead_time``), whatever ``time_axes`` tells by standard
names, and members along ``realization``, ``number``, ``ensemble``, ``member`` or ``sample``.
Several files are joined, see ``joined``.
"""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import xarray as xr
import zarr

from data_pipeline.errors import InputError
from data_pipeline.sources.canonical import canonicalize, open_source
from data_pipeline.sources.config import SourceConfig
from data_pipeline.sources.fields.select import MEMBER_AXES
from data_pipeline.sources.files import open_all
from data_pipeline.sources.left_out import reasons_left_out
from fourcastnet_afno.evaluation.inputs.joined import join_forecasts
from fourcastnet_afno.evaluation.inputs.mapped import MappedVariable, mapped_variables
from fourcastnet_afno.evaluation.inputs.time_axes import with_time_axes

_AXES = ("init_time", "lead_time", "realization", "level", "latitude", "longitude", "y", "x")
_SETTING = r"data\.source\.{}(?:=\{{[^}}]*\}}|=true)?"
_REMEDIES = (  # for settings of sources, which forecasts lack
    (r"data\.source\.path", "--forecast NAME=PATH"),
    (rf"set {_SETTING.format('convert')} to ", ""),
    (rf"set {_SETTING.format('units')}", "give them these units in the files"),
    (rf"with {_SETTING.format('units')}", "in the files"),
    (_SETTING.format("units"), "the attribute units"),
    (r"set data\.source\.time_(units|calendar)", r"give the times the attribute \1"),
    (r"data\.source\.time_(units|calendar)", r"the attribute \1 of times"),
    (rf"map (its name|names) with {_SETTING.format('rename')}", r"correct \1 in the files"),
    (rf", say so: {_SETTING.format('rename')}", ", give it that name in the files"),
    (rf"with {_SETTING.format('(?:rename|select)')}", "in the files"),
    (_SETTING.format("(?:rename|select)"), "the files"),
)


def open_with_layouts(path: str) -> tuple[xr.Dataset, dict[str, MappedVariable]]:
    """Open a forecast as a canonical dataset.

    Args:
        path: A zarr store (folder or URL) or a NetCDF file, or all of a folder or of a glob, which
            are joined.

    Returns:
        The dataset, and those of its variables that can be mapped into memory.

    Raises:
        InputError: If nothing is there, it has no lead times, its units are unknown, or files do
            not fit together.
    """
    with _errors_of_a_forecast():
        opened = open_all(path, SourceConfig(path=path))
        several = len(opened) > 1
        forecasts = [
            canonical_forecast(d, str(d.encoding.get("source", path)), is_part=several)
            for d in opened
        ]
        for stored, part in zip(opened, forecasts, strict=True):
            part.encoding["notes"] += _lost_chunks(stored)
        forecast = join_forecasts(forecasts)
    if several:

        def close() -> None:
            for dataset in opened:
                dataset.close()

        forecast.set_close(close)
        notes = {note: None for part in forecasts for note in part.encoding["notes"]}
        forecast.encoding["notes"] = list(notes)
        return forecast, {}
    return forecast, mapped_variables(forecast, opened[0], path)


def _lost_chunks(stored: xr.Dataset) -> list[str]:
    """Notes on the variables of a store that lacks chunks, though no forecast blew up.

    What ``forecast`` writes has a chunk of missing values alone, which is not stored, only where a
    forecast blew up.
    """
    path = str(stored.encoding.get("source", ""))
    if stored.attrs.get("blow_ups") != "[]" or not (Path(path) / "zarr.json").is_file():
        return []
    lacking = {
        name: _num_lost(array)
        for name, array in zarr.open_group(path, mode="r").arrays()
        if name in stored.data_vars
    }
    return [
        f"{name} of {path} lacks {count} chunks, whose values count as missing; if they were not "
        "left out on purpose, the store is damaged: write it again"
        for name, count in sorted(lacking.items())
        if count
    ]


def _num_lost(array: zarr.Array) -> int:
    """Files of chunks or of shards that an array lacks."""
    lengths = array.shards or array.chunks
    per_file = math.prod(n // m for n, m in zip(lengths, array.chunks, strict=True))
    num_files = math.prod(-(-size // n) for size, n in zip(array.shape, lengths, strict=True))
    return num_files - array.nchunks_initialized // per_file


@contextmanager
def _errors_of_a_forecast() -> Iterator[None]:
    """Name the option of forecasts in errors of sources."""
    try:
        yield
    except InputError as error:
        raise type(error)(_for_forecasts(str(error)), code=error.code) from error


def _for_forecasts(text: str) -> str:
    """A message of sources with remedies that forecasts have."""
    for setting, remedy in _REMEDIES:
        text = re.sub(setting, remedy, text)
    return text


def open_series(path: str) -> tuple[xr.Dataset, dict[str, MappedVariable]]:
    """A series as by ``open_source``, and those of its variables that can be mapped."""
    series = open_source(SourceConfig(path=path))
    if not (Path(path) / "zarr.json").exists():
        return series, {}
    (opened,) = open_all(path, SourceConfig(path=path))
    with opened:
        return series, mapped_variables(series, opened, path)


def canonical_forecast(
    dataset: xr.Dataset, path: str = "the forecast", *, is_part: bool = False
) -> xr.Dataset:
    """Rename, reorder and check; see the module's header.

    Args:
        dataset: As opened.
        path: Name for messages.
        is_part: Whether other files hold other members, so that the number of a single member is
            kept as an axis.

    Returns:
        Canonical, with sentences for people in ``encoding["notes"]``.
    """
    named, member = _with_members(dataset, path)
    timed, notes = with_time_axes(named, path)
    result = canonicalize(timed, SourceConfig(path=path), is_forecast=True)
    names = [n for n, v in result.data_vars.items() if {"init_time", "lead_time"} <= set(v.dims)]
    unknown = {
        str(name): [str(dim) for dim in result[name].dims if dim not in _AXES] for name in names
    }
    length_one = {dim for dims in unknown.values() for dim in dims if result.sizes[dim] == 1}
    result = result.squeeze(list(length_one), drop=True)
    axes = {n: sorted(set(dims) - length_one) for n, dims in unknown.items()}
    wrong = {name: f"it has the axes {dims}" for name, dims in axes.items() if dims}
    wrong |= {
        str(n): f"it holds {result[n].dtype}" for n in names if result[n].dtype.kind in "bcOSUmM"
    }
    kept = [name for name in names if name not in wrong]
    wrong |= {name: _for_forecasts(why) for name, why in reasons_left_out(result).items()}
    if not kept:
        found = "; ".join(f"{name}: {reason}" for name, reason in wrong.items())
        raise InputError(
            f"{path} has no variable of numbers along initial and lead times alone"
            f" ({found or list(map(str, result.data_vars))}); select one entry of other axes, or "
            "give other files",
            code="missing-variable",
        )
    notes += [f"{name} of {path} is not scored: {reason}" for name, reason in wrong.items()]
    result = result[kept]
    if is_part and member is not None and "realization" not in result.dims:
        result = result.expand_dims(realization=[member])
    result = result.transpose(*[axis for axis in _AXES if axis in result.dims])
    result.encoding |= {"source": path, "notes": notes}
    result.set_close(dataset.close)
    return result


def _with_members(dataset: xr.Dataset, path: str) -> tuple[xr.Dataset, int | None]:
    """Name the axis of members ``realization``; and the number of a single member, if any."""
    known = [name for name in MEMBER_AXES if name in dataset.dims or name in dataset.variables]
    several = [name for name in known if dataset.sizes.get(name, 1) > 1]
    if len(several) > 1:
        raise InputError(
            f"{path} has members along {' and '.join(several)}; select one entry of one of them",
            code="other-layout",
        )
    numbers = [
        int(dataset[name].values.reshape(-1)[0])
        for name in known
        if dataset[name].size == 1 and np.issubdtype(dataset[name].dtype, np.integer)
    ]
    single = [name for name in known if dataset.sizes.get(name) == 1]
    dataset = dataset.squeeze(single, drop=True)
    dataset = dataset.drop_vars([n for n in known if n not in several], errors="ignore")
    if several and several[0] != "realization":
        dataset = dataset.rename({several[0]: "realization"})
    return dataset, numbers[0] if numbers and not several else None

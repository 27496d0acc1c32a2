"""Reading a source for examination: leniently where it is refused, and never more than a bound."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import xarray as xr

from data_pipeline.channels import Channel, Channels
from data_pipeline.doctor.findings import Finding, found, refused
from data_pipeline.errors import InputError, TransferError
from data_pipeline.names import UNITS
from data_pipeline.opening import open_all, persistently, stamps
from data_pipeline.prepare import DataConfig
from data_pipeline.simulation import SimulationConfig, simulate
from data_pipeline.sources import SourceConfig, canonicalize, open_source

_SAMPLES, _SAMPLES_ELSEWHERE = 64, 8  # times in training, in each other period
_SIMULATED_DAYS, _SIMULATED_SPINUP, _SIMULATED_ROWS = 2, 5, 32
_MIB = 2**20


@dataclass(frozen=True)
class Opened:
    """A source, opened as far as it can be.

    Args:
        dataset: Canonical and lazy, or ``None`` where nothing can be read.
        times: Of its states, increasing, without repeats.
        raw: Files or stores as they are, the first at least.
        complete: Whether ``dataset`` and ``times`` are all of the source.
        findings: What is refused.
    """

    dataset: xr.Dataset | None
    times: np.ndarray
    raw: tuple[xr.Dataset, ...] = ()
    complete: bool = True
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Sample:
    """States that were read.

    Args:
        times: Their times (time,), increasing.
        values: By label of the channel, float32 (time, latitude, longitude).
        num_bytes: Of the chunks that hold them, uncompressed.
        damaged: Labels of which some times could not be read, which are NaN.
    """

    times: np.ndarray
    values: Mapping[str, np.ndarray]
    num_bytes: int
    damaged: frozenset[str] = frozenset()


def open_examined(config: DataConfig) -> Opened:
    """Open the source, or simulate a few days."""
    if config.source is None:
        assert config.simulation is not None
        return _simulated(config.simulation)
    try:
        dataset = open_source(config.source)
    except InputError as error:
        return _opened_leniently(config.source, error)
    try:
        raw = _open_raw(_files(config.source.paths[0])[0], config.source)
    except InputError:  # a network that fails now and did not just before
        raw = []
    return Opened(dataset, _times(dataset), tuple(raw))


def _open_raw(path: str, source: SourceConfig) -> list[xr.Dataset]:
    """One file or store as it is."""
    return open_all(path, source.channels, source.channels_timestep_hours)


def _simulated(config: SimulationConfig) -> Opened:
    """A short simulation, not finer than a few thousand points, and the times of all of it."""
    rows = min(config.num_latitudes, _SIMULATED_ROWS)
    short = replace(
        config,
        num_trajectories=1,
        days=min(config.days, _SIMULATED_DAYS),
        spinup_days=min(config.spinup_days, _SIMULATED_SPINUP),
        num_latitudes=rows,
        num_longitudes=2 * rows,
    )
    return Opened(simulate(short), config.times().ravel())


def _times(dataset: xr.Dataset) -> np.ndarray:
    return dataset["time"].values if "time" in dataset.dims else np.zeros(0, "datetime64[ns]")


def _opened_leniently(source: SourceConfig, error: InputError) -> Opened:
    """What can be read of a source that ``open_source`` refuses.

    Wrong labels of units are passed over, so that the values can tell; repeated times are dropped.
    """
    findings = [refused("source", error, "data.source")]
    raw, parts = [], []
    lenient = replace(source, units={**UNITS, **source.units})
    files = [file for path in source.paths for file in _files(path)]
    for file in files:
        try:
            opened = _open_raw(file, source)
            raw += opened
            parts += [_sorted(canonicalize(dataset, lenient)) for dataset in opened]
        except (InputError, ValueError, KeyError, OSError) as problem:
            if isinstance(problem, InputError) and str(problem) != str(error):
                findings.append(refused("source", problem, file))
    dataset = _merged(parts)
    complete = dataset is not None and len(parts) == len(raw) >= len(files)
    complete = complete and len({_shape(part) for part in parts}) == 1
    times = _times(dataset) if dataset is not None else _times(xr.Dataset())
    return Opened(dataset, times, tuple(raw), complete, tuple(_unique(findings)))


def _unique(findings: Sequence[Finding]) -> list[Finding]:
    """One for each problem, as several files may share it."""
    return list({finding.what: finding for finding in findings}.values())


def _files(path: str) -> list[str]:
    """The single files of a path; a store or a URL is one."""
    if "://" in path:
        return [path]
    try:
        names = [name for name, _, _ in stamps(path)]
    except (InputError, OSError):
        return []
    is_store = any(Path(name).name in ("zarr.json", ".zmetadata", ".zgroup") for name in names)
    return [path] if is_store else names


def _sorted(dataset: xr.Dataset) -> xr.Dataset:
    return dataset.drop_duplicates("time").sortby("time") if "time" in dataset.dims else dataset


def _shape(dataset: xr.Dataset) -> tuple[int, int]:
    return dataset.sizes["latitude"], dataset.sizes["longitude"]


def _merged(parts: Sequence[xr.Dataset]) -> xr.Dataset | None:
    """The parts on the most common grid, along time and by variables, as far as they go."""
    if not parts:
        return None
    shape = Counter(_shape(part) for part in parts).most_common(1)[0][0]
    groups: dict[tuple[str, ...], list[xr.Dataset]] = {}
    for part in parts:
        if _shape(part) == shape:
            groups.setdefault(tuple(sorted(map(str, part.data_vars))), []).append(part)
    try:
        joined = [_sorted(_along_time(group)) for group in groups.values()]
        return xr.merge(joined, compat="override", join="inner")
    except (ValueError, xr.MergeError):
        return parts[0]


def _along_time(group: list[xr.Dataset]) -> xr.Dataset:
    if len(group) == 1 or "time" not in group[0].dims:
        return group[0]
    return xr.concat(
        group, "time", data_vars="minimal", coords="minimal", compat="override", join="override"
    )


def choose_times(config: DataConfig, times: np.ndarray) -> np.ndarray:
    """Indices of the states of the configuration, or of all where none is in a period."""
    hours = (times - times[:1]) / np.timedelta64(1, "h")
    chosen = (hours % config.timestep_hours == 0) & config.contains(times)
    return np.flatnonzero(chosen) if chosen.any() else np.arange(len(times))


def spread(config: DataConfig, times: np.ndarray) -> np.ndarray:
    """Indices of times spread at random over the periods, most of them in training."""
    candidates = choose_times(config, times)
    training = candidates[config.train.contains(times[candidates])]
    others = [
        candidates[period.contains(times[candidates])]
        for period in (config.validation, config.test)
    ]
    picked = [_stratified(training if len(training) else candidates, _SAMPLES)]
    picked += [_stratified(other, _SAMPLES_ELSEWHERE) for other in others]
    return np.unique(np.concatenate(picked))


def _stratified(candidates: np.ndarray, count: int) -> np.ndarray:
    """One of each of ``count`` equal parts, at random, so that no hour or season is favored."""
    count = min(count, len(candidates))
    if count == 0:
        return candidates[:0]
    edges = np.linspace(0, len(candidates), count + 1).astype(int)
    rng = np.random.default_rng(0)
    return np.array([candidates[rng.integers(first, end)] for first, end in pairwise(edges)])


def read_sample(
    dataset: xr.Dataset, channels: Channels, indices: np.ndarray, budget: int
) -> tuple[Sample, list[Finding]]:
    """Read channels at some times, fewer where the chunks of the source would exceed the budget.

    Args:
        dataset: Canonical, lazy.
        channels: What to read; those without time are read once.
        indices: Which times, increasing.
        budget: Bytes of chunks to read at most.
    """
    names, findings = list(dict.fromkeys(channel.name for channel in channels)), []
    values: dict[str, np.ndarray] = {}
    damaged: set[str] = set()
    one = {name: chunk_bytes(dataset[name], indices[:1]) for name in names}
    cheapest = sorted(names, key=lambda name: one[name])
    fitting = int(np.searchsorted(np.cumsum([one[name] for name in cheapest]), budget, "right"))
    names = cheapest[:fitting]
    findings += [_too_large(name, one[name], budget) for name in cheapest[fitting:]]
    while len(indices) > 1 and sum(chunk_bytes(dataset[n], indices) for n in names) > budget:
        indices = indices[::2] if len(indices) > 2 else indices[:1]
    for name in names:
        picked = [channel for channel in channels if channel.name == name]
        arrays, problems = _read_variable(dataset[name], picked, indices)
        values |= arrays
        findings += problems
        damaged |= set(arrays) if problems else set()
    total = sum(chunk_bytes(dataset[name], indices) for name in names)
    return Sample(_times(dataset)[indices], values, total, frozenset(damaged)), findings


def mark_derived(dataset: xr.Dataset, source: xr.Dataset) -> None:
    """Note which variables of a dataset are not in its source."""
    for name in set(dataset.data_vars) - set(source.data_vars):
        dataset[name].encoding["derived"] = True


def chunk_bytes(variable: xr.DataArray, indices: np.ndarray) -> int:
    """Bytes of the chunks that hold a variable at some times, all its levels, uncompressed.

    Those that are computed, see ``mark_derived``, count with what they may be computed from: two
    variables, or the six hours before.
    """
    sizes = [size for dim, size in variable.sizes.items() if dim != "time"]
    plane = variable.dtype.itemsize * int(np.prod(sizes))
    if "time" not in variable.dims:
        return plane
    if variable.encoding.get("derived"):
        plane *= 2
        indices = np.unique(np.maximum(indices[:, None] - np.arange(6), 0))
    if not variable.chunksizes:
        return plane * len(indices)
    lengths = np.array(variable.chunksizes["time"])
    touched = np.unique(np.searchsorted(np.cumsum(lengths), indices, side="right"))
    return plane * int(lengths[touched].sum())


def _too_large(name: str, size: int, budget: int) -> Finding:
    return found(
        "sample", "warning", f"a single time of {name} lies in chunks of {size / _MIB:.3g} MiB, "
        f"the sample is bounded to {budget / _MIB:.3g} MiB for all variables", name,
        "Give a larger --sample_mib, or a source with smaller chunks.",
    )  # fmt: skip


def _read_variable(
    variable: xr.DataArray, channels: Sequence[Channel], indices: np.ndarray
) -> tuple[dict[str, np.ndarray], list[Finding]]:
    levels = [channel.level for channel in channels]
    if "level" in variable.dims:
        variable = variable.sel(level=levels)
    if "time" in variable.dims:
        variable = variable.isel(time=indices)
    loaded, problems = _loaded(variable)
    if "time" not in loaded.dims:
        loaded = loaded.expand_dims("time")
    return {
        channel.label: _plane(loaded, channel.level).astype(np.float32) for channel in channels
    }, problems


def _plane(variable: xr.DataArray, level: int | None) -> np.ndarray:
    plane = variable if level is None else variable.sel(level=level)
    return plane.transpose("time", "latitude", "longitude").values


def _loaded(variable: xr.DataArray) -> tuple[xr.DataArray, list[Finding]]:
    """Values, with NaN at the times that cannot be read, each of which is named."""
    try:
        return persistently(variable.load, str(variable.name)), []
    except (OSError, ValueError, RuntimeError) as error:
        if "time" not in variable.dims or isinstance(error, TransferError):
            return xr.full_like(variable, np.nan, dtype=float), [_unreadable(variable, "", error)]
    parts, damaged, problem = [], [], None
    for index in range(variable.sizes["time"]):
        one = variable.isel(time=[index])
        try:
            parts.append(one.load())
        except (OSError, ValueError, RuntimeError) as error:
            damaged.append(one["time"].values[0].astype("datetime64[m]"))
            problem = error
            parts.append(xr.full_like(one, np.nan, dtype=float).load())
    if problem is None:  # it can be read after all
        return _concatenated(parts), []
    when = f": {len(damaged)} of {len(parts)} sampled times, the first {min(damaged)}"
    return _concatenated(parts), [_unreadable(variable, when, problem)]


def _concatenated(parts: list[xr.DataArray]) -> xr.DataArray:
    return xr.concat(parts, "time")  # pyright: ignore[reportReturnType]


def _unreadable(variable: xr.DataArray, when: str, error: Exception) -> Finding:
    return found(
        "reading", "error", f"{variable.name} cannot be read: {error}", f"{variable.name}{when}",
        "Copy the file or store again; a file or chunk is damaged.",
    )  # fmt: skip

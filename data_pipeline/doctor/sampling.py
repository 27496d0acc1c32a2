"""Reading a bounded sample of the states that ``prepare`` would take."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import xarray as xr

from data_pipeline.calendars import STANDARD
from data_pipeline.channels import Channels
from data_pipeline.doctor.findings import Finding, collect, finding
from data_pipeline.doctor.times import times_of
from data_pipeline.errors import TransferError
from data_pipeline.grids.grid import space_dims
from data_pipeline.preparation.config import DataConfig
from data_pipeline.preprocessing.accumulation import accumulate
from data_pipeline.preprocessing.derived import with_derived
from data_pipeline.preprocessing.static_fields import StaticFields
from data_pipeline.sources.names import parse_label
from data_pipeline.sources.retry import with_retries
from data_pipeline.timestep import Timestep

_SAMPLES, _SAMPLES_ELSEWHERE = 64, 8  # times in training, in each other period
_MIB = 2**20


@dataclass(frozen=True)
class SampledValues:
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


def choose_times(config: DataConfig, times: np.ndarray, calendar: str = STANDARD) -> np.ndarray:
    """Indices of the states of the configuration, or of all where none is in a period."""
    chosen = config.step.in_calendar(calendar).on_grid(times) & config.contains(times)
    return np.flatnonzero(chosen) if chosen.any() else np.arange(len(times))


def spread_evenly(config: DataConfig, times: np.ndarray, calendar: str = STANDARD) -> np.ndarray:
    """Indices of times spread at random over the periods, most of them in training."""
    candidates = choose_times(config, times, calendar)
    training = candidates[config.train.contains(times[candidates])]
    chosen = [_draw_evenly(training if len(training) else candidates, _SAMPLES)]
    for period in (config.validation, config.test):
        inside = candidates[period.contains(times[candidates])]
        chosen.append(_draw_evenly(inside, _SAMPLES_ELSEWHERE))
    return np.unique(np.concatenate(chosen))


def _draw_evenly(candidates: np.ndarray, count: int) -> np.ndarray:
    """Draw one of each of ``count`` equal parts, so that no hour or season is favored."""
    count = min(count, len(candidates))
    if count == 0:
        return candidates[:0]
    edges = np.linspace(0, len(candidates), count + 1).astype(int)
    rng = np.random.default_rng(0)
    return np.array([candidates[rng.integers(first, end)] for first, end in pairwise(edges)])


@dataclass(frozen=True)
class SampledStates:
    """States as ``prepare`` takes them, and the source that they are computed from.

    Args:
        dataset: Canonical and lazy, with derived variables and accumulations.
        source: Likewise, at all times of the source and in its chunks.
        derived: Variables of ``source`` that are computed from others.
        steps: By variable: source times that a state is accumulated over, where more than one.
    """

    dataset: xr.Dataset
    source: xr.Dataset
    derived: frozenset[str] = frozenset()
    steps: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of_source(cls, source: xr.Dataset, config: DataConfig) -> "SampledStates":
        """All times of a source, with derived variables."""
        source_and_derived = with_derived(source, [*config.predicted, *config.static])
        derived = set(source_and_derived.data_vars) - set(source.data_vars)
        return cls(source_and_derived, source_and_derived, frozenset(map(str, derived)))

    def resampled(self, config: DataConfig) -> "SampledStates":
        """Accumulate over the timestep, with the errors of ``accumulate``."""
        variables = [*config.predicted, *config.static]
        rules, timestep, contains = config.accumulate, config.step, config.contains
        dataset = accumulate(self.source, variables, rules, timestep, contains, config.allow_gaps)
        step = Timestep.of_axis(times_of(self.source)) or timestep
        summed = {parse_label(name)[0]: timestep for name, rule in rules.items() if rule != "last"}
        six_hours = Timestep.parse("6h")  # of derived sums
        derived = (name for name in map(str, dataset.data_vars) if name not in self.source)
        summed |= dict.fromkeys(derived, six_hours)
        steps = {name: period.multiple_of(step) or 1 for name, period in summed.items()}
        return replace(self, dataset=dataset, steps=steps)

    def source_of(self, name: str) -> str:
        """The variable of ``source``; sums over six hours are made of total_precipitation."""
        return name if name in self.source else "total_precipitation"

    def chunk_bytes(self, name: str, indices: np.ndarray) -> int:
        """Uncompressed bytes of the chunks of the source that hold a variable at some states.

        All its levels count, and derived variables count with two inputs.
        """
        variable = self.source[self.source_of(name)]
        sizes = [size for dim, size in variable.sizes.items() if dim != "time"]
        plane = variable.dtype.itemsize * int(np.prod(sizes)) * (2 if name in self.derived else 1)
        if "time" not in variable.dims:
            return plane
        last = np.searchsorted(times_of(self.source), times_of(self.dataset)[indices])
        taken = np.unique(np.maximum(last[:, None] - np.arange(self.steps.get(name, 1)), 0))
        if not variable.chunksizes:
            return plane * len(taken)
        lengths = np.array(variable.chunksizes["time"])
        touched = np.unique(np.searchsorted(np.cumsum(lengths), taken, side="right"))
        return plane * int(lengths[touched].sum())


def read_sample(
    states: SampledStates, channels: Channels, indices: np.ndarray, budget: int
) -> tuple[SampledValues, list[Finding]]:
    """Read channels at some states, fewer where the chunks would exceed the budget in bytes."""
    names = list(dict.fromkeys(channel.name for channel in channels))
    names, indices, findings = _fitting(states, names, indices, budget)
    values: dict[str, np.ndarray] = {}
    damaged: set[str] = set()
    for name in names:
        group = [channel for channel in channels if channel.name == name]
        variable = states.dataset[name].isel(time=indices)
        if "level" in variable.dims:
            variable = variable.sel(level=[channel.level for channel in group])
        loaded, problems = _load(variable)
        for channel in group:
            field = loaded if channel.level is None else loaded.sel(level=channel.level)
            field = field.transpose("time", *space_dims(field.dims))
            values[channel.label] = field.values.astype(np.float32)
        findings += problems
        damaged |= {channel.label for channel in group} if problems else set()
    total = sum(states.chunk_bytes(name, indices) for name in names)
    times = times_of(states.dataset)[indices]
    return SampledValues(times, values, total, frozenset(damaged)), findings


def read_static(
    states: SampledStates, config: DataConfig, budget: int
) -> tuple[Channels, SampledValues, list[Finding]]:
    """Read static fields as ``prepare`` does, at fewer times where they have any.

    The sample of their values has one time.
    """
    channels, values = Channels(()), dict[str, np.ndarray]()
    findings, num_bytes = [], 0
    every = np.unique(np.linspace(0, len(times_of(states.source)) - 1, _SAMPLES).astype(int))
    native, every = replace(states, dataset=states.source, steps={}), every[every >= 0]
    for label in config.static:
        name = label if label in native.source else parse_label(label)[0]
        names = [name] if name in native.source else []
        fitting, indices, problems = _fitting(native, names, every, budget - num_bytes)
        findings += problems
        if problems:
            continue
        timed = "time" in native.source.dims
        dataset = native.source.isel(time=indices) if timed else native.source
        with collect(findings, "prepare", f"data.static, {label}"):
            static = StaticFields.read(dataset, [label], config.levels, config.fill)
            channels = Channels((*channels, *static.channels))
            values |= dict(zip(static.channels.labels, static.fields[:, None], strict=True))
            num_bytes += sum(native.chunk_bytes(name, indices) for name in fitting)
    return channels, SampledValues(times_of(xr.Dataset()), values, num_bytes), findings


def _fitting(
    states: SampledStates, names: list[str], indices: np.ndarray, budget: int
) -> tuple[list[str], np.ndarray, list[Finding]]:
    """Variables of which one time fits into the budget, and the times at which all of these do."""
    one = {name: states.chunk_bytes(name, indices[:1]) for name in names}
    cheapest = sorted(names, key=lambda name: one[name])
    count = int(np.searchsorted(np.cumsum([one[name] for name in cheapest]), budget, "right"))
    findings, remedy = [], "Give a larger --sample_mib, or a source with smaller chunks."
    for name in cheapest[count:]:
        what = f"a single time of {name} takes chunks of {one[name] / _MIB:.3g} MiB, the sample is "
        what += f"bounded to {budget / _MIB:.3g} MiB for all variables"
        findings.append(finding("sample", "warning", what, name, remedy))
    names = cheapest[:count]
    while len(indices) > 1 and sum(states.chunk_bytes(n, indices) for n in names) > budget:
        indices = indices[::2] if len(indices) > 2 else indices[:1]
    return names, indices, findings


def _load(variable: xr.DataArray) -> tuple[xr.DataArray, list[Finding]]:
    """Load values, with NaN at the times that cannot be read, each of which is named."""
    try:
        return with_retries(variable.load, str(variable.name)), []
    except (OSError, ValueError, RuntimeError) as error:
        if isinstance(error, TransferError) and error.code != "unreadable-file":
            nothing = xr.full_like(variable, np.nan, dtype=float)
            return nothing, [_unreadable(variable, error, "")]
    return _load_each_time(variable)


def _load_each_time(variable: xr.DataArray) -> tuple[xr.DataArray, list[Finding]]:
    damaged, steps, problem = [], [], None
    for index in range(variable.sizes["time"]):
        one = variable.isel(time=[index])
        try:
            steps.append(one.load())
        except (OSError, ValueError, RuntimeError) as error:
            damaged.append(one["time"].values[0].astype("datetime64[m]"))
            problem = error
            steps.append(xr.full_like(one, np.nan, dtype=float).load())
    loaded: xr.DataArray = xr.concat(steps, "time")  # pyright: ignore[reportAssignmentType]
    if problem is None:  # it can be read after all
        return loaded, []
    when = f": {len(damaged)} of {len(loaded)} sampled times, the first {min(damaged)}"
    return loaded, [_unreadable(variable, problem, when)]


def _unreadable(variable: xr.DataArray, problem: Exception, when: str) -> Finding:
    what = f"{variable.name} cannot be read: {problem}"
    remedy = "Copy the file or store again; a file or chunk is damaged."
    return finding("reading", "error", what, f"{variable.name}{when}", remedy)

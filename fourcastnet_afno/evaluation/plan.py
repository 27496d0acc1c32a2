"""What the engine is to do: the plan, and its cut into tasks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from data_pipeline.channels import Channels
from data_pipeline.grids.grid import Grid
from fourcastnet_afno.evaluation.inputs.climatologies import FieldsByTime
from fourcastnet_afno.evaluation.inputs.fields import FieldSource
from fourcastnet_afno.evaluation.inputs.thresholds import SeepsThresholds
from fourcastnet_afno.evaluation.inputs.truth import TruthFields
from fourcastnet_afno.evaluation.statistics.averages import Averager
from fourcastnet_afno.evaluation.statistics.spectra import EnergySpectrum

_TRUTH_BYTES, _BLOCK_BYTES = 64 * 2**20, 64 * 2**20


@dataclass(frozen=True, kw_only=True)
class EventPlan:
    """Thresholds and the like.

    Args:
        thresholds: By label of the channel, (quantile, latitude, longitude).
        neighborhoods: Widths of the squares of the fraction skill score.
        extremes: Whether high quantiles of each field are compared.
        seeps: Thresholds of precipitation by label.
    """

    thresholds: Mapping[str, np.ndarray] = field(default_factory=dict)
    neighborhoods: Sequence[int] = ()
    extremes: bool = False
    seeps: Mapping[str, SeepsThresholds] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ScoringPlan:
    """Everything that a task needs.

    Args:
        channels: What is scored.
        grid: Grid of truth and climatology; forecasts arrive on it.
        init_times: datetime64, increasing, common to all forecasts.
        lead_times: timedelta64, increasing, those of any forecast.
        sources: Forecasts by name.
        truth: Truth.
        climatology: Fields by channel and time.
        averager: Regions and weights.
        plain: Averages without weights, where the convention needs them.
        needed: Names of ``statistics.DERIVED`` to keep.
        spectrum: The spectra that are summed, if any.
        ensembles: Whether probabilistic statistics are kept.
        events: Thresholds.
        map_leads: Indices of lead times whose maps of the error are summed.
        map_channels: Labels of the channels of these maps.
        group_length: Successive initial times whose spectra are summed together; all by default.
    """

    channels: Channels
    grid: Grid
    init_times: np.ndarray
    lead_times: np.ndarray
    sources: Mapping[str, FieldSource]
    truth: TruthFields
    climatology: FieldsByTime
    averager: Averager
    plain: Averager | None = None
    needed: frozenset[str] = frozenset()
    spectrum: EnergySpectrum | None = None
    ensembles: bool = False
    events: EventPlan = field(default_factory=EventPlan)
    map_leads: Sequence[int] = ()
    map_channels: Sequence[str] = ()
    group_length: int = 2**62

    @property
    def num_groups(self) -> int:
        """Groups of initial times, the last of which may be shorter."""
        return -(-len(self.init_times) // self.group_length)

    def groups_of(self, inits: slice) -> slice:
        """The groups to which a range of initial times belongs."""
        return slice(inits.start // self.group_length, (inits.stop - 1) // self.group_length + 1)

    def group_starts(self, inits: slice) -> np.ndarray:
        """Where these groups start, counted from the start of the range."""
        groups = self.groups_of(inits)
        firsts = np.arange(groups.start, groups.stop) * min(self.group_length, inits.stop)
        return np.maximum(firsts - inits.start, 0)


@dataclass(frozen=True)
class ScoringTask:
    """A part of the work.

    Args:
        channels: Indices of the channels of one variable.
        inits: Range of indices of initial times.
        leads: Range of indices of lead times.
    """

    channels: tuple[int, ...]
    inits: slice
    leads: slice


@dataclass
class Result:
    """Statistics by forecast and name.

    Args:
        series: Of each field: in a task of shape (init_time, lead_time, ...), all together
            (init_time, lead_time, channel, ...); NaN where missing.
        sums: Over initial times, (lead_time, ...) or (lead_time, channel, ...).
        grouped: Over groups of initial times: in a task (lead_time, group, ...) of the groups that
            it touches, all together (lead_time, channel, group, ...).
    """

    series: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)
    sums: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)
    grouped: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)


def split(
    plan: ScoringPlan,
    chunks: tuple[int, int] = (1, 1),
    block_bytes: int | None = None,
    levels_together: bool = False,
) -> list[ScoringTask]:
    """Cut the work into tasks.

    Args:
        plan: The work.
        chunks: Chunks of the forecast along initial and lead times, which are kept whole where
            they fit.
        block_bytes: Bytes of a forecast's fields in a task, about; 64 MiB by default.
        levels_together: Whether all levels of a variable are read at once.
    """
    block_bytes = block_bytes or _BLOCK_BYTES
    members = max(source.num_members for source in plan.sources.values())
    field_bytes = 4 * members * plan.grid.shape[0] * plan.grid.shape[1]
    num_leads = _whole(block_bytes // field_bytes, chunks[1], len(plan.lead_times))
    num_inits = _whole(block_bytes // (field_bytes * num_leads), chunks[0], len(plan.init_times))
    cells = plan.grid.shape[0] * plan.grid.shape[1]
    while num_inits > 1 and 32 * cells * (num_leads + num_inits) > _TRUTH_BYTES:
        num_inits //= 2
    groups: dict[str, list[int]] = {}
    for index, channel in enumerate(plan.channels):
        name = channel.name if levels_together else channel.label
        groups.setdefault(name, []).append(index)
    return [
        ScoringTask(tuple(group), inits, leads)
        for inits in _ranges(len(plan.init_times), num_inits)
        for group in groups.values()
        for leads in _ranges(len(plan.lead_times), num_leads)
    ]


def _whole(wanted: int, chunk: int, total: int) -> int:
    """About ``wanted``, at least 1 and at most ``total``, whole chunks where possible."""
    count = min(max(wanted, 1), total)
    return count - count % chunk if count >= chunk and count < total else count


def _ranges(total: int, length: int) -> list[slice]:
    return [slice(start, min(start + length, total)) for start in range(0, total, length)]

"""The plan of an evaluation, and its cut into tasks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from data_pipeline.channels import Channels
from data_pipeline.grids.grid import Grid
from fourcastnet_afno.evaluation.inputs.climatologies import FieldsByTime
from fourcastnet_afno.evaluation.inputs.fields import FieldSource
from fourcastnet_afno.evaluation.inputs.truth import TruthFields
from fourcastnet_afno.evaluation.metrics.metric import Statistic
from fourcastnet_afno.evaluation.statistics.averages import slices_of
from fourcastnet_afno.evaluation.statistics.pairs import PairSettings
from fourcastnet_afno.evaluation.statistics.patches import PatchEnergy
from fourcastnet_afno.evaluation.statistics.spectra import EnergySpectrum

_TRUTH_BYTES, _BLOCK_BYTES = 64 * 2**20, 64 * 2**20


@dataclass(frozen=True, kw_only=True)
class ScoringPlan:
    """Everything that a task needs."""

    channels: Channels
    grid: Grid  # of truth and climatology; forecasts arrive on it
    init_times: np.ndarray  # increasing, common to all forecasts
    lead_times: np.ndarray  # increasing, those of any forecast
    valid_times: np.ndarray  # (init_time, lead_time), NaT for pairs that are not scored
    sources: Mapping[str, FieldSource]
    truth: TruthFields
    climatology: FieldsByTime
    settings: PairSettings
    statistics: Sequence[Statistic]  # of each pair of forecast and truth, that are kept
    spectrum: EnergySpectrum | None = None  # summed, if any
    # At the patches of forecasts, by name, where these are known.
    patch_energies: Mapping[str, PatchEnergy] = field(default_factory=dict)
    map_leads: Sequence[int] = ()  # indices of lead times whose maps of the error are summed
    map_channels: Sequence[str] = ()  # labels of the channels of these maps
    group_length: int = 2**62  # successive initial times whose spectra are summed together

    @property
    def num_groups(self) -> int:
        """Groups of initial times, the last of which may be shorter."""
        return -(-len(self.init_times) // self.group_length)

    def times_with_truth(self, inits: slice, leads: slice) -> np.ndarray:
        """Valid times of a range that truth has, increasing, each once."""
        times = np.unique(self.valid_times[inits, leads])
        return times[np.isin(times, self.truth.times)]

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
    """A part of the work: indices of the channels of one variable, of initial and lead times."""

    channels: tuple[int, ...]
    inits: slice
    leads: slice


def split(
    plan: ScoringPlan,
    chunks: tuple[int, int] = (1, 1),
    block_bytes: int | None = None,
    levels_together: bool = False,
) -> list[ScoringTask]:
    """Cut the work into tasks of about ``block_bytes`` of a forecast's fields, 64 MiB by default.

    The forecasts' chunks along initial and lead times are not cut where they fit; all levels of a
    variable may be read together.
    """
    block_bytes = block_bytes or _BLOCK_BYTES
    members = max(source.num_members for source in plan.sources.values())
    cells = plan.grid.shape[0] * plan.grid.shape[1]
    field_bytes = 4 * members * cells
    num_leads = _chunked(block_bytes // field_bytes, chunks[1], len(plan.lead_times))
    num_inits = _chunked(block_bytes // (field_bytes * num_leads), chunks[0], len(plan.init_times))
    while num_inits > 1 and 32 * cells * (num_leads + num_inits) > _TRUTH_BYTES:
        num_inits //= 2
    groups: dict[str, list[int]] = {}
    for index, channel in enumerate(plan.channels):
        name = channel.name if levels_together else channel.label
        groups.setdefault(name, []).append(index)
    return [
        ScoringTask(tuple(group), inits, leads)
        for inits in slices_of(len(plan.init_times), num_inits)
        for group in groups.values()
        for leads in slices_of(len(plan.lead_times), num_leads)
    ]


def _chunked(target: int, chunk: int, total: int) -> int:
    """About ``target``, at least 1 and at most ``total``, complete chunks where possible."""
    count = min(max(target, 1), total)
    return count - count % chunk if count >= chunk and count < total else count

"""One task of the engine: the statistics of one variable over some initial and lead times."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from data_pipeline.errors import InputError
from data_pipeline.timestep import lead_label
from fourcastnet_afno.evaluation.aggregation import AggregationState
from fourcastnet_afno.evaluation.inputs.climatologies import FieldsByTime
from fourcastnet_afno.evaluation.inputs.fields import FieldSource
from fourcastnet_afno.evaluation.inputs.valid_times import where_dated
from fourcastnet_afno.evaluation.metrics.ensembles import rank_histogram
from fourcastnet_afno.evaluation.metrics.events import reliability
from fourcastnet_afno.evaluation.metrics.metric import Statistic
from fourcastnet_afno.evaluation.plan import ScoringPlan, ScoringTask
from fourcastnet_afno.evaluation.statistics.averages import cache_sized_slices
from fourcastnet_afno.evaluation.statistics.pairs import (
    PairBlock,
    TruthAt,
    TruthBlock,
    make_buffers,
)

_Known = dict[str, np.ndarray | None]  # statistics by name; None where one does not apply


def run_task(plan: ScoringPlan, task: ScoringTask) -> list[AggregationState]:
    """Statistics of each channel."""
    return [_ChannelTask(plan, replace(task, channels=(index,))).run() for index in task.channels]


class _ChannelTask:
    """Statistics of one channel at some initial and lead times."""

    def __init__(self, plan: ScoringPlan, task: ScoringTask) -> None:
        self._plan, self._task = plan, task
        (index,) = task.channels
        self._channel = list(plan.channels)[index]
        self._inits = plan.init_times[task.inits]
        self._leads = plan.lead_times[task.leads]
        valid = plan.valid_times[task.inits, task.leads]
        self._times, positions = np.unique(valid, return_inverse=True)
        self._positions = positions.reshape(valid.shape)
        self._cells = plan.grid.shape[0] * plan.grid.shape[1]
        self._buffers = make_buffers(self._cells)
        self._state = AggregationState.empty(plan, task)
        label = self._channel.label
        map_leads = plan.map_leads if label in plan.map_channels else ()
        self._maps = {lead - task.leads.start for lead in map_leads}
        self._thresholds = plan.settings.thresholds.get(label)
        leaves = {leaf.name: leaf for s in plan.statistics for leaf in s.leaves}
        self._leaves = list(leaves.values())

    def run(self) -> AggregationState:
        """All forecasts."""
        plan = self._plan
        fields = self._at_times(plan.truth.at)
        climatology = self._at_times(plan.climatology)
        self._truth = TruthBlock(fields, climatology, plan.settings)
        infinite = ~self._truth.complete & np.isinf(fields).any(axis=(1, 2))
        if infinite.any():
            first = self._times[infinite][0].astype("datetime64[m]")
            raise InputError(
                f"truth is infinite in {self._channel.label} at {first}; mark such values as "
                "missing (NaN), or give other data",
                code="not-finite",
            )
        if plan.spectrum is not None:
            self._add_spectra("truth", self._spectra_by_time(fields), slice(None))
        for name, source in plan.sources.items():
            if source.at is not None:
                self._score_time_series(name, source)
            else:
                self._score_forecasts(name, source)
        return self._state

    def _at_times(self, fields: FieldsByTime) -> np.ndarray:
        """Fields at the valid times, NaN where truth has none."""
        known = np.isin(self._times, self._plan.truth.times)
        times = np.where(known, self._times, np.datetime64("NaT"))
        return where_dated(partial(fields, self._channel), times, self._plan.grid.shape)

    def _score_time_series(self, name: str, source: FieldSource) -> None:
        """Score each valid time once, and hand the statistics to all pairs with this time."""
        assert source.at is not None
        values = self._at_times(source.at)
        leads = np.isin(self._leads, source.lead_times)
        truth = TruthAt(self._truth, np.arange(len(values)))
        known = self._complete(truth)
        for tile in cache_sized_slices(len(values), self._cells):
            self._score(name, known, (tile,), values[tile, None], truth)
        self._keep(name, known, leads, by_time=True)
        if self._plan.spectrum is not None:
            self._add_spectra(name, self._spectra_by_time(values)[:, leads], leads)
        for lead in self._leads_of_fields(np.flatnonzero(leads), 1):
            for row in self._positions[:, lead].tolist():
                self._add_fields(name, lead, values[row : row + 1, None], row)

    def _score_forecasts(self, name: str, source: FieldSource) -> None:
        """Score each pair of initial and lead time."""
        has_lead = np.isin(self._leads, source.lead_times)
        if not has_lead.any():
            return
        start = int(np.searchsorted(source.lead_times, self._leads[has_lead][0]))
        blocks = source.read(self._channel, self._inits, slice(start, start + int(has_lead.sum())))
        leads = np.flatnonzero(has_lead)
        truth = TruthAt(self._truth, self._positions[:, leads])
        known = self._complete(truth)
        spectra: list[np.ndarray] = []
        for where, members in _tiles(blocks, self._cells):
            if self._plan.spectrum is not None:
                energies = self._plan.spectrum.energies(members)  # and their mean over members
                energies = energies[..., 0, :] if members.shape[-3] == 1 else energies.mean(axis=-2)
                spectra.append(energies.reshape(-1, energies.shape[-1]))
            self._score(name, known, where, members, truth)
            rows = truth.positions[where]
            for lead in self._leads_of_fields(leads[where[1]], members.shape[2]):
                index = int(np.searchsorted(leads[where[1]], lead))
                for fields, row in zip(members[:, index], rows[:, index].tolist(), strict=True):
                    self._add_fields(name, lead, fields[None], row)
        if self._plan.spectrum is not None:
            energies = np.concatenate(spectra).reshape(*truth.positions.shape, -1)
            self._add_spectra(name, energies, has_lead)
        self._keep(name, known, has_lead, by_time=False)

    def _complete(self, truth: TruthAt) -> _Known:
        """Statistics by name that truth alone gives where no cell is missing."""
        return {s.name: s.complete(truth) for s in self._leaves if s.complete is not None}

    def _score(
        self,
        name: str,
        known: _Known,
        where: tuple[slice, ...],
        members: np.ndarray,
        truth: TruthAt,
    ) -> None:
        """Put the statistics of a tile (..., realization, latitude, longitude) in place."""
        times, label = self._times[truth.positions[where]], self._channel.label
        settings, buffers = self._plan.settings, self._buffers
        pair = PairBlock(
            members, truth, where, times=times, label=label, settings=settings, buffers=buffers,
            patch_energy=self._plan.patch_energies.get(name),
        )  # fmt: skip
        if pair.present is not None:
            self._reject_infinite(name, members, where, times)
        for statistic in self._leaves:
            if pair.present is None and statistic.complete is not None:
                continue
            values = statistic.compute(pair)
            if values is None:
                continue
            array = known.get(statistic.name)
            if array is None:
                shape = (*truth.positions.shape, *values.shape[len(where) :])
                array = known[statistic.name] = np.full(shape, np.nan)
            array[where] = values

    def _keep(self, name: str, known: _Known, leads: np.ndarray, *, by_time: bool) -> None:
        """Keep all statistics by pair or by valid time, with NaN where the forecast has no lead."""
        for statistic in self._plan.statistics:
            values = _derive(statistic, known)
            if values is None:
                continue
            values = values[self._positions[:, leads]] if by_time else values
            if not leads.all():
                shape = (len(self._inits), len(leads), *values.shape[2:])
                values, has_lead = np.full(shape, np.nan), values
                values[:, leads] = has_lead
            self._state.series[name, statistic.name] = values[:, :, None]

    def _spectra_by_time(self, fields: np.ndarray) -> np.ndarray:
        """Spectra (init_time, lead_time, wavenumber) of fields at the valid times."""
        assert self._plan.spectrum is not None
        dtype, energies = self._plan.truth.dtype, self._plan.spectrum.energies
        tiles = cache_sized_slices(len(fields), self._cells)
        spectra = np.concatenate([energies(fields[tile].astype(dtype)) for tile in tiles])
        return spectra[self._positions]

    def _add_spectra(self, name: str, spectra: np.ndarray, leads: slice | np.ndarray) -> None:
        """Sum spectra (init_time, lead_time, wavenumber) over groups of initial times.

        Left out are valid times where truth lacks a cell, and forecasts that lack one.
        """
        known = self._truth.complete[self._positions[:, leads]] & np.isfinite(spectra).all(axis=-1)
        if not known.all():
            spectra = np.where(known[..., None], spectra, 0.0)
        starts = self._plan.group_starts(self._task.inits)
        for statistic, values in (("spectrum", spectra), ("spectrum_count", known.astype(float))):
            sums = np.add.reduceat(values, starts, axis=0).swapaxes(0, 1)
            by_lead = np.zeros((len(self._leads), *sums.shape[1:]))
            by_lead[leads] = sums
            self._state.grouped[name, statistic] = by_lead[:, None]

    def _leads_of_fields(self, leads: np.ndarray, num_members: int) -> list[int]:
        """Lead times whose fields are added one by one, to maps or histograms."""
        has_histogram = self._plan.settings.has_ensembles and num_members > 1
        if self._thresholds is not None or has_histogram:
            return leads.tolist()
        return [lead for lead in leads.tolist() if lead in self._maps]

    def _add_fields(self, name: str, lead: int, members: np.ndarray, row: int) -> None:
        """Add one field (1, realization, ...) to the maps and histograms of a lead time."""
        truth = self._truth.fields[row : row + 1]
        weights = self._plan.settings.averager.weights[0]
        sums: dict[str, np.ndarray] = {}
        if lead in self._maps:
            error = members[0].mean(axis=0, dtype=np.float64) - truth[0]
            present = np.isfinite(error)
            error = np.where(present, error, 0.0)
            sums = {"map_error": error, "map_squared_error": error**2, "map_count": present}
        if self._plan.settings.has_ensembles and members.shape[1] > 1:
            sums["ranks"] = rank_histogram(members, truth, weights)[0]
        if self._thresholds is not None:
            sums["reliability"] = reliability(members, truth, self._thresholds, weights)[0]
        for statistic, values in sums.items():
            key = (name, statistic)
            if key not in self._state.sums:
                self._state.sums[key] = np.zeros((len(self._leads), 1, *values.shape))
            self._state.sums[key][lead, 0] += values

    def _reject_infinite(
        self, name: str, members: np.ndarray, where: tuple[slice, ...], times: np.ndarray
    ) -> None:
        """Raise if a value is infinite: masked as missing it would flatter what blew up."""
        infinite = np.isinf(members).any(axis=(-3, -2, -1))
        if not infinite.any():
            return
        first = np.unravel_index(np.argmax(infinite), infinite.shape)
        valid, start = times[first], ""
        if self._plan.sources[name].at is None:
            init = self._inits[where[0].start + first[0]]
            own = self._leads[np.isin(self._leads, self._plan.sources[name].lead_times)]
            lead = own[int(where[1].start + first[1])]
            start = f", initial time {init.astype('datetime64[m]')}, lead time {lead_label(lead)}"
        raise InputError(
            f"the forecast {name} is infinite in {self._channel.label}{start}, valid at "
            f"{valid.astype('datetime64[m]')}; the rollout blew up: train with more rollout steps, "
            "score fewer lead times, or mark such values as missing (NaN)",
            code="not-finite",
        )


def _derive(statistic: Statistic, known: _Known) -> np.ndarray | None:
    """Values of a statistic from those it follows from; all are added to ``known``."""
    if statistic.name not in known:
        inputs = [_derive(s, known) for s in statistic.inputs]
        applies = bool(inputs) and all(values is not None for values in inputs)
        known[statistic.name] = statistic.compute(*inputs) if applies else None
    return known[statistic.name]


def _tiles(
    blocks: Iterable[np.ndarray], num_cells: int
) -> Iterator[tuple[tuple[slice, slice], np.ndarray]]:
    """Ranges of initial and lead times with their fields, small enough to stay in caches."""
    first = 0
    for block in blocks:
        num_leads, num_members = block.shape[1:3]
        for inits in cache_sized_slices(len(block), num_leads * num_members * num_cells):
            for leads in cache_sized_slices(num_leads, num_members * num_cells):
                yield (slice(first + inits.start, first + inits.stop), leads), block[inits, leads]
        first += len(block)

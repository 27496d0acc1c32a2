"""One task of the engine: the statistics of one variable over some initial and lead times."""

from collections.abc import Iterable, Iterator

import numpy as np

from data_pipeline.channels import Channel
from data_pipeline.errors import InputError
from fourcastnet_afno.evaluation.inputs.fields import FieldSource
from fourcastnet_afno.evaluation.plan import Result, ScoringPlan, ScoringTask
from fourcastnet_afno.evaluation.statistics.averages import (
    ErrorStatistics,
    TruthAt,
    TruthBlock,
    cache_sized_slices,
    masked_mean,
    tile_length,
)
from fourcastnet_afno.evaluation.statistics.derived import derived_statistics, inputs_of
from fourcastnet_afno.evaluation.statistics.ensemble import ensemble_statistics, rank_histogram
from fourcastnet_afno.evaluation.statistics.events import (
    event_statistics,
    relative_quantile_error,
    reliability,
    seeps,
)


def run_task(plan: ScoringPlan, task: ScoringTask) -> dict[int, Result]:
    """Results by index of the channel, see ``plan.Result``."""
    channels = list(plan.channels)
    return {index: _ChannelTask(plan, task, channels[index]).run() for index in task.channels}


class _ChannelTask:
    """Statistics of one channel.

    Args:
        plan: The work.
        task: Initial and lead times.
        channel: The channel.
    """

    def __init__(self, plan: ScoringPlan, task: ScoringTask, channel: Channel) -> None:
        self._plan, self._task, self._channel = plan, task, channel
        self._inits = plan.init_times[task.inits]
        self._leads = plan.lead_times[task.leads]
        valid = self._inits[:, None] + self._leads[None, :]
        self._times, positions = np.unique(valid, return_inverse=True)
        self._positions = positions.reshape(valid.shape)
        self._cells = plan.grid.shape[0] * plan.grid.shape[1]
        self._inputs = inputs_of(plan.needed)
        self._errors = ErrorStatistics(
            plan.averager, tile_length(self._cells), plan.grid.shape, self._inputs, plan.plain
        )
        self._result = Result()
        label = channel.label
        self._maps = {lead - task.leads.start for lead in plan.map_leads}
        self._maps = self._maps if label in plan.map_channels else set()
        self._thresholds = plan.events.thresholds.get(label)
        events = self._thresholds is not None or plan.events.extremes or label in plan.events.seeps
        self._has_further = plan.ensembles or events

    def run(self) -> Result:
        """All forecasts."""
        plan = self._plan
        fields = self._truth_fields()
        climatology = plan.climatology(self._channel, self._times)
        self._truth = TruthBlock.of(fields, climatology, plan.averager, plan.plain, self._inputs)
        if plan.spectrum is not None:
            self._add_spectra("truth", self._by_time(fields), slice(None))
        for name, source in plan.sources.items():
            if source.at is not None:
                self._score_time_series(name, source)
            else:
                self._score_forecasts(name, source)
        return self._result

    def _truth_fields(self) -> np.ndarray:
        """Truth at the valid times; NaN at those it lacks."""
        known = np.asarray(np.isin(self._times, self._plan.truth.times))
        if known.all():
            return self._plan.truth.at(self._channel, self._times)
        fields = np.full((len(known), *self._plan.grid.shape), np.nan)
        if known.any():
            fields[known] = self._plan.truth.at(self._channel, self._times[known])
        return fields

    def _by_time(self, fields: np.ndarray) -> np.ndarray:
        """Spectra (init_time, lead_time, wavenumber) of fields at the valid times."""
        assert self._plan.spectrum is not None
        dtype, energies = self._plan.truth.dtype, self._plan.spectrum.energies
        parts = [
            energies(fields[tile].astype(dtype))
            for tile in cache_sized_slices(len(fields), self._cells)
        ]
        return np.concatenate(parts)[self._positions]

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
            full = np.zeros((len(self._leads), *sums.shape[1:]))
            full[leads] = sums
            self._result.grouped[name, statistic] = full

    def _score_time_series(self, name: str, source: FieldSource) -> None:
        """Score each valid time once, and hand the statistics to all pairs with this time."""
        assert source.at is not None
        values = source.at(self._channel, self._times)
        own = np.isin(self._leads, source.lead_times)
        means = {key: found.copy() for key, found in self._truth.means.items()}
        extra: dict[str, np.ndarray] = {}
        truth = self._truth.at(np.arange(len(values)))
        for tile in cache_sized_slices(len(values), self._cells):
            self._score(name, means, extra, (tile,), values[tile, None], truth)
        self._keep(name, {n: v[self._positions] for n, v in (means | extra).items()}, own)
        if self._plan.spectrum is not None:
            self._add_spectra(name, self._by_time(values)[:, own], own)
        for lead in self._leads_of_fields(np.flatnonzero(own), 1):
            for row in self._positions[:, lead].tolist():
                self._add_fields(name, lead, values[row : row + 1, None], row)

    def _score_forecasts(self, name: str, source: FieldSource) -> None:
        own = np.isin(self._leads, source.lead_times)
        if not own.any():
            return
        start = int(np.searchsorted(source.lead_times, self._leads[own][0]))
        blocks = source.read(self._channel, self._inits, slice(start, start + int(own.sum())))
        leads = np.flatnonzero(own)
        positions = self._positions[:, leads]
        truth = self._truth.at(positions)
        means = {n: v[positions] for n, v in self._truth.means.items()}
        extra: dict[str, np.ndarray] = {}
        spectra: list[np.ndarray] = []
        for where, members in _parts(blocks, self._cells):
            if self._plan.spectrum is not None:
                found = self._spectra_of(members)
                spectra.append(found.reshape(-1, found.shape[-1]))
            self._score(name, means, extra, where, members, truth)
            rows = positions[where]
            for lead in self._leads_of_fields(leads[where[1]], members.shape[2]):
                index = int(np.searchsorted(leads[where[1]], lead))
                for fields, row in zip(members[:, index], rows[:, index].tolist(), strict=True):
                    self._add_fields(name, lead, fields[None], row)
        if self._plan.spectrum is not None:
            self._add_spectra(name, np.concatenate(spectra).reshape(*positions.shape, -1), own)
        self._keep(name, means | extra, own)

    def _score(
        self,
        name: str,
        means: dict[str, np.ndarray],
        extra: dict[str, np.ndarray],
        where: tuple[slice, ...],
        members: np.ndarray,
        truth: TruthAt,
    ) -> None:
        """Put the statistics of fields (..., realization, latitude, longitude) into place.

        Args:
            name: The forecast.
            means: Means of what metrics are derived from.
            extra: Statistics that are kept as they are.
            where: Ranges of initial and lead times, or of valid times.
            members: The fields.
            truth: Truth at all of their valid times.
        """
        single = members.shape[-3] == 1
        forecast = members[..., 0, :, :] if single else members.mean(axis=-3, dtype=np.float64)
        own = truth[where]
        found = self._errors(forecast, own)
        if found["missing"].any():
            self._refuse_infinite(name, members, where, truth.positions[where])
        shape = next(iter(means.values())).shape[: len(where)]
        for key, values in found.items():
            _put(means, key, where, values, shape)
        if not self._has_further:
            return
        rows = truth.positions[where]
        for key, values in self._further(members, forecast, own.fields, rows).items():
            _put(extra, f"+{key}", where, values, shape)

    def _further(
        self,
        members: np.ndarray,
        forecast: np.ndarray,
        truth: np.ndarray,
        rows: np.ndarray,
    ) -> dict[str, np.ndarray]:
        plan, label = self._plan, self._channel.label
        result: dict[str, np.ndarray] = {}
        members, forecast, truth = (
            values.reshape(-1, *values.shape[rows.ndim :]) for values in (members, forecast, truth)
        )
        if plan.ensembles:
            result |= ensemble_statistics(members.astype(np.float64), truth, plan.averager)
        if self._thresholds is not None:
            widths = list(plan.events.neighborhoods)
            result |= event_statistics(members, truth, self._thresholds, widths, plan.averager)
        if plan.events.extremes:
            regions = plan.averager.weights
            result["quantile_error"] = relative_quantile_error(forecast, truth, regions)
        if label in plan.events.seeps:
            given = plan.events.seeps[label]
            heavy = given.heavy(self._times[rows.ravel()])
            values = seeps(np.asarray(forecast), truth, given.dry_fraction, heavy, given.dry)
            result["seeps"] = masked_mean(plan.averager, values, np.isfinite(values))
        return {key: found.reshape(*rows.shape, *found.shape[1:]) for key, found in result.items()}

    def _spectra_of(self, members: np.ndarray) -> np.ndarray:
        """Spectra (..., wavenumber), means over the members."""
        assert self._plan.spectrum is not None
        spectra = self._plan.spectrum.energies(members)
        return spectra[..., 0, :] if members.shape[-3] == 1 else spectra.mean(axis=-2)

    def _leads_of_fields(self, leads: np.ndarray, num_members: int) -> list[int]:
        """Lead times whose fields are added one by one, to maps or histograms."""
        every = self._thresholds is not None or (self._plan.ensembles and num_members > 1)
        if not every and not self._maps:
            return []
        return [lead for lead in leads.tolist() if every or lead in self._maps]

    def _add_fields(self, name: str, lead: int, members: np.ndarray, row: int) -> None:
        """Add one field (1, realization, ...) to the maps and histograms of a lead time."""
        truth = self._truth.fields[row : row + 1]
        weights = self._plan.averager.weights[0]
        if lead in self._maps:
            error = members[0].mean(axis=0, dtype=np.float64) - truth[0]
            present = np.isfinite(error)
            error = np.where(present, error, 0.0)
            self._sums(name, "map_error", error.shape)[lead] += error
            self._sums(name, "map_squared_error", error.shape)[lead] += error**2
            self._sums(name, "map_count", error.shape)[lead] += present
        if self._plan.ensembles and members.shape[1] > 1:
            ranks = rank_histogram(members.astype(np.float64), truth, weights)[0]
            self._sums(name, "ranks", ranks.shape)[lead] += ranks
        if self._thresholds is not None:
            bins = reliability(members, truth, self._thresholds, weights)[0]
            self._sums(name, "reliability", bins.shape)[lead] += bins

    def _sums(self, name: str, statistic: str, shape: tuple[int, ...]) -> np.ndarray:
        key = (name, statistic)
        if key not in self._result.sums:
            self._result.sums[key] = np.zeros((len(self._leads), *shape))
        return self._result.sums[key]

    def _keep(self, name: str, means: dict[str, np.ndarray], own: np.ndarray) -> None:
        """Keep what the metrics need, NaN at lead times that the forecast lacks."""
        kept = derived_statistics(means, self._plan.needed)
        kept |= {key[1:]: values for key, values in means.items() if key.startswith("+")}
        for statistic, values in kept.items():
            full = values
            if values.shape[1] != len(own) or not own.all():
                full = np.full((len(self._inits), len(own), *values.shape[2:]), np.nan)
                full[:, own] = values[:, own] if values.shape[1] == len(own) else values
            self._result.series[name, statistic] = full

    def _refuse_infinite(
        self, name: str, members: np.ndarray, where: tuple[slice, ...], rows: np.ndarray
    ) -> None:
        """Infinite values are no missing ones: to mask them would flatter what blew up."""
        infinite = np.isinf(members).any(axis=(-3, -2, -1))
        if not infinite.any():
            return
        first = np.unravel_index(np.argmax(infinite), infinite.shape)
        valid = self._times[rows[first]]
        start = ""
        if self._plan.sources[name].at is None:
            init = self._inits[where[0].start + first[0]]
            hours = (valid - init) / np.timedelta64(1, "h")
            start = f", initial time {init.astype('datetime64[m]')}, lead time {hours:g} h"
        raise InputError(
            f"the forecast {name} is infinite in {self._channel.label}{start}, valid at "
            f"{valid.astype('datetime64[m]')}; the rollout blew up: train with more rollout steps, "
            "score fewer lead times, or mark such values as missing (NaN)"
        )


def _parts(
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


def _put(
    arrays: dict[str, np.ndarray],
    key: str,
    where: tuple[slice, ...],
    values: np.ndarray,
    shape: tuple[int, ...],
) -> None:
    """Put values of ranges to where they belong; NaN elsewhere."""
    if key not in arrays:
        arrays[key] = np.full((*shape, *values.shape[len(where) :]), np.nan)
    arrays[key][where] = values

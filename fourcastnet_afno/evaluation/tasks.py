"""One task of the engine: the statistics of one variable over some initial and lead times."""

from collections.abc import Iterator

import numpy as np

from data_pipeline.channels import Channel
from data_pipeline.errors import InputError
from fourcastnet_afno.evaluation.ensembles import ensemble_statistics, rank_histogram
from fourcastnet_afno.evaluation.events import (
    event_statistics,
    relative_quantile_error,
    reliability,
    seeps,
)
from fourcastnet_afno.evaluation.fields import FieldSource, as_slice
from fourcastnet_afno.evaluation.plan import Plan, Result, Task
from fourcastnet_afno.evaluation.spectra import zonal_energy_spectrum
from fourcastnet_afno.evaluation.statistics import (
    ErrorStatistics,
    TruthBlock,
    derived_statistics,
    masked_mean,
)

_TILE_VALUES = 2**17  # what stays in the cache of a core


def run_task(plan: Plan, task: Task) -> dict[int, Result]:
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

    def __init__(self, plan: Plan, task: Task, channel: Channel) -> None:
        self._plan, self._channel = plan, channel
        self._inits = plan.init_times[task.inits]
        self._leads = plan.lead_times[task.leads]
        valid = self._inits[:, None] + self._leads[None, :]
        self._times, positions = np.unique(valid, return_inverse=True)
        self._positions = positions.reshape(valid.shape)
        self._tile = max(1, _TILE_VALUES // (plan.grid.shape[0] * plan.grid.shape[1]))
        needed = frozenset({"error_truth", "absolute_error"} & _inputs(plan.needed))
        self._errors = ErrorStatistics(
            plan.averager, self._tile, plan.grid.shape, needed, plan.plain
        )
        self._result = Result()
        label = channel.label
        self._maps = {lead - task.leads.start for lead in plan.map_leads}
        self._maps = self._maps if label in plan.map_channels else set()
        self._thresholds = plan.events.thresholds.get(label)

    def run(self) -> Result:
        """All forecasts."""
        plan = self._plan
        fields = self._truth_fields()
        climatology = plan.climatology(self._channel, self._times)
        self._truth = TruthBlock.of(fields, climatology, plan.averager, plan.plain)
        self._complete = np.asarray(np.isfinite(fields).all(axis=(1, 2)))
        if plan.spectra:
            self._add_truth_spectrum()
        for name, source in plan.sources.items():
            if source.at is not None:
                self._by_valid_time(name, source)
            else:
                self._by_pair(name, source)
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

    def _add_truth_spectrum(self) -> None:
        fields = self._truth.fields.astype(self._plan.truth.dtype)
        spectra = zonal_energy_spectrum(fields, self._plan.area_weights)[self._positions]
        for lead in range(len(self._leads)):
            self._add_spectrum("truth", slice(lead, lead + 1), spectra[:, lead])

    def _add_spectrum(self, name: str, leads: slice, spectra: np.ndarray) -> None:
        """Add spectra (field, zonal_wavenumber), all to one lead time or one to each."""
        complete = np.asarray(np.isfinite(spectra).all(axis=-1))
        sums = self._sums(name, "spectrum", spectra.shape[-1:])
        counts = self._sums(name, "spectrum_count", ())
        values = np.where(complete[:, None], spectra, 0.0)
        if leads.stop - leads.start == 1:
            sums[leads] += values.sum(axis=0)
            counts[leads] += complete.sum()
        else:
            sums[leads] += values
            counts[leads] += complete

    def _by_valid_time(self, name: str, source: FieldSource) -> None:
        """Score each valid time once, and hand the statistics to all pairs with this time."""
        assert source.at is not None
        values = source.at(self._channel, self._times)
        own = np.isin(self._leads, source.lead_times)
        rows = np.arange(len(self._times))
        means = dict(self._truth.means)
        extra: dict[str, np.ndarray] = {}
        for tile in _tiles(len(values), self._tile):
            members = values[tile, None]
            self._score(name, means, extra, tile, members, rows[tile])
        self._keep(name, {n: v[self._positions] for n, v in (means | extra).items()}, own)
        if self._plan.spectra:
            fields = values.astype(self._plan.truth.dtype)
            spectra = zonal_energy_spectrum(fields, self._plan.area_weights)
            # Only where there is truth, as for the other forecasts.
            spectra = np.where(self._complete[:, None], spectra, np.nan)[self._positions]
            for lead in np.flatnonzero(own):
                self._add_spectrum(name, slice(lead, lead + 1), spectra[:, lead])
        for lead in self._leads_of_fields(np.flatnonzero(own), 1):
            for row in self._positions[:, lead].tolist():
                self._add_fields(name, lead, values[row : row + 1, None], row)

    def _by_pair(self, name: str, source: FieldSource) -> None:
        own = np.isin(self._leads, source.lead_times)
        if not own.any():
            return
        start = int(np.searchsorted(source.lead_times, self._leads[own][0]))
        forecasts = source.read(self._channel, self._inits, slice(start, start + int(own.sum())))
        where = np.flatnonzero(own)
        shape = (len(self._inits), len(where))
        positions = self._positions[:, where]
        means = {n: v[positions].reshape(-1, *v.shape[1:]) for n, v in self._truth.means.items()}
        extra: dict[str, np.ndarray] = {}
        for init, fields in enumerate(forecasts):
            for tile in _tiles(len(where), self._tile):
                flat = slice(init * len(where) + tile.start, init * len(where) + tile.stop)
                rows = positions[init, tile]
                self._score(name, means, extra, flat, fields[tile], rows)
                self._add_tile(name, where[tile], fields[tile], rows)
        both = means | extra
        self._keep(name, {n: v.reshape(*shape, *v.shape[1:]) for n, v in both.items()}, own)

    def _score(
        self,
        name: str,
        means: dict[str, np.ndarray],
        extra: dict[str, np.ndarray],
        where: slice,
        members: np.ndarray,
        rows: np.ndarray,
    ) -> None:
        """Put the statistics of fields (field, realization, ...) into place."""
        index = as_slice(rows)
        truth, block = self._truth.fields[index], self._truth
        single = members.shape[1] == 1
        forecast = members[:, 0] if single else members.mean(axis=1, dtype=np.float64)
        found = self._errors(forecast, truth, block.anomalies[index], block.centered[index])
        if found["missing"].any():
            self._refuse_infinite(name, members)
        total = len(next(iter(means.values())))
        for key, values in found.items():
            _put(means, key, where, values, total)
        for key, values in self._further(members, forecast, truth, rows).items():
            _put(extra, f"+{key}", where, values, total)

    def _further(
        self, members: np.ndarray, forecast: np.ndarray, truth: np.ndarray, rows: np.ndarray
    ) -> dict[str, np.ndarray]:
        plan, label = self._plan, self._channel.label
        result: dict[str, np.ndarray] = {}
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
            heavy = given.heavy(self._times[rows])
            values = seeps(np.asarray(forecast), truth, given.dry_fraction, heavy, given.dry)
            result["seeps"] = masked_mean(plan.averager, values, np.isfinite(values))
        return result

    def _add_tile(
        self, name: str, leads: np.ndarray, members: np.ndarray, rows: np.ndarray
    ) -> None:
        if self._plan.spectra:
            spectra = zonal_energy_spectrum(members, self._plan.area_weights)
            spectra = spectra[:, 0] if members.shape[1] == 1 else spectra.mean(axis=1)
            spectra = np.where(self._complete[rows, None], spectra, np.nan)
            if len(leads) == 1 or np.all(np.diff(leads) == 1):
                self._add_spectrum(name, slice(leads[0], leads[-1] + 1), spectra)
            else:
                for lead, spectrum in zip(leads, spectra, strict=True):
                    self._add_spectrum(name, slice(lead, lead + 1), spectrum[None])
        for lead in self._leads_of_fields(leads, members.shape[1]):
            index = int(np.searchsorted(leads, lead))
            self._add_fields(name, lead, members[index : index + 1], int(rows[index]))

    def _leads_of_fields(self, leads: np.ndarray, num_members: int) -> list[int]:
        """Lead times whose fields are added one by one, to maps or histograms."""
        every = self._thresholds is not None or (self._plan.ensembles and num_members > 1)
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

    def _refuse_infinite(self, name: str, members: np.ndarray) -> None:
        if np.isinf(members).any():
            raise InputError(
                f"the forecast {name} is infinite in {self._channel.label}, initial times "
                f"{self._inits[0]} to {self._inits[-1]}; the rollout blew up: train with more "
                "rollout steps, score fewer lead times, or mark such values as missing (NaN)"
            )


def _inputs(needed: frozenset[str]) -> set[str]:
    """Means of products that some statistics need and others do not."""
    names = set()
    if "absolute_error" in needed:
        names.add("absolute_error")
    if "correlation" in needed:
        names.add("error_truth")
    return names


def _tiles(total: int, length: int) -> Iterator[slice]:
    for start in range(0, total, length):
        yield slice(start, min(start + length, total))


def _put(
    arrays: dict[str, np.ndarray], key: str, where: slice, values: np.ndarray, total: int
) -> None:
    if key not in arrays:
        arrays[key] = np.full((total, *values.shape[1:]), np.nan)
    arrays[key][where] = values

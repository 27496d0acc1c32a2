"""The examination of an experiment's data.

The checks are those of ``prepare``, whose errors are collected instead of raised, and those of this
package for data that ``prepare`` accepts and that is wrong all the same.
"""

from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from data_pipeline.calendars import STANDARD, calendar_of
from data_pipeline.channels import Channel, Channels
from data_pipeline.doctor import accumulations, sampling, stored, times
from data_pipeline.doctor.axes import check_grid, check_layout
from data_pipeline.doctor.findings import Finding, Report, collect
from data_pipeline.doctor.opening import OpenedSource, open_examined
from data_pipeline.doctor.physics import check_north_is_up
from data_pipeline.doctor.sampling import SampledStates, SampledValues
from data_pipeline.doctor.times import PeriodNeeds, times_of
from data_pipeline.doctor.values import check_values, describe_values
from data_pipeline.errors import InputError
from data_pipeline.grids.coarsening import Coarsening
from data_pipeline.grids.grid import Grid, LatLonGrid, space_dims
from data_pipeline.grids.plane import grid_of, require_latlon
from data_pipeline.preparation.checks import check_dims
from data_pipeline.preparation.config import DataConfig
from data_pipeline.preparation.plan import plan_store, state_bytes
from data_pipeline.preprocessing.filling import check_rules, rule_of
from data_pipeline.sources.fields.rename import renames_of
from data_pipeline.sources.formats.chunks import PIECE_BYTES
from data_pipeline.sources.names import parse_label
from data_pipeline.sources.units import require_units
from data_pipeline.store.reader import PreparedStore, Role
from data_pipeline.timestep import Timestep

_MIB = 2**20


@dataclass(frozen=True)
class Examination:
    """The report about the data, and the facts that a model needs.

    Args:
        report: Facts and findings.
        channels: Prognostic channels, or ``None`` where they are not known.
        num_static: Static channels, with those that mark where values are missing.
        grid: That the model sees: of the store, cropped.
        store: The training store with these channels, if it exists.
    """

    report: Report
    channels: Channels | None = None
    num_static: int = 0
    grid: Grid | None = None
    store: PreparedStore | None = None


def examine(
    config: DataConfig,
    location: str,
    needs: PeriodNeeds,
    *,
    sample_bytes: int = 1024 * _MIB,
    piece_bytes: int = PIECE_BYTES,
) -> Examination:
    """Examine the source, and the store if it was prepared; wrong data makes findings, no errors.

    Args:
        config: The data of an experiment.
        location: Folder or URL of its store, which may not exist yet.
        needs: Lengths that training and forecasts need of the periods.
        sample_bytes: Bytes of the source to read at most, counted as complete uncompressed chunks.
        piece_bytes: Size of the chunks of files that have none.
    """
    opened = open_examined(config, piece_bytes)
    try:
        return _Examination(config, opened, location, needs, sample_bytes).run()
    finally:
        for dataset in opened.raw:
            dataset.close()


@dataclass
class _Examination:
    """One pass over all checks; each adds to the facts and the findings."""

    config: DataConfig
    opened: OpenedSource
    location: str
    needs: PeriodNeeds
    budget: int
    facts: dict[str, Any] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def run(self) -> Examination:
        config = self.config
        origin = config.pde.equation if config.pde else "simulation"
        origin = ", ".join(config.source.paths) if config.source else origin
        names = ("fourcastnet-afno", "xarray", "zarr", "dask", "numpy")
        self.facts["source"] = {"origin": origin, "complete": self.opened.complete}
        self.facts["versions"] = {name: version(name) for name in names}
        self.findings += self.opened.findings
        store, findings = stored.open_prepared(self.config, self.location)
        self._add("store", stored.describe_store(store) if store else None, findings)
        if store is not None:  # training reads the store alone
            self.findings = [replace(finding, severity="warning") for finding in self.findings]
        if self.opened.raw:
            assert config.source is not None
            first = self.opened.raw[0]
            file = str(first.encoding.get("source", ""))
            self._add("layout", *check_layout(first, renames_of(config.source.rename, file)))
        seen_by_model = None
        if self.opened.dataset is None:
            self._check_times(self.opened.times)
        else:
            seen_by_model = self._check_source(self.opened.dataset, store)
        # Store and source may have the same fault.
        report = Report().extended(self.facts, list(dict.fromkeys(self.findings)))
        if store is not None:
            state, num_static = store.prognostic, len(store.static_channels)
            return Examination(report, state.channels, num_static, state.grid, state)
        return Examination(report, *seen_by_model) if seen_by_model else Examination(report)

    def _add(self, section: str, facts: object, findings: list[Finding]) -> None:
        self.facts[section] = facts
        self.findings += findings

    def _collect(self, where: str) -> AbstractContextManager[None]:
        return collect(self.findings, "prepare", where)

    def _check_source(
        self, source: xr.Dataset, store: PreparedStore | None
    ) -> tuple[Channels, int, Grid] | None:
        """Check all of the source; channels, number of static ones, and the grid of a model."""
        # States as ``prepare`` makes them, or all of the source where it raises an error.
        states, findings = SampledStates.of_source(source, self.config), list[Finding]()
        with collect(findings, "prepare", "data.accumulate"):
            states = states.resampled(self.config)
        simulated = self.config.source is None  # a short part of it
        state_times = self.opened.times if simulated else times_of(states.dataset)
        if not self._check_times(state_times) and self.opened.complete:
            self.findings += findings
        with collect(self.findings, "fill", "data.fill"):
            labels = [*self.config.predicted, *self.config.static]
            check_rules(self.config.fill, [parse_label(label)[0] for label in labels])
        grid = self.facts["grid"] = None
        with self._collect(" and ".join(space_dims(source.dims))):
            grid = grid_of(source)
            self._add("grid", *check_grid(grid))
        channels = prognostic = self._channels(states.dataset, "prognostic")
        with self._collect("data.diagnostic"):
            channels = prognostic + self._channels(states.dataset, "diagnostic")
        if grid is None or not len(prognostic) or not len(times_of(states.dataset)):
            return None
        sample, num_static = self._check_values(states, channels, grid)
        target = self._target_grid(grid)
        if target is None:
            return None
        if store is None:
            self._check_preparation(states.dataset, channels, target)
        else:
            self._check_store(store, sample, grid)
        num_static += sum(rule_of(self.config.fill, c) == "climatology" for c in channels)
        with self._collect("data.crop"):
            cropped = self.config.crop.apply(target)[0] if self.config.crop else target
            return prognostic, num_static, cropped
        return None

    def _check_times(self, states: np.ndarray) -> bool:
        """Check the times of the source and of its states; whether there is an error."""
        source_times, config = self.opened.times, self.config
        dataset = self.opened.dataset
        step = config.step if dataset is None else config.step.counted_as(dataset)
        self.facts["time"] = times.describe_times(source_times, config, step)
        if not self.opened.complete:
            return False
        findings = times.check_times(source_times, states, config, step)
        wrong = any(finding.severity == "error" for finding in findings)
        if not wrong:
            chosen = states[sampling.choose_times(config, states, step.calendar)]
            findings += times.check_periods(chosen, config, self.needs, step)
        self.findings += findings
        return wrong

    @property
    def _calendar(self) -> str:
        """The calendar that the times of the source are counted in."""
        dataset = self.opened.dataset
        return STANDARD if dataset is None else calendar_of(dataset)

    def _channels(self, dataset: xr.Dataset, role: Role) -> Channels:
        """Channels of a role; where some are missing or have other axes, those that suit."""
        labels, levels, where = getattr(self.config, role), self.config.levels, f"data.{role}"
        channels = None
        with self._collect(where):
            channels = Channels.from_dataset(dataset, labels, levels)
        if channels is None:
            by_label: dict[str, Channel] = {}
            for label in labels:
                for tried in (levels, ()):  # all levels where some of the requested are missing
                    with suppress(InputError):
                        group = Channels.from_dataset(dataset, [label], tried)
                        by_label |= {channel.label: channel for channel in group}
                        break
            channels = Channels(tuple(by_label.values()))
        suitable = []
        for name in dict.fromkeys(channel.name for channel in channels):
            with self._collect(f"{where}, {name}"):
                group = [channel for channel in channels if channel.name == name]
                check_dims(dataset, Channels(tuple(group)))
                suitable += group
        with self._collect(where):
            require_units(dataset, list(dict.fromkeys(channel.name for channel in suitable)))
        return Channels(tuple(suitable))

    def _target_grid(self, grid: Grid) -> Grid | None:
        """The grid of a store."""
        simulation = self.config.simulation
        if simulation is not None:  # the sample may be coarser
            grid = LatLonGrid.equiangular(simulation.num_latitudes, simulation.num_longitudes)
        if self.config.forcings:
            with self._collect("data.forcings"):
                require_latlon(grid, "data.forcings")
        if self.config.grid is None:
            return grid
        with self._collect("data.grid"):
            target = self.config.grid.build()
            Coarsening(grid, target)
            return target
        return None

    def _check_preparation(self, dataset: xr.Dataset, channels: Channels, target: Grid) -> None:
        """Check the bytes that ``prepare`` would read and write."""
        if "://" in self.location:
            return
        if self.config.source is None:
            count = len(sampling.choose_times(self.config, self.opened.times))
            written = count * state_bytes(self.config.storage, channels, target)
        else:
            indices = sampling.choose_times(self.config, times_of(dataset), self._calendar)
            if len(indices) < 2:
                return
            plan, _ = plan_store(dataset, channels, indices, self.config, target)
            written = plan.bytes_written
            self.findings += stored.check_chunks(plan)
        self._add("disk", *stored.check_disk(Path(self.location), written))

    def _check_store(self, store: PreparedStore, sample: SampledValues, grid: Grid) -> None:
        uncropped, config = PreparedStore(store.path), self.config
        if config.source is None:  # a short simulation has no states of the long one
            indices = sampling.spread_evenly(config, uncropped.times, self._calendar)
            states = SampledStates(uncropped.dataset(), uncropped.dataset())
            sample, _ = sampling.read_sample(states, uncropped.channels, indices, self.budget)
            grid, config = uncropped.grid, replace(config, grid=None)
        self.findings += stored.check_store(uncropped, sample, grid, config)

    def _check_values(
        self, states: SampledStates, channels: Channels, grid: Grid
    ) -> tuple[SampledValues, int]:
        """Read and check a sample; the sample, and the number of static channels."""
        indices = sampling.spread_evenly(self.config, times_of(states.dataset), self._calendar)
        step = Timestep.of_axis(times_of(states.source), self._calendar)
        summed = step and self.config.source
        sums = accumulations.accumulated(states, channels) if summed else Channels(())
        static, fixed, problems = sampling.read_static(states, self.config, self.budget // 4)
        # Running totals show in consecutive times alone, for which a part is reserved.
        left = self.budget - fixed.num_bytes - (self.budget // 4 if len(sums) else 0)
        sample, others = sampling.read_sample(states, channels, indices, left)
        self.findings += [*problems, *others]
        self.findings += check_values(sample, channels, grid, self.config, static=False)
        self.findings += check_values(fixed, static, grid, self.config, static=True)
        if grid.on_sphere:
            self.findings += check_north_is_up(sample, fixed, grid)
        num_bytes = sample.num_bytes + fixed.num_bytes
        if step and len(sums):
            start, budget = int(indices[0]), self.budget // 4
            totals, read = accumulations.check_running_totals(states, sums, step, start, budget)
            self.findings += totals or accumulations.check_sum_periods(sums, step, self.config)
            num_bytes += read
        first, last = map(str, sample.times[[0, -1]]) if len(sample.times) else (None, None)
        facts = {"num_times": len(sample.times), "first": first, "last": last}
        self.facts["sample"] = facts | {"bytes": num_bytes, "bytes_allowed": self.budget}
        described = describe_values(sample, channels, grid)
        self.facts["variables"] = described | describe_values(fixed, static, grid)
        return sample, len(static)

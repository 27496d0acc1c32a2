"""The examination of an experiment's data: what is there, and what would go wrong."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from data_pipeline.channels import Channels
from data_pipeline.doctor.accumulations import (
    accumulated,
    check_running_totals,
    check_sum_periods,
)
from data_pipeline.doctor.axes import check_grid, check_layout
from data_pipeline.doctor.findings import Finding, Report, finding_from_error
from data_pipeline.doctor.opening import OpenedSource, open_examined
from data_pipeline.doctor.physics import check_north_is_up
from data_pipeline.doctor.sampling import (
    SampledStates,
    SampledValues,
    choose_times,
    read_sample,
    read_static,
    spread_evenly,
)
from data_pipeline.doctor.stored import (
    check_chunks,
    check_disk,
    check_store,
    describe_store,
    open_prepared,
)
from data_pipeline.doctor.times import (
    PeriodNeeds,
    check_periods,
    check_times,
    describe_times,
    times_of,
)
from data_pipeline.doctor.values import check_values, describe_values
from data_pipeline.errors import InputError
from data_pipeline.grids.coarsening import Coarsening
from data_pipeline.grids.grid import Grid, LatLonGrid, space_dims
from data_pipeline.grids.plane import grid_of
from data_pipeline.preparation.checks import check_dims
from data_pipeline.preparation.config import DataConfig
from data_pipeline.preparation.plan import plan_store, state_bytes
from data_pipeline.preprocessing.accumulation import usual_step
from data_pipeline.preprocessing.filling import check_rules
from data_pipeline.sources.canonical import require_units
from data_pipeline.sources.names import parse_label
from data_pipeline.store.reader import PreparedStore, Role

_MIB = 2**20


@dataclass(frozen=True)
class Examination:
    """The report about the data, and what a model needs to know of it.

    Args:
        report: Facts and findings.
        channels: Prognostic channels, or ``None`` where they are not known.
        num_static: Static channels, with those that say where values are missing.
        grid: That the model sees: of the store, cropped.
        store: The training store with these channels, where there is one.
    """

    report: Report
    channels: Channels | None = None
    num_static: int = 0
    grid: Grid | None = None
    store: PreparedStore | None = None


def examine(
    config: DataConfig, location: str, horizons: PeriodNeeds, *, sample_bytes: int = 1024 * _MIB
) -> Examination:
    """Examine the source, and the store where it was prepared; data that is refused is no failure.

    Args:
        config: The data of an experiment.
        location: Folder or URL of its store, which may not be there yet.
        horizons: What training and forecasts ask of the periods.
        sample_bytes: Bytes of the source to read at most, counted as whole uncompressed chunks.
    """
    opened = open_examined(config)
    try:
        return _Examination(config, opened, location, horizons, sample_bytes).run()
    finally:
        for part in opened.raw:
            part.close()


class _Examination:
    """One pass over all checks; each adds to the facts and the findings."""

    def __init__(
        self,
        config: DataConfig,
        opened: OpenedSource,
        location: str,
        horizons: PeriodNeeds,
        budget: int,
    ) -> None:
        self.config, self.opened, self.location = config, opened, location
        self.horizons, self.budget = horizons, budget
        names = ("fourcastnet-afno", "xarray", "zarr", "dask", "numpy")
        self.facts: dict[str, Any] = {
            "source": {"origin": _origin(config), "complete": opened.complete},
            "versions": {name: version(name) for name in names},
        }
        self.findings: list[Finding] = list(opened.findings)

    def run(self) -> Examination:
        store, findings = open_prepared(self.config, self.location)
        self._add("store", describe_store(store) if store else None, findings)
        if store is not None:  # training reads the store alone
            self.findings = [replace(finding, severity="warning") for finding in self.findings]
        self._check_layout()
        known = self._check_source(self.opened.dataset, store)
        # Store and source may be refused for the same reason.
        report = Report().extended(self.facts, list(dict.fromkeys(self.findings)))
        if store is not None:
            state = store.prognostic
            return Examination(
                report, state.channels, len(state.static_channels), state.grid, state
            )
        return Examination(report, *known) if known else Examination(report)

    def _check_source(
        self, source: xr.Dataset | None, store: PreparedStore | None
    ) -> tuple[Channels, int, Grid] | None:
        """Check all of the source; channels, number of static ones, and the grid of a model."""
        if source is None:
            self._check_times(self.opened.times)
            return None
        states = self._states(source)
        with self._refusals("fill", "data.fill"):
            labels = [*self.config.predicted, *self.config.static]
            check_rules(self.config.fill, [parse_label(label)[0] for label in labels])
        grid = self._check_grid(source)
        channels = prognostic = self._channels(states.dataset, "prognostic")
        with self._refusals("prepare", "data.diagnostic"):
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
        masks = sum(self.config.fill.get(c.name) == "climatology" for c in channels)
        grid = self._cropped(target)
        return (prognostic, num_static + masks, grid) if grid is not None else None

    @contextmanager
    def _refusals(self, check: str, where: str) -> Iterator[None]:
        """Turn a refusal into a finding."""
        try:
            yield
        except InputError as error:
            self.findings.append(finding_from_error(check, error, where))

    def _add(self, section: str, facts: object, findings: list[Finding]) -> None:
        self.facts[section] = facts
        self.findings += findings

    def _check_layout(self) -> None:
        if self.opened.raw:
            assert self.config.source is not None
            facts, findings = check_layout(self.opened.raw[0], self.config.source.rename)
            self._add("layout", facts, findings)

    def _states(self, source: xr.Dataset) -> SampledStates:
        """What ``prepare`` would take, or, where it refuses to accumulate, all of the source."""
        states, refusal = SampledStates.of_source(source, self.config), None
        try:
            states = states.resampled(self.config)
        except InputError as error:
            refusal = finding_from_error("prepare", error, "data.accumulate")
        simulated = self.config.source is None  # a short part of it
        times = self.opened.times if simulated else times_of(states.dataset)
        if not self._check_times(times) and refusal is not None and self.opened.complete:
            self.findings.append(refusal)
        return states

    def _check_times(self, states: np.ndarray) -> bool:
        """Check the times of the source and of its states; whether there is an error."""
        times, config = self.opened.times, self.config
        self.facts["time"] = describe_times(times, config)
        if not self.opened.complete or not len(times):
            return False
        findings = check_times(times, states, config)
        wrong = any(finding.severity == "error" for finding in findings)
        if not wrong:
            chosen = states[choose_times(config, states)]
            findings += check_periods(chosen, config, self.horizons)
        self.findings += findings
        return wrong

    def _channels(self, dataset: xr.Dataset, role: Role) -> Channels:
        """Those of a role; where some are missing or have other axes, those that suit."""
        wanted, levels = getattr(self.config, role), self.config.levels
        try:
            channels = Channels.from_dataset(dataset, wanted, levels)
        except InputError as error:
            self.findings.append(finding_from_error("prepare", error, f"data.{role}"))
            channels = _available(dataset, wanted, levels)
        suitable = []
        for name in dict.fromkeys(channel.name for channel in channels):
            with self._refusals("prepare", f"data.{role}, {name}"):
                group = [channel for channel in channels if channel.name == name]
                check_dims(dataset, Channels(tuple(group)))
                suitable += group
        with self._refusals("prepare", f"data.{role}"):
            require_units(dataset, list(dict.fromkeys(channel.name for channel in suitable)))
        return Channels(tuple(suitable))

    def _check_grid(self, dataset: xr.Dataset) -> Grid | None:
        with self._refusals("prepare", " and ".join(space_dims(dataset.dims))):
            grid = grid_of(dataset)
            self._add("grid", *check_grid(grid))
            return grid
        self.facts["grid"] = None
        return None

    def _target_grid(self, grid: Grid) -> Grid | None:
        """The grid of a store."""
        simulation = self.config.simulation
        if simulation is not None:  # the sample may be coarser
            grid = LatLonGrid.equiangular(simulation.num_latitudes, simulation.num_longitudes)
        if self.config.grid is None:
            return grid
        with self._refusals("prepare", "data.grid"):
            target = self.config.grid.build()
            Coarsening(grid, target)
            return target
        return None

    def _cropped(self, grid: Grid) -> Grid | None:
        if self.config.crop is None:
            return grid
        with self._refusals("prepare", "data.crop"):
            return self.config.crop.apply(grid)[0]
        return None

    def _check_preparation(self, dataset: xr.Dataset, channels: Channels, target: Grid) -> None:
        """What it would read and write."""
        if "://" in self.location:
            return
        if self.config.source is None:
            count = len(choose_times(self.config, self.opened.times))
            written = count * state_bytes(self.config.storage, channels, target)
        else:
            indices = choose_times(self.config, times_of(dataset))
            if len(indices) < 2:
                return
            plan, _ = plan_store(dataset, channels, indices, self.config, target)
            written = plan.bytes_written
            self.findings += check_chunks(plan)
        self._add("disk", *check_disk(Path(self.location), written))

    def _check_store(self, store: PreparedStore, sample: SampledValues, grid: Grid) -> None:
        whole, config = PreparedStore(store.path), self.config
        if config.source is None:  # a short simulation has no states of the long one
            indices = spread_evenly(config, whole.times)
            states = SampledStates(whole.dataset(), whole.dataset())
            sample, _ = read_sample(states, whole.channels, indices, self.budget)
            grid, config = whole.grid, replace(config, grid=None)
        self.findings += check_store(whole, sample, grid, config)

    def _check_values(
        self, states: SampledStates, channels: Channels, grid: Grid
    ) -> tuple[SampledValues, int]:
        """Read and check a sample; the sample, and the number of static channels."""
        indices = spread_evenly(self.config, times_of(states.dataset))
        step = usual_step(times_of(states.source))
        summed = accumulated(states, channels) if step and self.config.source else Channels(())
        static, fixed, problems = read_static(states, self.config, self.budget // 4)
        # Running totals show in consecutive times alone, for which a part is kept.
        left = self.budget - fixed.num_bytes - (self.budget // 4 if len(summed) else 0)
        sample, others = read_sample(states, channels, indices, left)
        self.findings += [*problems, *others]
        self.findings += check_values(sample, channels, grid, self.config, static=False)
        self.findings += check_values(fixed, static, grid, self.config, static=True)
        if isinstance(grid, LatLonGrid):
            self.findings += check_north_is_up(sample, fixed, grid)
        num_bytes = sample.num_bytes + fixed.num_bytes
        if step and len(summed):
            first, budget = int(indices[0]), self.budget // 4
            totals, read = check_running_totals(states, summed, step, first, budget)
            self.findings += totals
            if not totals:
                self.findings += check_sum_periods(summed, step, self.config)
            num_bytes += read
        self.facts["sample"] = {
            "num_times": len(sample.times),
            "first": str(sample.times[0]) if len(sample.times) else None,
            "last": str(sample.times[-1]) if len(sample.times) else None,
            "bytes": num_bytes,
            "bytes_allowed": self.budget,
        }
        self.facts["variables"] = {
            **describe_values(sample, channels, grid),
            **describe_values(fixed, static, grid),
        }
        return sample, len(static)


def _origin(config: DataConfig) -> str:
    if config.pde is not None:
        return config.pde.equation
    return ", ".join(config.source.paths) if config.source else "simulation"


def _available(dataset: xr.Dataset, wanted: list[str], levels: list[int]) -> Channels:
    """The channels that are there, where others are missing."""
    channels: dict[str, Any] = {}
    for label in wanted:
        for tried in (levels, ()):
            try:
                group = Channels.from_dataset(dataset, [label], tried)
            except InputError:
                continue
            channels |= {channel.label: channel for channel in group}
            break
    return Channels(tuple(channels.values()))

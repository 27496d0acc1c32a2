"""The examination of an experiment's data: what is there, and what would go wrong."""

from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from data_pipeline.channels import Channels
from data_pipeline.coarsening import Coarsening
from data_pipeline.derived import with_derived
from data_pipeline.doctor.axes import check_grid, check_layout
from data_pipeline.doctor.findings import Finding, Report, found, refused
from data_pipeline.doctor.physics import check_north_is_up
from data_pipeline.doctor.reading import (
    Opened,
    Sample,
    choose_times,
    mark_derived,
    open_examined,
    read_sample,
    spread,
)
from data_pipeline.doctor.stored import (
    check_disk,
    check_store,
    describe_store,
    open_prepared,
)
from data_pipeline.doctor.times import (
    Horizons,
    check_periods,
    check_times,
    describe_times,
    usual_step,
)
from data_pipeline.doctor.values import (
    accumulated,
    check_accumulations,
    check_values,
    describe_values,
    run_length,
)
from data_pipeline.errors import InputError
from data_pipeline.grid import LatLonGrid
from data_pipeline.prepare import DataConfig
from data_pipeline.sources import require_units
from data_pipeline.store import PreparedStore

_MIB = 2**20


@dataclass(frozen=True)
class Examined:
    """The report about the data, and what a model needs to know of it.

    Args:
        report: Facts and findings.
        channels: Prognostic channels, or ``None`` where they are not known.
        num_static: Static channels, with those that say where values are missing.
        grid: Of the store.
        store: The training store, where there is one.
    """

    report: Report
    channels: Channels | None = None
    num_static: int = 0
    grid: LatLonGrid | None = None
    store: PreparedStore | None = None


def examine(
    config: DataConfig, path: Path, horizons: Horizons, *, sample_bytes: int = 1024 * _MIB
) -> Examined:
    """Examine the source, and the store where it was prepared; data that is refused is no failure.

    Args:
        config: The data of an experiment.
        path: Folder of its store, which may not be there yet.
        horizons: What training and forecasts ask of the periods.
        sample_bytes: Bytes of the source to read at most, counted as whole uncompressed chunks.
    """
    opened = open_examined(config)
    try:
        return _Examination(config, opened, path, horizons, sample_bytes).run()
    finally:
        if opened.dataset is not None:
            opened.dataset.close()
        for part in opened.raw:
            part.close()


class _Examination:
    """One pass over all checks; each adds to the facts and the findings."""

    def __init__(
        self, config: DataConfig, opened: Opened, path: Path, horizons: Horizons, budget: int
    ) -> None:
        self.config, self.opened, self.path = config, opened, path
        self.horizons, self.budget = horizons, budget
        names = ("fourcastnet-afno", "xarray", "zarr", "dask", "numpy")
        self.facts: dict[str, Any] = {
            "source": {"origin": _origin(config), "complete": opened.complete},
            "versions": {name: version(name) for name in names},
        }
        self.findings: list[Finding] = list(opened.findings)

    def run(self) -> Examined:
        store, findings = open_prepared(self.config, self.path)
        self._add("store", describe_store(store) if store else None, findings)
        if store is not None:  # training reads the store alone
            self.findings = [replace(finding, severity="warning") for finding in self.findings]
        self._check_times()
        self._check_layout()
        known = self._check_source(store) if self.opened.dataset is not None else None
        report = Report().extended(self.facts, self.findings)
        if store is not None:
            return Examined(report, store.channels, len(store.static_channels), store.grid, store)
        return Examined(report, *known) if known else Examined(report)

    def _check_source(self, store: PreparedStore | None) -> tuple[Channels, int, LatLonGrid] | None:
        """Check grid and values; channels, number of static channels, and grid of a store."""
        assert self.opened.dataset is not None
        dataset = self._with_derived(self.opened.dataset)
        channels, static = self._channels(dataset)
        grid = self._check_grid(dataset)
        if channels is None or grid is None:
            return None
        sample = self._check_values(dataset, channels, static, grid)
        if store is not None and self._can_coarsen(grid):
            self._check_store(store, sample, grid)
        target = self._target_grid(grid)
        needed = 4 * len(self._kept()) * len(channels) * target.shape[0] * target.shape[1]
        self._add("disk", *check_disk(self.path, needed, prepared=store is not None))
        masks = sum(self.config.fill.get(c.name) == "climatology" for c in channels)
        return channels, len(static) + masks, target

    def _check_layout(self) -> None:
        if self.opened.raw:
            assert self.config.source is not None
            facts, findings = check_layout(self.opened.raw[0], self.config.source.rename)
            self._add("layout", facts, findings)

    def _check_store(self, store: PreparedStore, sample: Sample, grid: LatLonGrid) -> None:
        if self.config.source is None:  # a short simulation has no states of the long one
            indices = spread(self.config, store.times)
            sample, _ = read_sample(store.dataset(), store.channels, indices, self.budget)
            grid = store.grid
        self.findings += check_store(store, sample, grid, self.config)

    def _add(self, section: str, facts: object, findings: list[Finding]) -> None:
        self.facts[section] = facts
        self.findings += findings

    def _kept(self) -> np.ndarray:
        times = self.opened.times
        return times[choose_times(self.config, times)]

    def _check_times(self) -> None:
        times, config, asked = self.opened.times, self.config, self.horizons
        self.facts["time"] = describe_times(times, config)
        if not self.opened.complete or not len(times):
            return
        findings = check_times(times, config)
        if not any(finding.severity == "error" for finding in findings):
            findings += check_periods(self._kept(), config, asked)
        self.findings += findings

    def _with_derived(self, dataset: xr.Dataset) -> xr.Dataset:
        try:
            derived = with_derived(dataset, [*self.config.prognostic, *self.config.static])
            mark_derived(derived, dataset)
            return derived
        except InputError as error:
            self.findings.append(refused("prepare", error, "data.prognostic"))
            return dataset

    def _channels(self, dataset: xr.Dataset) -> tuple[Channels | None, Channels]:
        """Prognostic and static channels; where some are missing, those that are there."""
        groups = []
        for role in ("prognostic", "static"):
            wanted: list[str] = getattr(self.config, role)
            try:
                group = Channels.from_dataset(dataset, wanted, self.config.levels)
                require_units(dataset, list(dict.fromkeys(channel.name for channel in group)))
            except InputError as error:
                self.findings.append(refused("prepare", error, f"data.{role}"))
                group = _available(dataset, wanted, self.config.levels)
            plain = _plain(dataset, group, timed=role == "prognostic")
            self.findings += _refused_roles(dataset, group, plain, role)
            groups.append(plain)
        return groups[0] if len(groups[0]) else None, groups[1]

    def _check_grid(self, dataset: xr.Dataset) -> LatLonGrid | None:
        try:
            grid = LatLonGrid.from_dataset(dataset)
        except InputError as error:
            self._add("grid", None, [refused("prepare", error, "latitude, longitude")])
            return None
        self._add("grid", *check_grid(grid))
        if not self._can_coarsen(grid):
            self.findings.append(found(
                "prepare", "error", f"data.grid needs global data, the data's grid is {grid}",
                "data.grid", "Leave data.grid out.",
            ))  # fmt: skip
        return grid

    def _can_coarsen(self, grid: LatLonGrid) -> bool:
        if self.config.grid is None:
            return True
        try:
            Coarsening(grid, self.config.grid.build())
        except InputError:
            return False
        return True

    def _target_grid(self, grid: LatLonGrid) -> LatLonGrid:
        simulation = self.config.simulation
        if simulation is not None:  # the sample may be coarser
            grid = LatLonGrid.equiangular(simulation.num_latitudes, simulation.num_longitudes)
        return self.config.grid.build() if self.config.grid else grid

    def _check_values(
        self, dataset: xr.Dataset, channels: Channels, static: Channels, grid: LatLonGrid
    ) -> Sample:
        times = dataset["time"].values if "time" in dataset.dims else np.zeros(0, "datetime64[ns]")
        step, indices = usual_step(times), spread(self.config, times)
        summed = accumulated(dataset, channels) if step and self.config.source else Channels(())
        fixed, problems = read_sample(dataset, static, indices[:1], self.budget // 4)
        # Running totals show in consecutive times alone, for which a part is kept.
        left = self.budget - fixed.num_bytes - (self.budget // 4 if len(summed) else 0)
        sample, others = read_sample(dataset, channels, indices, left)
        self.findings += [*problems, *others]
        self.findings += check_values(sample, channels, grid, self.config, static=False)
        self.findings += check_values(fixed, static, grid, self.config, static=True)
        self.findings += check_north_is_up(sample, fixed, grid)
        num_bytes = sample.num_bytes + fixed.num_bytes
        if step and len(summed):
            run = np.arange(indices[0], min(indices[0] + run_length(step), len(times)))
            findings, read = check_accumulations(
                dataset, summed, step, run, self.config.timestep_hours, self.budget // 4
            )
            self.findings += findings
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
        return sample


def _origin(config: DataConfig) -> str:
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


def _plain(dataset: xr.Dataset, channels: Channels, *, timed: bool) -> Channels:
    """Those whose axes suit: the grid's, a level at most, and time where it is needed."""
    needed = {"latitude", "longitude"} | ({"time"} if timed else set())
    dims = {c.name: set(map(str, dataset[c.name].dims)) for c in channels}
    return Channels(tuple(c for c in channels if dims[c.name] - {"level"} == needed))


def _refused_roles(
    dataset: xr.Dataset, given: Channels, plain: Channels, role: str
) -> list[Finding]:
    names = dict.fromkeys(c.name for c in given if c.label not in plain.labels)
    axes = "time, latitude and longitude" if role == "prognostic" else "latitude and longitude"
    findings = []
    for name in names:
        dims = sorted(map(str, dataset[name].dims))
        findings.append(found(
            "prepare", "error", f"{name} has the dimensions {dims}, expected {axes} (and level)",
            f"data.{role}, {name}",
            "Select one entry of the other dimensions, or give the variable another role.",
        ))  # fmt: skip
    return findings

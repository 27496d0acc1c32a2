"""Preparation: from a source or a simulation to a checked training store with its statistics."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from dask.delayed import delayed

from data_pipeline.channels import Channels
from data_pipeline.files.ledger import Ledger, resumable
from data_pipeline.files.progress import track
from data_pipeline.grids.coarsening import Coarsening
from data_pipeline.grids.plane import grid_of, require_latlon
from data_pipeline.preparation.blocks import (
    SERIES_BYTES,
    BlockPipeline,
    fit_channels,
    process_block,
    summarize,
)
from data_pipeline.preparation.checks import check_dims, check_free_space, check_same, select_times
from data_pipeline.preparation.config import DataConfig
from data_pipeline.preparation.execution import ExecutionConfig, Executor, Task, executor
from data_pipeline.preparation.plan import Lengths, PreparationPlan, make_plan, plan_store
from data_pipeline.preprocessing.accumulation import accumulate
from data_pipeline.preprocessing.climatology import hours_of_day
from data_pipeline.preprocessing.filling import Filling, check_rules
from data_pipeline.preprocessing.static_fields import StaticFields
from data_pipeline.simulation.pde_dataset import simulate_equation
from data_pipeline.simulation.planet import simulate_planet
from data_pipeline.sources.canonical import open_source, require_units
from data_pipeline.sources.files import file_fingerprints
from data_pipeline.sources.names import parse_label
from data_pipeline.sources.retry import load
from data_pipeline.store.packing import Packing
from data_pipeline.store.reader import PreparedStore
from data_pipeline.store.writer import StoreWriter

_SAMPLED_STATES = 16
_PROBED_BYTES = 256 * 2**20
_CLIMATOLOGY_BYTES = 2**30


def prepare(
    config: DataConfig,
    path: Path,
    execution: ExecutionConfig | None = None,
    report: Callable[[str], None] = lambda text: None,
) -> PreparedStore:
    """Write the training store, or open it where it is there already.

    An interrupted call is gone on with by the next one; the result is the same, bit for bit.

    Args:
        config: What to prepare.
        path: Folder of the store.
        execution: Where the work is done; by default on threads of this machine.
        report: Is told the plan, and afterwards the error of storing.

    Raises:
        InputError: If the data is not as configured (variables, units, times, NaN, splits), if
            ``path`` holds a store of another configuration, or if the disk is too small.
    """
    if path.exists():
        return open_store(str(path), config)
    with resumable(path, _identity(config)) as (folder, ledger), _opened(config) as dataset:
        work = _Work.of(dataset, config, folder)
        report(work.plan.describe())
        check_free_space(folder, work.plan.bytes_written)
        with executor(execution or ExecutionConfig()) as workers:
            work.write(workers, ledger)
    store = PreparedStore(path, config.crop)
    report(_describe_rounding(store))
    return store


def plan_preparation(config: DataConfig, path: Path) -> PreparationPlan:
    """What ``prepare`` would read and write.

    Raises:
        InputError: As ``prepare`` does for data that is not as configured.
    """
    with _opened(config) as dataset:
        return _Work.of(dataset, config, path).plan


def open_store(location: str, config: DataConfig) -> PreparedStore:
    """The store in a folder or at a URL, prepared from the same configuration.

    Raises:
        InputError: If it was prepared from another one.
    """
    place = location if "://" in location else Path(location)
    return check_same(config, PreparedStore(place, config.crop))


def _identity(config: DataConfig) -> str:
    """What a store depends on: settings, and the files behind them."""
    paths = config.source.paths if config.source else config.pde.files if config.pde else []
    files = [file_fingerprints(path) for path in paths]
    return json.dumps({"settings": config.store_settings(), "files": files}, sort_keys=True)


def _describe_rounding(store: PreparedStore) -> str:
    if store.packing.dtype == "float32":
        return "stored as float32: no rounding"
    share = store.rounding / np.where(store.statistics.diff_std > 0, store.statistics.diff_std, 1)
    worst = int(np.argmax(share))
    return (
        f"stored as {store.packing.dtype}: the error is {np.median(share):.1e} of a channel's "
        f"change over a timestep (median), at most {share[worst]:.1e} "
        f"({store.channels.labels[worst]}); the store's array `rounding` has all"
    )


@contextmanager
def _opened(config: DataConfig) -> Iterator[xr.Dataset]:
    with _read(config) as opened:
        yield accumulate(
            opened,
            [*config.predicted, *config.static],
            config.accumulate,
            config.timestep_hours,
            config.contains,
            config.allow_gaps,
        )


@dataclass(frozen=True)
class _Work:
    """A preparation that has been checked and can start."""

    config: DataConfig
    dataset: xr.Dataset
    recipe: BlockPipeline
    plan: PreparationPlan
    block_length: int
    num_prognostic: int
    static_channels: Channels
    static: np.ndarray

    @classmethod
    def of(cls, dataset: xr.Dataset, config: DataConfig, path: Path) -> "_Work":
        prognostic = Channels.from_dataset(dataset, config.prognostic, config.levels)
        channels = prognostic + Channels.from_dataset(dataset, config.diagnostic, config.levels)
        check_dims(dataset, channels)
        require_units(dataset, list(dict.fromkeys(c.name for c in channels)))
        check_rules(config.fill, [parse_label(n)[0] for n in (*config.predicted, *config.static)])
        fixed = StaticFields.read(dataset, config.static, config.levels, config.fill)
        indices = select_times(dataset["time"].values, config)
        source_grid = grid_of(dataset)
        if config.forcings:
            require_latlon(source_grid, "data.forcings")
        grid = config.grid.build() if config.grid else source_grid
        coarsening = Coarsening(source_grid, grid) if grid != source_grid else None
        plan, lengths = plan_store(dataset, channels, indices, config, grid)
        if plan.bytes_read > _PROBED_BYTES:
            plan = replace(plan, seconds=_seconds(dataset, channels, indices, plan))
        dataset = dataset.isel(time=indices)
        times = dataset["time"].values
        training = config.train.contains(times)
        filling = Filling.fit(dataset, channels, config.fill, training)
        static = np.concatenate([fixed.fields, filling.masks])
        unpacked = Packing.fit("float32", np.zeros((1, len(channels), 1, 1)))
        layout = StoreWriter(path, channels, grid, times, unpacked, config.storage, lengths.shard)
        timestep = np.timedelta64(config.timestep_hours, "h")
        return cls(
            config=config,
            dataset=dataset,
            recipe=BlockPipeline(layout, filling, coarsening, training, timestep),
            plan=plan,
            block_length=lengths.block,
            num_prognostic=len(prognostic),
            static_channels=Channels((*fixed.channels, *filling.mask_channels)),
            static=coarsening.apply(static) if coarsening else static,
        )

    def write(self, workers: Executor, ledger: Ledger) -> None:
        """Write the blocks that are left, and what is known once all are there."""
        work = replace(self, recipe=self._packed())
        if not ledger.records:
            work.recipe.layout.create()
        work._write_blocks(workers, ledger)
        statistics, rounding, checksums = summarize(work.recipe, ledger.records)
        hours = work._fit_climatology(workers)
        contents = {
            **statistics._asdict(),
            "rounding": rounding,
            "checksum": checksums,
            "static": self.static.astype(np.float32),
            "hour": hours,
        }
        work.recipe.layout.finish(contents, self._attrs())

    def _packed(self) -> BlockPipeline:
        """The recipe with offsets and scales, from states spread over the training period."""
        layout = self.recipe.layout
        if self.config.storage.dtype == "float32":
            return self.recipe
        training = np.flatnonzero(self.recipe.training)
        chosen = training[np.linspace(0, len(training) - 1, _SAMPLED_STATES).astype(int)]
        chosen = np.unique(chosen)
        values = load(self._stacked(chosen), "a sample of the training period").values
        sample = self.recipe.checked(values, layout.times[chosen])
        packing = Packing.fit(self.config.storage.dtype, sample)
        return replace(self.recipe, layout=replace(layout, packing=packing))

    def _stacked(self, index: np.ndarray | slice) -> xr.DataArray:
        stacked = self.recipe.layout.channels.stack(self.dataset.isel(time=index))
        return stacked.transpose("time", "channel", *self.recipe.layout.grid.dims)

    def _write_blocks(self, workers: Executor, ledger: Ledger) -> None:
        shared, length = workers.share(self.recipe), self.block_length
        starts = [
            start
            for start in range(0, len(self.recipe.layout.times), length)
            if start not in ledger.records
        ]

        def tasks() -> Iterator[Task]:
            for start in starts:
                block = self._stacked(slice(start, start + length))
                what = f"the data from {block['time'].values[0]} on"
                yield Task(start, what, delayed(process_block)(shared, block.data, start))

        finished = workers.run(tasks(), self.plan.block_bytes)
        counted = track(finished, "Preparing", len(starts)) if len(starts) > 1 else finished
        for start, record in counted:
            ledger.record(start, record)

    def _fit_climatology(self, workers: Executor) -> np.ndarray:
        layout, num_harmonics = self.recipe.layout, self.config.climatology_harmonics
        shared, count = workers.share(self.recipe), len(layout.channels)
        hours = np.unique(hours_of_day(layout.times[self.recipe.training]))
        layout.create_climatology(hours, 1 + 2 * num_harmonics)
        each = 3 * 8 * len(hours) * (1 + 2 * num_harmonics) * int(np.prod(layout.grid.shape))
        size = max(1, min(count // 4, _CLIMATOLOGY_BYTES // each))
        state_bytes = 8 * size * int(np.prod(layout.grid.shape))
        groups = [slice(first, min(first + size, count)) for first in range(0, count, size)]
        tasks = (
            Task(
                group.start,
                f"the store's channels from {group.start} on",
                delayed(fit_channels)(shared, group, num_harmonics),
            )
            for group in groups
        )
        finished = workers.run(tasks, size * each + 3 * max(SERIES_BYTES, state_bytes))
        for _ in track(finished, "Climatology", len(groups)) if len(groups) > 8 else finished:
            pass
        return hours

    def _attrs(self) -> dict[str, Any]:
        config, labels = self.config, self.recipe.layout.channels.labels
        equation = config.pde.fingerprint() if config.pde else ""
        return {
            **({"equation_fingerprint": equation} if equation else {}),
            "static_channels": self.static_channels.to_json(),
            "roles": {
                "prognostic": labels[: self.num_prognostic],
                "diagnostic": labels[self.num_prognostic :],
                "static": self.static_channels.labels,
                "forcing": list(config.forcings),
            },
            "timestep_hours": config.timestep_hours,
            "settings": config.store_settings(),
            "versions": {name: version(name) for name in ("fourcastnet-afno", "xarray", "zarr")},
        }


def _seconds(
    dataset: xr.Dataset, channels: Channels, indices: np.ndarray, plan: PreparationPlan
) -> float:
    """Time of reading everything at the rate of one state."""
    block = channels.stack(dataset.isel(time=indices[:1]))
    started = time.monotonic()
    load(block, "the first state")
    once = make_plan(dataset, channels, indices[:1], Lengths(1, 1), (0, 0))
    return plan.bytes_read / once.bytes_read * (time.monotonic() - started)


def _read(config: DataConfig) -> xr.Dataset:
    if config.source is not None:
        return open_source(config.source, [parse_label(name)[0] for name in config.static])
    if config.pde is not None:
        return simulate_equation(config.pde)
    assert config.simulation is not None
    return simulate_planet(config.simulation)

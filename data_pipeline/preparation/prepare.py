"""Preparation: from a source or a simulation to a checked training store with its statistics."""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import xarray as xr
from dask.delayed import delayed

from data_pipeline.channels import Channels
from data_pipeline.files.outputs import Output, check_outputs, require_ours
from data_pipeline.files.progress import track
from data_pipeline.files.work_folder import WorkFolder, resumable
from data_pipeline.grids.coarsening import Coarsening
from data_pipeline.grids.plane import grid_of, require_latlon
from data_pipeline.preparation.blocks import (
    SERIES_BYTES,
    BlockPipeline,
    describe_flat,
    fit_channels,
    process_block,
    summarize,
    without_gaps,
)
from data_pipeline.preparation.checks import (
    check_dims,
    check_free_space,
    check_same,
    describe_uncovered,
    select_times,
)
from data_pipeline.preparation.config import DataConfig
from data_pipeline.preparation.execution import ExecutionConfig, Executor, Task, executor
from data_pipeline.preparation.plan import Lengths, PreparationPlan, make_plan, plan_store
from data_pipeline.preprocessing.accumulation import accumulate
from data_pipeline.preprocessing.climatology import hours_of_day
from data_pipeline.preprocessing.filling import Filling, check_rules
from data_pipeline.preprocessing.possible_values import PossibleValues
from data_pipeline.preprocessing.static_fields import StaticFields
from data_pipeline.redaction import without_secrets
from data_pipeline.simulation.pde_dataset import simulate_equation
from data_pipeline.simulation.planet import simulate_planet
from data_pipeline.sources.canonical import open_source
from data_pipeline.sources.convert import conversions_in
from data_pipeline.sources.files import file_fingerprints, local_inputs
from data_pipeline.sources.join import Origins
from data_pipeline.sources.names import parse_label
from data_pipeline.sources.retry import load
from data_pipeline.sources.units import require_units
from data_pipeline.sources.virtual.repository import repository_path
from data_pipeline.store.packing import Packing
from data_pipeline.store.reader import PreparedStore
from data_pipeline.store.writer import StoreWriter

_SAMPLED_STATES = 16
_PROBED_BYTES = 256 * 2**20
_CLIMATOLOGY_BYTES = 2**30


def read_data(config: DataConfig) -> xr.Dataset:
    """Open the source lazily, or simulate, as a canonical dataset."""
    if config.source is not None:
        return open_source(config.source, [parse_label(name)[0] for name in config.static])
    if config.pde is not None:
        return simulate_equation(config.pde)
    assert config.simulation is not None
    return simulate_planet(config.simulation)


def prepare(
    config: DataConfig,
    path: Path,
    execution: ExecutionConfig | None = None,
    report: Callable[[str], None] = lambda text: None,
    *,
    read: Callable[[DataConfig], xr.Dataset] = read_data,
) -> PreparedStore:
    """Write the training store, or open it if it exists.

    The next call resumes an interrupted one; the result is the same, bit for bit.

    Args:
        config: What to prepare.
        path: Folder of the store.
        execution: Where the work is done; by default on threads of this machine.
        report: Receives the plan, and afterwards the error of storing.
        read: Opens the canonical dataset.

    Raises:
        InputError: If the data is not as configured, ``path`` holds a store of another
            configuration, or the disk is too small.
    """
    if os.path.exists(path):
        if not (path / "zarr.json").exists():  # opening would recommend to prepare it
            require_ours(Output(path, "the training store"))
        return open_store(str(path), config)
    check_outputs([Output(path, "the training store", has_work_folder=True)], data_inputs(config))
    # All that a store depends on: settings, and the files behind them.
    paths = config.source.paths if config.source else config.pde.files if config.pde else []
    options = config.source.storage_options if config.source else {}
    files = [file_fingerprints(path, options) for path in paths]
    snapshots = [name for group in files for name, *_ in group if repository_path(name)]
    depends = {"settings": config.store_settings(), "files": files}
    if config.fill:
        depends["filled"] = "recorded"  # which interrupted work of earlier versions has not
    identity = json.dumps(depends, sort_keys=True)
    with resumable(path, identity) as work, _accumulated(config, read) as dataset:
        job = _check(dataset, config, work.store)
        report(job.plan.describe())
        check_free_space(work.folder, job.plan.bytes_written)
        with executor(execution or ExecutionConfig()) as workers:
            _write(job, workers, work, {"snapshots": snapshots} if snapshots else {})
        for remark in describe_flat(job.pipeline, work.records):
            report(f"note: {remark}")
    store = PreparedStore(path, config.crop)
    report(_describe_rounding(store))
    return store


def data_inputs(config: DataConfig) -> dict[str, list[Path]]:
    """Files and stores on this machine that are read for the data, by setting."""
    inputs = {}
    if config.source is not None:
        inputs["data.source.path"] = local_inputs(*config.source.paths)
    if config.pde is not None:
        inputs["data.pde.equation"] = local_inputs(*config.pde.files)
    return inputs


def plan_preparation(config: DataConfig, path: Path) -> PreparationPlan:
    """Bytes, blocks and time of a preparation, without writing; with the errors of ``prepare``."""
    with _accumulated(config, read_data) as dataset:
        return _check(dataset, config, path).plan


def open_store(location: str, config: DataConfig) -> PreparedStore:
    """The store in a folder or at a URL, see ``check_same``."""
    path = location if "://" in location else Path(location)
    return check_same(config, PreparedStore(path, config.crop))


def _describe_rounding(store: PreparedStore) -> str:
    if store.packing.dtype == "float32":
        return "stored as float32: no rounding"
    change = store.statistics.diff_std
    relative = store.rounding / np.where(change > 0, change, 1)
    worst = int(np.argmax(relative))
    text = (
        f"stored as {store.packing.dtype}: the error is {np.median(relative):.1e} of a channel's "
    )
    text += f"change over a timestep (median), at most {relative[worst]:.1e} "
    return (
        f"{text}({store.channels.labels[worst]}); the store's array `rounding` lists all channels"
    )


@contextmanager
def _accumulated(
    config: DataConfig, read: Callable[[DataConfig], xr.Dataset]
) -> Iterator[xr.Dataset]:
    variables, step = [*config.predicted, *config.static], config.step
    rules, contains, allow_gaps = config.accumulate, config.contains, config.allow_gaps
    with read(config) as dataset:
        yield accumulate(dataset, variables, rules, step, contains, allow_gaps)


@dataclass(frozen=True, kw_only=True)
class _Preparation:
    """A preparation that has passed all checks, with a lazy dataset of the times of the store.

    ``static`` has the shape (channel, latitude, longitude) on the grid of the store.
    """

    config: DataConfig
    dataset: xr.Dataset
    pipeline: BlockPipeline
    plan: PreparationPlan
    block_length: int
    num_prognostic: int
    static_channels: Channels
    static: np.ndarray

    def stacked(self, index: np.ndarray | slice) -> xr.DataArray:
        """Source values at some times (time, channel, latitude, longitude), lazy."""
        layout = self.pipeline.layout
        stacked = layout.channels.stack(self.dataset.isel(time=index))
        return stacked.transpose("time", "channel", *layout.grid.dims)


def _check(dataset: xr.Dataset, config: DataConfig, path: Path) -> _Preparation:
    """Check data against its configuration and lay out the store, which is not written."""
    prognostic = Channels.from_dataset(dataset, config.prognostic, config.levels)
    channels = prognostic + Channels.from_dataset(dataset, config.diagnostic, config.levels)
    check_dims(dataset, channels)
    require_units(dataset, list(dict.fromkeys(c.name for c in channels)))
    check_rules(config.fill, [parse_label(n)[0] for n in (*config.predicted, *config.static)])
    fixed = StaticFields.read(dataset, config.static, config.levels, config.fill)
    step = config.step.counted_as(dataset)
    indices = select_times(dataset["time"].values, config, step.calendar)
    source_grid = grid_of(dataset)
    if config.forcings:
        require_latlon(source_grid, "data.forcings")
    grid = config.grid.build() if config.grid else source_grid
    coarsening = None if source_grid.is_same(grid) else Coarsening(source_grid, grid)
    plan, lengths = plan_store(dataset, channels, indices, config, grid)
    uncovered = describe_uncovered(dataset["time"].values[indices], config, step)
    plan = replace(plan, remarks=(*conversions_in(dataset), *uncovered))
    if plan.bytes_read > _PROBED_BYTES:  # time it takes at the rate of one state
        started = time.monotonic()
        load(channels.stack(dataset.isel(time=indices[:1])), "the first state")
        once = make_plan(dataset, channels, indices[:1], Lengths(1, 1), (0, 0))
        elapsed = time.monotonic() - started
        plan = replace(plan, seconds=plan.bytes_read / once.bytes_read * elapsed)
    dataset = dataset.isel(time=indices)
    times = dataset["time"].values
    training = config.train.contains(times)
    filling = Filling.fit(dataset, channels, config.fill, training)
    static = np.concatenate([fixed.fields, filling.masks])
    unpacked = Packing.fit("float32", np.zeros((1, len(channels), 1, 1)))
    filled = Channels(tuple(channels.channels[i] for i in filling.indices))
    layout = StoreWriter(
        path, channels, grid, times, unpacked, config.storage, lengths.shard, filled
    )
    possible = PossibleValues(channels, source_grid, origins=Origins.of(dataset))
    return _Preparation(
        config=config,
        dataset=dataset,
        pipeline=BlockPipeline(
            layout,
            filling,
            coarsening,
            training,
            step,
            possible=possible if config.source else None,
            allow_gaps=config.allow_gaps,
        ),
        plan=plan,
        block_length=lengths.block,
        num_prognostic=len(prognostic),
        static_channels=Channels((*fixed.channels, *filling.mask_channels)),
        static=coarsening.apply(static) if coarsening else static,
    )


def _write(
    job: _Preparation, workers: Executor, work: WorkFolder, provenance: Mapping[str, object]
) -> None:
    """Write the blocks that are left, and then what needs all of them."""
    job = replace(job, pipeline=_fit_packing(job))
    config, layout = job.config, job.pipeline.layout
    if not work.records:
        layout.create()
    _write_blocks(job, workers, work)
    pipeline, empty = without_gaps(job.pipeline, work.records)
    job, contents = replace(job, pipeline=pipeline), dict[str, np.ndarray]()
    if empty.any():
        select_times(layout.times[~empty], config, pipeline.timestep.calendar)
        contents["empty"] = empty
    if len(layout.filled):
        contents["filled_share"], checksums = layout.summarize_filled(pipeline.training)
        contents["filled_checksum"] = checksums
    statistics, rounding, checksums = summarize(job.pipeline, work.records)
    contents |= {**statistics._asdict(), "rounding": rounding, "checksum": checksums}
    contents |= {"static": job.static.astype(np.float32), "hour": _fit_climatology(job, workers)}
    labels, equation = layout.channels.labels, config.pde.fingerprint() if config.pde else ""
    attrs = {
        **({"equation_fingerprint": equation} if equation else {}),
        "static_channels": job.static_channels.to_json(),
        "roles": {
            "prognostic": labels[: job.num_prognostic],
            "diagnostic": labels[job.num_prognostic :],
            "static": job.static_channels.labels,
            "forcing": list(config.forcings),
        },
        **job.pipeline.timestep.to_json(),
        "settings": config.store_settings(),
        **without_secrets(provenance),
        "versions": {name: version(name) for name in ("fourcastnet-afno", "xarray", "zarr")},
    }
    layout.finish(contents, attrs)


def _fit_packing(job: _Preparation) -> BlockPipeline:
    """The pipeline with offsets and scales, from states spread over the training period."""
    pipeline, dtype = job.pipeline, job.config.storage.dtype
    if dtype == "float32":
        return pipeline
    training = np.flatnonzero(pipeline.training)
    spread = np.linspace(0, len(training) - 1, _SAMPLED_STATES).astype(int)
    sampled = np.unique(training[spread])
    values = load(job.stacked(sampled), "a sample of the training period").values
    checked = pipeline.checked(values, pipeline.layout.times[sampled])
    packing = Packing.fit(dtype, checked.values[~checked.empty])
    return replace(pipeline, layout=replace(pipeline.layout, packing=packing))


def _write_blocks(job: _Preparation, workers: Executor, work: WorkFolder) -> None:
    num_times = len(job.pipeline.layout.times)
    starts = [s for s in range(0, num_times, job.block_length) if s not in work.records]
    shared = workers.broadcast(job.pipeline)

    def tasks() -> Iterator[Task]:
        for start in starts:
            block = job.stacked(slice(start, start + job.block_length))
            reads = f"the data from {block['time'].values[0]} on"
            yield Task(start, reads, delayed(process_block)(shared, block.data, start))

    finished = workers.run(tasks(), job.plan.block_bytes)
    for start, record in track(finished, "Preparing", len(starts)) if len(starts) > 1 else finished:
        work.record(start, record)


def _fit_climatology(job: _Preparation, workers: Executor) -> np.ndarray:
    """Fit and write the climatology, some channels at a time; the hours of day that occur."""
    layout, num_harmonics = job.pipeline.layout, job.config.climatology_harmonics
    shared, count = workers.broadcast(job.pipeline), len(layout.channels)
    together = job.pipeline.timestep.months > 0
    hours = np.unique(hours_of_day(layout.times[job.pipeline.training], together=together))
    layout.create_climatology(hours, 1 + 2 * num_harmonics)
    num_points = int(np.prod(layout.grid.shape))
    channel_bytes = 3 * 8 * len(hours) * (1 + 2 * num_harmonics) * num_points
    size = max(1, min(count // 4, _CLIMATOLOGY_BYTES // channel_bytes))
    firsts = range(0, count, size)

    def tasks() -> Iterator[Task]:
        for first in firsts:
            channels = slice(first, min(first + size, count))
            fit = delayed(fit_channels)(shared, channels, num_harmonics)
            yield Task(first, f"the store's channels from {first} on", fit)

    task_bytes = size * channel_bytes + 3 * max(SERIES_BYTES, 8 * size * num_points)
    finished = workers.run(tasks(), task_bytes)
    for _ in track(finished, "Climatology", len(firsts)) if len(firsts) > 8 else finished:
        pass
    return hours

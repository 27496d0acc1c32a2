"""Public benchmarks of partial differential equations, read as canonical planar datasets.

The trajectories of all files lie one after the other on the time axis, training first, see
``trajectories``; the dataset is like that of ``simulate_equation``.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import get_args

import dask.array as da
import numpy as np
import xarray as xr
from dask.delayed import delayed

from data_pipeline.errors import DAMAGE, InputError
from data_pipeline.grids.grid import same_coordinates
from data_pipeline.grids.plane import grid_of
from data_pipeline.simulation.trajectories import Splits, trajectory_start_times
from data_pipeline.sources.config import BenchmarkConfig, BenchmarkFormat, Split
from data_pipeline.sources.formats.pde_benchmark_files import (
    TrajectoryFile,
    open_neuraloperator,
    open_pdebench,
    open_well,
)
from data_pipeline.trajectory_times import TrajectoryTimes

_OPENERS: Mapping[str, Callable[[str], TrajectoryFile]] = {
    "pdebench": open_pdebench,
    "the_well": open_well,
    "neuraloperator": open_neuraloperator,
}
_BLOCK_BYTES = 64 * 2**20


def open_benchmark(
    groups: Sequence[Sequence[str]],
    config: BenchmarkConfig,
    rename: Mapping[str, str],
    periodic: Sequence[str] | None,
    time_units: str | None = None,
) -> xr.Dataset:
    """Open ``groups`` of files, one for each entry of data.source.path, as a canonical dataset.

    ``rename``, ``periodic`` and ``time_units`` are those of ``SourceConfig``.

    Raises:
        InputError: If a file has another layout, they differ in grid, variables or length, there
            are fewer trajectories than requested, these do not fit on the time axis, or neither
            says which axes are periodic.
    """
    opened = [[_open(path, config.layout) for path in group] for group in groups]
    files, splits = _sort_by_split(opened, config)
    first = files[0]
    for file in files[1:]:
        _check_alike(first, file)
    times = trajectory_start_times(splits, first.num_states)
    series = da.concatenate([block for file in files for block in _blocks(file)])[: times.size]
    data = {
        rename.get(name, name): (("time", "y", "x"), series[:, index], {"units": "1"})
        for index, name in enumerate(first.variables)
    }
    dataset = xr.Dataset(data, {"time": times.ravel()})
    axes = (("y", first.y), ("x", first.x))
    for name, axis in axes:
        dataset.coords[name] = (name, np.asarray(axis, float), {"units": "1"})
    dataset.attrs = {"Conventions": "CF-1.8", "source": config.layout}
    dataset.attrs |= {f"extent_{name}": _extent(axis) for name, axis in axes}
    dataset.attrs |= _trajectory_times(first, time_units).attrs
    if first.origin is not None:
        dataset.attrs |= dict(zip(("origin_y", "origin_x"), first.origin, strict=True))
    closed = first.periodic if periodic is None else " ".join(periodic)
    if closed is not None:
        dataset.attrs["periodic"] = closed
    return dataset.assign_attrs(grid_of(dataset).attrs)


def _open(path: str, layout: BenchmarkFormat) -> TrajectoryFile:
    try:
        return _OPENERS[layout](path)
    except InputError:
        raise
    except DAMAGE as error:
        message = (
            f"cannot read {path}: {error}; it may be truncated, or not in the layout {layout}; "
        )
        message += "correct data.source.benchmark.layout, or download it again"
        raise InputError(message, code="unreadable-file") from error


def _sort_by_split(
    opened: list[list[TrajectoryFile]], config: BenchmarkConfig
) -> tuple[list[TrajectoryFile], Splits]:
    """Files in the order of their splits, and the counts of these."""
    if config.trajectories is not None:
        files = [file for group in opened for file in group]
        available = sum(file.count for file in files)
        if config.trajectories.total > available:
            message = f"data.source.benchmark.trajectories needs {config.trajectories.total} "
            message += f"trajectories and the files have {available}; take fewer"
            raise InputError(message, code="too-few-trajectories")
        return files, config.trajectories
    if len(config.splits) != len(opened):
        message = (
            f"data.source.benchmark.splits has {len(config.splits)} entries for {len(opened)} "
        )
        raise InputError(message + "of data.source.path, expected one for each", code="bad-setting")
    groups: dict[str, list[TrajectoryFile]] = {split: [] for split in get_args(Split)}
    for name, files in zip(config.splits, opened, strict=True):
        groups[name] += files
    counts = {name: sum(file.count for file in files) for name, files in groups.items()}
    return [file for files in groups.values() for file in files], Splits(**counts)


def _check_alike(first: TrajectoryFile, file: TrajectoryFile) -> None:
    for label, value, expected in (
        ("variables", file.variables, first.variables),
        ("states a trajectory", file.num_states, first.num_states),
        ("points", (len(file.y), len(file.x)), (len(first.y), len(first.x))),
        ("periodic axes", file.periodic, first.periodic),
    ):
        if value != expected:
            message = (
                f"{file.path} has the {label} {value}, {first.path} has {expected}; read them "
            )
            raise InputError(message + "as data of their own", code="files-differ")
    for name, axis, other in (("y", file.y, first.y), ("x", file.x, first.x)):
        if not same_coordinates(other, axis):
            message = f"{file.path} has {name} from {axis[0]:g} to {axis[-1]:g}, {first.path} from "
            message += f"{other[0]:g} to {other[-1]:g}; read them as data of their own"
            raise InputError(message, code="grid-mismatch")


def _blocks(file: TrajectoryFile) -> list[da.Array]:
    """The states of a file in runs of complete trajectories."""
    shape = (len(file.variables), len(file.y), len(file.x))
    size = max(1, _BLOCK_BYTES // (4 * file.num_states * int(np.prod(shape))))
    blocks = []
    for first in range(0, file.count, size):
        last = min(first + size, file.count)
        states = delayed(_read_states)(file, first, last)
        num_states = (last - first) * file.num_states
        blocks.append(da.from_delayed(states, (num_states, *shape), np.float32))
    return blocks


def _read_states(file: TrajectoryFile, first: int, last: int) -> np.ndarray:
    values = file.read(first, last)
    return np.ascontiguousarray(values.reshape(-1, *values.shape[2:]), np.float32)


def _trajectory_times(file: TrajectoryFile, units: str | None) -> TrajectoryTimes:
    """The time axis; where the times of the file do not increase, its steps have no length."""
    step = file.time_step if 0 < file.time_step < np.inf else 1.0
    return TrajectoryTimes(step=step, num_states=file.num_states, units=units or "")


def _extent(axis: np.ndarray) -> float:
    """Length of an axis whose points lie in the middle of equal cells."""
    count = len(axis)
    return float((axis[-1] - axis[0]) * count / (count - 1)) if count > 1 else 1.0

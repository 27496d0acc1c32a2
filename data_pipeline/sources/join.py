"""Files of one source, joined along time and merged on their common times."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from data_pipeline.errors import InputError
from data_pipeline.grids.grid import same_coordinates, space_dims
from data_pipeline.sources.left_out import with_all_reasons


def join(datasets: Sequence[xr.Dataset], invariant: Sequence[str]) -> xr.Dataset:
    """Join canonical files of the same variables along time, then these on their common times.

    Args:
        datasets: Canonical, each with the name of its file in ``encoding["source"]``.
        invariant: Variables whose single time in a file stands for all times.

    Raises:
        InputError: If they differ in grid or units, contradict each other, share no time, or times
            repeat or decrease.
    """
    if len(datasets) == 1:
        return _with_checked_times(datasets[0], _files(datasets))
    _check_alike(datasets)
    axes = space_dims(datasets[0].dims)  # of which digits may differ
    datasets = [dataset.assign_coords({a: datasets[0][a] for a in axes}) for dataset in datasets]
    groups: dict[tuple[object, ...], list[xr.Dataset]] = {}
    for dataset in datasets:
        levels = tuple(dataset["level"].values) if "level" in dataset.dims else ()
        groups.setdefault((*sorted(map(str, dataset.data_vars)), *levels), []).append(dataset)
    series = [_with_checked_times(_along_time(group), _files(group)) for group in groups.values()]
    merged = [piece for joined in series for piece in _split_invariant(joined, invariant)]
    timed = [piece for piece in merged if "time" in piece.dims]
    common = set.intersection(*(set(piece["time"].values) for piece in timed)) if timed else set()
    if timed and not common:
        message = f"the files have no time in common: {'; '.join(map(_describe, timed))}; give the "
        message += "same variables, levels and period, and name in data.static what does not change"
        raise InputError(message, code="no-common-times")
    times = np.array(sorted(common))
    merged = [piece.sel(time=times) if "time" in piece.dims else piece for piece in merged]
    try:
        result = xr.merge(
            merged, compat="no_conflicts", join="outer", combine_attrs="drop_conflicts"
        )
    except xr.MergeError as error:
        message = f"{_files(datasets)} contradict each other ({error}); leave out one of them"
        raise InputError(message, code="files-differ") from error
    return with_all_reasons(result, datasets)


def _with_checked_times(dataset: xr.Dataset, name: str) -> xr.Dataset:
    times = dataset["time"].values if "time" in dataset.dims else np.zeros(0, "datetime64[ns]")
    repeats = np.ones(len(times), bool)
    repeats[np.unique(times, return_index=True)[1]] = False
    decreases = np.diff(times, prepend=times[:1]) < np.timedelta64(0)
    for wrong, verb in ((repeats, "repeats"), (decreases, "decreases")):
        if wrong.any():
            index = int(np.argmax(wrong))
            message = (
                f"time {verb} in {name} at index {index} ({times[index]}), {wrong.sum()} times "
            )
            message += 'in all; correct it with .drop_duplicates("time").sortby("time")'
            raise InputError(message, code="unordered-times")
    return dataset


def _split_invariant(dataset: xr.Dataset, invariant: Sequence[str]) -> list[xr.Dataset]:
    """Separate variables that do not change, without their single time, from the others."""
    names = [name for name in dataset.data_vars if name in invariant]
    if dataset.sizes.get("time") != 1 or not names:
        return [dataset]
    rest = dataset.drop_vars(names)
    return [dataset[names].isel(time=0, drop=True), *([rest] if rest.data_vars else [])]


def _describe(dataset: xr.Dataset) -> str:
    levels = f" at {dataset['level'].values.tolist()} hPa" if "level" in dataset.dims else ""
    first, last = dataset["time"].values.astype("datetime64[s]")[[0, -1]]
    return f"{sorted(map(str, dataset.data_vars))}{levels}: {first} to {last}"


def _files(datasets: Sequence[xr.Dataset]) -> str:
    names = list(dict.fromkeys(str(dataset.encoding["source"]) for dataset in datasets))
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _along_time(group: list[xr.Dataset]) -> xr.Dataset:
    if len(group) == 1 or "time" not in group[0].dims:
        return group[0]
    group = sorted(group, key=lambda dataset: dataset["time"].values[0])
    minimal: dict[str, Any] = dict.fromkeys(("data_vars", "coords"), "minimal")
    override: dict[str, Any] = dict.fromkeys(("compat", "join", "combine_attrs"), "override")
    return xr.concat(group, "time", **minimal, **override)


def _check_alike(datasets: Sequence[xr.Dataset]) -> None:
    first, first_file, units = datasets[0], datasets[0].encoding["source"], {}
    for dataset in datasets:
        file = dataset.encoding["source"]
        for axis in space_dims(first.dims):
            is_there = axis in dataset.dims
            if not is_there or not same_coordinates(first[axis].values, dataset[axis].values):
                message = f"{file} has the {axis} {_span(dataset, axis)}, {first_file} has "
                message += f"{_span(first, axis)}; regrid one of them, or leave it out"
                raise InputError(message, code="grid-mismatch")
        for variable, array in dataset.data_vars.items():
            other, other_file = units.setdefault(variable, (array.attrs["units"], file))
            if array.attrs["units"] != other:
                message = f"{variable} is in {array.attrs['units']!r} in {file}, in {other!r} in "
                message += f"{other_file}; convert one, or correct a label with data.source.units"
                raise InputError(message, code="units-mismatch")


def _span(dataset: xr.Dataset, axis: str) -> str:
    if axis not in dataset.coords:
        return "of another kind of grid"
    values = dataset[axis].values
    return f"{values[0]:g}..{values[-1]:g} ({len(values)})"

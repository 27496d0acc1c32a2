"""Files of one source, joined along time and merged on their common times."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from data_pipeline.errors import InputError
from data_pipeline.grids.grid import same_coordinates, space_dims
from data_pipeline.sources.fields.levels_joined import joined_along_levels, levels_of
from data_pipeline.sources.left_out import with_all_reasons

_COMPARED = 16  # files of a series whose fields without time are compared
_ORIGINS = "origins"  # key of the encoding


@dataclass(frozen=True)
class Origins:
    """Files that the values of a source come from, for messages.

    Args:
        files: Name, variables and times (none where it has no time) of each file.
    """

    files: tuple[tuple[str, frozenset[str], np.ndarray | None], ...] = ()

    @staticmethod
    def of(dataset: xr.Dataset) -> "Origins":
        """Origins that a dataset notes."""
        return dataset.encoding.get(_ORIGINS, UNKNOWN_ORIGINS)

    def phrase(self, variable: str, time: np.ndarray | np.datetime64 | None = None) -> str:
        """Text such as `` of FILE``, for the first that has the variable, at a time if given.

        Empty where none is known to have it.
        """
        for file, variables, times in self.files:
            is_then = time is None or times is None or (times == time).any()
            if variable in variables and is_then:
                return f" of {file}"
        return ""


UNKNOWN_ORIGINS = Origins()


def with_origins(dataset: xr.Dataset, parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """Note the canonical datasets that a dataset was joined from."""
    files = tuple(
        (
            str(part.encoding["source"]),
            frozenset(map(str, part.data_vars)),
            part["time"].values if "time" in part.dims else None,
        )
        for part in parts
    )
    dataset.encoding[_ORIGINS] = Origins(files)
    return dataset


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
    axes = {axis: datasets[0][axis] for axis in space_dims(datasets[0].dims)}
    datasets = [_located(dataset, dataset.assign_coords(axes)) for dataset in datasets]
    groups: dict[tuple[object, ...], list[xr.Dataset]] = {}
    for dataset in datasets:
        levels = tuple(dataset["level"].values) if "level" in dataset.dims else ()
        groups.setdefault((*sorted(map(str, dataset.data_vars)), *levels), []).append(dataset)
    series = [_series(group, invariant) for group in groups.values()]
    split = [piece for joined in series for piece in _split_invariant(joined, invariant)]
    pieces = _without_repeats(split, invariant)
    timed = [piece for piece in pieces if "time" in piece.dims]
    common = set.intersection(*(set(piece["time"].values) for piece in timed)) if timed else set()
    if timed and not common:
        message = f"the files have no time in common: {'; '.join(map(_describe, timed))}; give the "
        message += "same variables, levels and period, and name in data.static what does not change"
        raise InputError(message, code="no-common-times")
    times = np.array(sorted(common))
    pieces = [piece.sel(time=times) if "time" in piece.dims else piece for piece in pieces]
    result = joined_along_levels(pieces).assign_attrs(_common_attrs(pieces))
    return with_all_reasons(result, datasets)


def _located(source: xr.Dataset, dataset: xr.Dataset) -> xr.Dataset:
    """The dataset with the name of the file of ``source``."""
    dataset.encoding["source"] = source.encoding["source"]
    return dataset


def _common_attrs(datasets: Sequence[xr.Dataset]) -> dict[Hashable, Any]:
    """Attributes on which all that have them agree."""
    attrs = {key: value for dataset in datasets for key, value in dataset.attrs.items()}
    return {
        key: value
        for key, value in attrs.items()
        if all(str(d.attrs.get(key, value)) == str(value) for d in datasets)
    }


def _series(group: list[xr.Dataset], invariant: Sequence[str]) -> xr.Dataset:
    """Files of the same variables and levels, joined along time."""
    first = group[0]
    if len(group) == 1:
        return _with_checked_times(first, _files(group))
    all_fixed = set(map(str, first.data_vars)) <= set(invariant)
    if all_fixed and all(dataset.sizes.get("time") == 1 for dataset in group):
        fixed = [_located(d, d.isel(time=0, drop=True)) for d in group]
        group, first = fixed, fixed[0]
    alike = [name for name, array in first.data_vars.items() if "time" not in array.dims]
    others = group[1:] if len(group) <= _COMPARED else group[1 :: len(group) // _COMPARED]
    for other in others:
        for name in alike:
            _require_equal(first, other, str(name))
    if "time" not in first.dims:
        return first
    _reject_common_times(group)
    return _located(first, _with_checked_times(_along_time(group), _files(group)))


def _reject_common_times(group: Sequence[xr.Dataset]) -> None:
    """Reject files that hold the same variables at the same times."""
    files: dict[np.datetime64, str] = {}
    for dataset in group:
        file, times = dataset.encoding["source"], dataset["time"].values
        both = [time for time in times if files.get(time, file) != file]
        if both:
            message = f"{files[both[0]]} and {file} both have {_named(dataset)} at {both[0]}, "
            message += f"{len(both)} times in all; leave out one of them in data.source.path, or "
            raise InputError(message + _renaming(file), code="unordered-times")
        files |= dict.fromkeys(times, file)


def _without_repeats(pieces: Sequence[xr.Dataset], invariant: Sequence[str]) -> list[xr.Dataset]:
    """Pieces without the variables that an earlier one has on the same levels, if they are equal.

    Raises:
        InputError: If two pieces differ, or have a variable that changes at the same times.
    """
    kept: list[xr.Dataset] = []
    for piece in pieces:
        repeated = []
        for name in map(str, piece.data_vars):
            for other in (one for one in kept if name in one and _share_level(one, piece, name)):
                if _changes(other, piece, name, invariant):
                    continue
                _require_equal(other, piece, name)
                repeated.append(name)
        rest = _located(piece, piece.drop_vars(repeated))
        kept += [rest] if rest.data_vars else []
    return kept


def _share_level(one: xr.Dataset, other: xr.Dataset, name: str) -> bool:
    levels = [levels_of(dataset[name]) for dataset in (one, other)]
    return not all(levels) or bool(set(levels[0]) & set(levels[1]))


def _changes(one: xr.Dataset, other: xr.Dataset, name: str, invariant: Sequence[str]) -> bool:
    """Whether a variable changes with time in both pieces, which then share no time."""
    if name in invariant or not all("time" in d[name].dims for d in (one, other)):
        return False
    both = np.intersect1d(one["time"].values, other["time"].values)
    if len(both):
        levels = sorted(set(levels_of(one[name])) & set(levels_of(other[name])))
        where = f" at {levels} hPa" if levels else ""
        files = [d.encoding["source"] for d in (one, other)]
        message = f"{files[0]} and {files[1]} both have {name}{where} at {both[0]}, {len(both)} "
        message += "times in all; leave out one of them in data.source.path, or "
        raise InputError(message + _renaming(files[1]), code="duplicate-name")
    return True


def _require_equal(one: xr.Dataset, other: xr.Dataset, name: str) -> None:
    """Reject files that contradict each other in what does not change."""
    arrays = []
    for dataset in (one, other):
        array = dataset[name]
        arrays.append(array.isel(time=0) if "time" in array.dims else array)
    first, second = (array.values for array in arrays)
    same = first.shape == second.shape and np.allclose(first, second, rtol=1e-6, equal_nan=True)
    if not same:
        files = [d.encoding["source"] for d in (one, other)]
        message = f"{files[0]} and {files[1]} contradict each other: their {name} differ"
        if first.shape == second.shape:
            message += f" by up to {np.nanmax(np.abs(first - second)):g}"
        message += "; leave out one of them in data.source.path, or " + _renaming(files[1])
        raise InputError(message, code="files-differ")


def _renaming(file: str) -> str:
    pattern = f'{{"{Path(file).name}": {{NAME_IN_THAT_FILE: another_name}}}}'
    return f"give it another name with data.source.rename={pattern}"


def _named(dataset: xr.Dataset) -> str:
    return ", ".join(sorted(map(str, dataset.data_vars))[:4])


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

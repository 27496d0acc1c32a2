"""Files of one source, joined along time and merged on their common times."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from data_pipeline.errors import InputError
from data_pipeline.grids.grid import space_dims


def _with_checked_times(dataset: xr.Dataset, name: str) -> xr.Dataset:
    times = dataset["time"].values if "time" in dataset.dims else np.zeros(0, "datetime64[ns]")
    repeats = np.ones(len(times), bool)
    repeats[np.unique(times, return_index=True)[1]] = False
    decreases = np.diff(times, prepend=times[:1]) < np.timedelta64(0)
    for wrong, what in ((repeats, "repeats"), (decreases, "decreases")):
        if wrong.any():
            where = int(np.argmax(wrong))
            raise InputError(
                f"time {what} in {name} at index {where} ({times[where]}), "
                f"{int(wrong.sum())} times in all; "
                'remove duplicates and sort, as .drop_duplicates("time").sortby("time")',
                code="unordered-times",
            )
    return dataset


def join(parts: Sequence[xr.Dataset], invariant: Sequence[str]) -> xr.Dataset:
    """Join canonical files of the same variables along time, then these on their common times.

    Args:
        parts: Canonical datasets, each with the name of its file in ``encoding["source"]``.
        invariant: Variables whose single time in a file stands for all times.

    Raises:
        InputError: If they differ in grid or units, contradict each other, share no time, or times
            repeat or decrease.
    """
    if len(parts) == 1:
        return _with_checked_times(parts[0], _files(parts))
    _check_alike(parts)
    groups: dict[tuple[object, ...], list[xr.Dataset]] = {}
    for part in parts:
        levels = tuple(part["level"].values) if "level" in part.dims else ()
        groups.setdefault((*sorted(map(str, part.data_vars)), *levels), []).append(part)
    merged = [_with_checked_times(_along_time(group), _files(group)) for group in groups.values()]
    merged = [piece for group in merged for piece in _split_invariant(group, invariant)]
    times = [set(group["time"].values) for group in merged if "time" in group.dims]
    if times and not set.intersection(*times):
        ranges = "; ".join(_describe(group) for group in merged if "time" in group.dims)
        raise InputError(
            f"the files have no time in common: {ranges}; give the same variables, levels and "
            "period of all, and name in data.static what does not change",
            code="no-common-times",
        )
    common = np.array(sorted(set.intersection(*times))) if times else None
    picked = [g.sel(time=common) if "time" in g.dims else g for g in merged]
    try:
        return xr.merge(picked, compat="no_conflicts", join="outer", combine_attrs="drop_conflicts")
    except xr.MergeError as error:
        raise InputError(
            f"{_files(parts)} contradict each other ({error}); leave out one of them",
            code="files-differ",
        ) from error


def _split_invariant(group: xr.Dataset, invariant: Sequence[str]) -> list[xr.Dataset]:
    """What does not change without its single time, and the rest."""
    names = [name for name in group.data_vars if name in invariant]
    if group.sizes.get("time") != 1 or not names:
        return [group]
    rest = group.drop_vars(names)
    return [group[names].isel(time=0, drop=True), *([rest] if rest.data_vars else [])]


def _describe(group: xr.Dataset) -> str:
    levels = f" at {group['level'].values.tolist()} hPa" if "level" in group.dims else ""
    return f"{sorted(map(str, group.data_vars))}{levels}: {_span(group)}"


def _files(parts: Sequence[xr.Dataset]) -> str:
    names = list(dict.fromkeys(str(part.encoding["source"]) for part in parts))
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _along_time(group: list[xr.Dataset]) -> xr.Dataset:
    if len(group) == 1 or "time" not in group[0].dims:
        return group[0]
    group = sorted(group, key=lambda part: part["time"].values[0])
    return xr.concat(
        group,
        "time",
        data_vars="minimal",
        coords="minimal",
        compat="override",
        join="override",
        combine_attrs="override",
    )


def _check_alike(parts: Sequence[xr.Dataset]) -> None:
    first, units = parts[0], {}
    for part in parts:
        name = part.encoding["source"]
        for axis in space_dims(first.dims):
            same = part.sizes.get(axis) == first.sizes[axis]
            if not same or not np.allclose(part[axis], first[axis], atol=1e-3):
                raise InputError(
                    f"{name} has the {axis} {_values(part, axis)}, {first.encoding['source']} has "
                    f"{_values(first, axis)}; regrid one of them, or leave it out",
                    code="grid-mismatch",
                )
        for variable, array in part.data_vars.items():
            other, where = units.setdefault(variable, (array.attrs["units"], name))
            if array.attrs["units"] != other:
                raise InputError(
                    f"{variable} is in {array.attrs['units']!r} in {name} and in {other!r} in "
                    f"{where}; convert one of them, or set data.source.units if a label is wrong",
                    code="units-mismatch",
                )


def _values(part: xr.Dataset, axis: str) -> str:
    if axis not in part.coords:
        return "of another kind of grid"
    values = part[axis].values
    return f"{values[0]:g}..{values[-1]:g} ({len(values)})"


def _span(dataset: xr.Dataset) -> str:
    times = dataset["time"].values.astype("datetime64[s]")
    return f"{times[0]} to {times[-1]}"

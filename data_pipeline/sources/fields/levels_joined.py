"""Variables on different levels, or on the same, in one dataset."""

from collections.abc import Sequence

import xarray as xr

_LISTED = "levels"  # attribute of variables that are not on all levels of their dataset


def levels_of(array: xr.DataArray) -> list[int]:
    """Levels in hPa on which a canonical variable is; none if it has no levels."""
    if "level" not in array.dims:
        return []
    present = array["level"].values.tolist()
    return [int(level) for level in array.attrs.get(_LISTED, present) if level in present]


def joined_along_levels(parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """One dataset of parts that differ in variables or levels, lazily.

    Variables that are not on all levels list theirs, see ``levels_of``. Of variables without
    levels that several parts have, the first is taken.
    """
    if len(parts) == 1:
        return parts[0]
    arrays: dict[str, list[xr.DataArray]] = {}
    for part in parts:
        for name, array in part.data_vars.items():
            arrays.setdefault(str(name), []).append(_on_own_levels(array))
    merged = {name: _stacked(group) for name, group in arrays.items()}
    levels = {tuple(levels_of(array)) for array in merged.values() if "level" in array.dims}
    every = sorted(set().union(*map(set, levels)))
    data = {}
    for name, array in merged.items():
        if "level" in array.dims and len(levels) > 1:
            listed = levels_of(array)
            array = array.reindex(level=every).assign_attrs({_LISTED: listed})
        data[name] = array
    return xr.Dataset(data)


def _on_own_levels(array: xr.DataArray) -> xr.DataArray:
    if _LISTED not in array.attrs:
        return array
    array = array.sel(level=levels_of(array))
    array.attrs = {key: value for key, value in array.attrs.items() if key != _LISTED}
    return array


def _stacked(group: Sequence[xr.DataArray]) -> xr.DataArray:
    if len(group) == 1 or "level" not in group[0].dims:
        return group[0]
    joined = xr.concat(group, "level", coords="minimal", compat="override", join="override")
    return joined.transpose(*group[0].dims).sortby("level")

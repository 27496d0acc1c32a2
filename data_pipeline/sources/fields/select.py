"""Entries of axes that a field has only one of: a member, an experiment, a step, some levels.

``data.source.select`` chooses them by value. Without it, final values of ERA5 (experiment 1) win
over preliminary ones (5), and axes of length one are dropped.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from data_pipeline.errors import InputError
from data_pipeline.sources.fields.vertical import LEVEL_NAMES

MEMBER_AXES = ("realization", "number", "ensemble", "member", "sample", "ensemble_member")
_FINAL, _PRELIMINARY = "1", "5"
_SYNONYMS = (
    LEVEL_NAMES,
    MEMBER_AXES,
    ("step", "lead_time", "prediction_timedelta", "forecast_period"),
)
_HOUR = np.timedelta64(1, "h")


def with_selected_entries(dataset: xr.Dataset, select: Mapping[str, Any]) -> xr.Dataset:
    """Entries of an opened dataset; variables that have no such entry are left out.

    Levels are chosen afterwards, see ``with_selected_levels``.
    """
    for key, wanted in select.items():
        name = _find(dataset, key)
        if key in LEVEL_NAMES or name is None:
            continue
        chosen = [
            index for index, value in enumerate(_texts(dataset, name)) if value in _all(wanted)
        ]
        dims = dataset[name].dims if name in dataset.coords else (name,)
        if not dims:
            dataset = dataset if chosen else dataset.drop_vars(dataset.data_vars)
        elif not chosen:
            without = [n for n, array in dataset.data_vars.items() if dims[0] not in array.dims]
            dataset = dataset[without]
        else:
            single = name in dataset.dims and not isinstance(wanted, list)
            dataset = dataset.isel({dims[0]: chosen[0] if single else chosen})
    return dataset


def with_selected_levels(dataset: xr.Dataset, select: Mapping[str, Any]) -> xr.Dataset:
    """The requested levels of a canonical dataset; variables that have none are left out."""
    wanted = [_all(values) for key, values in select.items() if key in LEVEL_NAMES]
    if not wanted or "level" not in dataset.dims:
        return dataset
    levels = dataset["level"].values.tolist()
    chosen = [
        n for n, level in enumerate(levels) if {_text(level), _text(100 * level)} & set(wanted[0])
    ]
    if chosen:
        return dataset.isel(level=chosen)
    return dataset.drop_dims("level")


def check_selected(datasets: Sequence[xr.Dataset], select: Mapping[str, Any]) -> None:
    """Reject settings that choose nothing in any of the opened files.

    Raises:
        InputError: With the coordinates or the values that there are ("unknown-entry").
    """
    for key, wanted in select.items():
        found: dict[str, None] = {}
        names: dict[str, None] = {}
        for dataset in datasets:
            names |= dict.fromkeys(map(str, (*dataset.dims, *dataset.coords)))
            name = _find(dataset, key)
            found |= dict.fromkeys(_texts(dataset, name) if name is not None else [])
        if not found:
            message = f"data.source.select has {key!r}, which no file has; the axes and scalar "
            message += f"coordinates are {', '.join(names)}; correct data.source.select"
            raise InputError(message, code="unknown-entry")
        known = {*found}
        if key in LEVEL_NAMES:  # in hPa, or as in the file
            known |= {_text(float(value) / 100) for value in found if _is_number(value)}
        missing = [value for value in _all(wanted) if value not in known]
        if missing:
            some = ", ".join([*found][:12]) + (", ..." if len(found) > 12 else "")
            message = f"data.source.select has {key}: {', '.join(missing)}, the data has {some}; "
            raise InputError(message + "correct data.source.select", code="unknown-entry")


def present_entries(select: Mapping[str, Any], datasets: Sequence[xr.Dataset]) -> dict[str, Any]:
    """The part of a selection whose axes or coordinates files have."""
    return {key: wanted for key, wanted in select.items() if any(_find(d, key) for d in datasets)}


def with_final_values(dataset: xr.Dataset, name: str) -> xr.Dataset:
    """Take final values of ERA5 where there are any, else preliminary ones, whatever their order.

    Raises:
        InputError: If the file ``name`` has other experiments along ``expver``.
    """
    if dataset.sizes.get("expver", 1) < 2:
        return dataset
    versions = _texts(dataset, "expver") if "expver" in dataset.coords else []
    if sorted(versions) != [_FINAL, _PRELIMINARY]:
        message = f"{name} has the experiments (expver) {', '.join(versions) or 'without names'}, "
        message += "of which final (1) and preliminary (5) values of ERA5 are known; choose one "
        raise InputError(message + "with data.source.select={expver: ...}", code="unknown-entry")
    final, early = (
        dataset.isel(expver=versions.index(version), drop=True)
        for version in (_FINAL, _PRELIMINARY)
    )
    return final.fillna(early)


def check_members(dataset: xr.Dataset, file: str) -> None:
    """Reject several members, of which a field has one."""
    axis = next((name for name in MEMBER_AXES if dataset.sizes.get(name, 1) > 1), None)
    if axis is not None:
        values = _texts(dataset, axis)
        message = f"{file} has {len(values)} members along {axis} ({', '.join(values[:8])}), "
        message += f"expected one; choose it with data.source.select={{{axis}: {values[0]}}}"
        raise InputError(message, code="several-members")


def _find(dataset: xr.Dataset, key: str) -> str | None:
    """The axis or coordinate that a setting means, under its own name or a synonym."""
    names = next((group for group in _SYNONYMS if key in group), ())
    present = {*map(str, dataset.dims), *map(str, dataset.coords)}
    return next((name for name in (key, *names) if name in present), None)


def _texts(dataset: xr.Dataset, name: str) -> list[str]:
    values = dataset[name].values if name in dataset.coords else np.arange(dataset.sizes[name])
    return [_text(value) for value in np.atleast_1d(values)]


def _all(wanted: Any) -> list[str]:  # noqa: ANN401
    return [_text(value) for value in (wanted if isinstance(wanted, list) else [wanted])]


def _text(value: Any) -> str:  # noqa: ANN401
    """One spelling of a value: 1, 1.0, "0001" and b"0001" are the same, and 6 h is 6."""
    if isinstance(value, np.timedelta64):
        return f"{value / _HOUR:g}"
    text = value.decode() if isinstance(value, bytes) else str(value)
    text = text.strip().removesuffix("h") if text.strip()[:-1].isdigit() else text.strip()
    return f"{float(text):g}" if _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False

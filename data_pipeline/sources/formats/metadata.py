"""Metadata of files by anyone: what is checked before values are computed with it."""

from collections.abc import Iterable
from typing import Any

import netCDF4
import numpy as np
import xarray as xr
import zarr

from data_pipeline.errors import InputError

_LONGEST_AXIS = 10**8
_NUMBERS = ("scale_factor", "add_offset")


def check_packing(dataset: xr.Dataset, file: str) -> None:
    """Reject scale factors and offsets that are not single finite numbers, or scales of zero.

    Raises:
        InputError: Naming file, variable and attribute ("unreadable-file").
    """
    for name, array in dataset.variables.items():
        for key in _NUMBERS:
            value = array.encoding.get(key, array.attrs.get(key))
            if value is None or _is_number(value, may_be_zero=key == "add_offset"):
                continue
            raise InputError(
                f"{file} has the attribute {key}={str(value)[:80]!r} of the variable {name}, "
                "expected a finite number; correct it in the file",
                code="unreadable-file",
            )


def check_axes(file: str, *, is_store: bool) -> None:
    """Reject axes so long that their coordinates, which are read at once, take all memory.

    Files and stores that cannot be read are left to those that open them.

    Raises:
        InputError: Naming file and axis ("too-large").
    """
    try:
        lengths = _lengths_of_store(file) if is_store else _lengths_of_file(file)
    except Exception:
        return
    for name, length in lengths:
        if length > _LONGEST_AXIS:
            raise InputError(
                f"{file} has {length} values along {name}, expected at most {_LONGEST_AXIS}; "
                "the file is damaged, or no source of fields",
                code="too-large",
            )


def _lengths_of_store(path: str) -> Iterable[tuple[str, int]]:
    arrays = zarr.open_group(path, mode="r").arrays()
    return [(name, array.shape[0]) for name, array in arrays if array.ndim == 1]


def _lengths_of_file(file: str) -> Iterable[tuple[str, int]]:
    with netCDF4.Dataset(file) as opened:
        arrays = opened.variables.items()
        return [(name, array.shape[0]) for name, array in arrays if array.ndim == 1]


def _is_number(value: Any, *, may_be_zero: bool) -> bool:  # noqa: ANN401
    number = np.asarray(value)
    if number.size != 1 or number.dtype.kind not in "iuf" or not np.isfinite(number).all():
        return False
    return may_be_zero or bool((number != 0).all())

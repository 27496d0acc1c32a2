"""Metadata of files by anyone: what is checked before values are computed with it."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import xarray as xr
import zarr

from data_pipeline.errors import InputError

_LONGEST_AXIS = 10**8
_NUMBERS, _TEXTS = ("scale_factor", "add_offset"), ("units", "calendar")


def check_decoding(dataset: xr.Dataset, file: str) -> None:
    """Reject attributes that would change values or times without a word.

    Scale factors and offsets are single finite numbers, scales not zero; units and calendars have
    no control characters, at which libraries may end them.

    Raises:
        InputError: Naming file, variable and attribute ("unreadable-file").
    """
    for name, array in dataset.variables.items():
        for key in (*_NUMBERS, *_TEXTS):
            value = array.encoding.get(key, array.attrs.get(key))
            expected = "a finite number" if key in _NUMBERS else "text that can be printed"
            if value is None or (key in _TEXTS and str(value).strip(" \t\r\n\0").isprintable()):
                continue
            if key in _NUMBERS and _is_number(value, may_be_zero=key == "add_offset"):
                continue
            raise InputError(
                f"{file} has the attribute {key}={str(value)[:80]!r} of the variable {name}, "
                f"expected {expected}; correct it in the file",
                code="unreadable-file",
            )


def check_axes(shapes: Iterable[tuple[str, tuple[int, ...]]], file: str) -> None:
    """Reject axes so long that their coordinates, which are read at once, take all memory.

    Names that are not UTF-8, which folders of a store may have, are rejected too.

    Args:
        shapes: Of the arrays, by name.
        file: File or store, for messages.

    Raises:
        InputError: Naming file and axis ("too-large") or variable ("bad-name").
    """
    for name, shape in shapes:
        if name.encode(errors="replace").decode() != name:
            raise InputError(
                f"{file} has the variable {name!a}, whose name is not UTF-8; rename its folder",
                code="bad-name",
            )
        if len(shape) == 1 and shape[0] > _LONGEST_AXIS:
            raise InputError(
                f"{file} has {shape[0]} values along {name}, expected at most {_LONGEST_AXIS}; "
                "the file is damaged, or no source of fields",
                code="too-large",
            )


def unreadable_variable(file: str) -> str:
    """Name of the first variable whose metadata or coordinates cannot be read, or ""."""
    arrays = _arrays_of_store(Path(file)) if Path(file).is_dir() else _arrays_of_file(file)
    try:
        for name, read in arrays:
            try:
                read()
            except Exception:  # of any library
                return name
    except Exception:  # then the file as a whole cannot be read
        return ""
    return ""


def _arrays_of_store(path: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    def read(folder: Path) -> None:
        array = zarr.open(folder, mode="r")
        if isinstance(array, zarr.Array) and array.ndim == 1 and array.size <= _LONGEST_AXIS:
            _ = array[:]

    for file in sorted([*path.glob("*/zarr.json"), *path.glob("*/.zarray")]):
        yield file.parent.name, partial(read, file.parent)


def _arrays_of_file(file: str) -> Iterator[tuple[str, Callable[[], object]]]:
    with netCDF4.Dataset(file) as opened:
        opened.set_auto_maskandscale(False)
        for name, array in opened.variables.items():
            yield name, lambda array=array: array[:] if array.dimensions == (array.name,) else None


def _is_number(value: Any, *, may_be_zero: bool) -> bool:  # noqa: ANN401
    number = np.asarray(value)
    if number.size != 1 or number.dtype.kind not in "iuf" or not np.isfinite(number).all():
        return False
    return may_be_zero or bool((number != 0).all())

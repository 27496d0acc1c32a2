"""Lazy arrays in chunks that fit in memory, whose errors of reading name file and variable."""

from typing import Any, TypeVar

import dask.array
import numpy as np
import xarray as xr

from data_pipeline.errors import InputError, TransferError
from data_pipeline.sources.retry import is_of_network
from data_pipeline.sources.virtual.repository import brief

_Array = TypeVar("_Array", xr.Variable, xr.DataArray)
PIECE_BYTES = 16 * 2**20


class _StoredArray:
    """An array of a file, for dask, whose errors name both."""

    def __init__(self, variable: xr.Variable, name: str) -> None:
        self._variable, self._name = variable, name
        self.shape, self.dtype, self.ndim = variable.shape, variable.dtype, variable.ndim

    def __getitem__(self, key: Any) -> np.ndarray:  # noqa: ANN401
        try:
            return np.asarray(self._variable[key].values)  # a time alone is no array
        except (InputError, PermissionError):
            raise
        except Exception as error:  # libraries meet damaged values with errors of every kind
            if is_of_network(error):
                raise  # and is read again
            message = f"cannot read {self._name}: {brief(error)}; the file "
            message += "may be damaged or still being written: copy it again"
            raise TransferError(message, code="unreadable-file") from error


def with_bounded_chunks(
    dataset: xr.Dataset, opened: xr.Dataset, file: str, piece_bytes: int = PIECE_BYTES
) -> xr.Dataset:
    """The dataset with ``rechunk_to_bytes`` applied, which closes ``opened``, from ``file``."""
    lazy = {
        name: array for name, array in dataset.variables.items() if name not in dataset.xindexes
    }
    pieces = {
        name: rechunk_to_bytes(array, f"{name} of {file}", piece_bytes)
        for name, array in lazy.items()
    }
    dataset = dataset.assign(pieces)
    dataset.set_close(opened.close)
    dataset.encoding["source"] = file
    return dataset


def rechunk_to_bytes(array: _Array, label: str, piece_bytes: int = PIECE_BYTES) -> _Array:
    """Take the chunks of the file, or, without any, runs of ``piece_bytes`` along the first axis.

    An array that is lazy already keeps its chunks. The ``label`` names it in errors of reading.
    """
    if array.chunks is not None:
        return array
    chunks = tuple(array.encoding.get("chunksizes") or ())
    preferred = array.encoding.get("preferred_chunks")
    if preferred and not chunks:
        chunks = tuple(preferred.get(dim, size) for dim, size in array.sizes.items())
    if len(chunks) != array.ndim:
        step_bytes = array.nbytes // max(1, array.shape[0])
        chunks = (max(1, piece_bytes // max(1, step_bytes)), *array.shape[1:])
    variable = array.variable if isinstance(array, xr.DataArray) else array
    stored = _StoredArray(variable, label)
    # A name by the content would read all of it.
    meta = np.empty((0,) * array.ndim, array.dtype)
    from_array: Any = dask.array.from_array
    return array.copy(deep=False, data=from_array(stored, chunks, name=False, meta=meta))

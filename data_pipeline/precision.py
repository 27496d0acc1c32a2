"""The precision of computations: values may be stored in less, such as float16 and integers."""

from typing import TypeVar

import numpy as np
import xarray as xr

_Array = TypeVar("_Array", np.ndarray, xr.DataArray)


def at_least_single(array: _Array) -> _Array:
    """Convert to float32, or to float64 where that is needed to hold the type's values.

    In float16 the square of 280 K is infinite. Arrays of dask stay lazy; float32 and float64 are
    returned as they are.
    """
    return array.astype(computing_dtype(array.dtype), copy=False)


def computing_dtype(stored: np.dtype) -> np.dtype:
    """The type in which values of a stored type are added and multiplied."""
    return np.result_type(stored, np.float32)

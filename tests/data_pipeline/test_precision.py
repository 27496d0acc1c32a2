"""Stored types never reach arithmetic."""

import numpy as np
import pytest
import xarray as xr

from data_pipeline.precision import at_least_single, computing_dtype


@pytest.mark.parametrize(
    ("stored", "computed"),
    [
        ("f2", "f4"), ("f4", "f4"), (">f4", "=f4"), ("f8", "f8"), ("i2", "f4"), ("u1", "f4"),
        ("i4", "f8"), ("?", "f4"),
    ],
)  # fmt: skip
def test_types_are_widened_until_they_hold_their_values(stored: str, computed: str) -> None:
    assert computing_dtype(np.dtype(stored)) == np.dtype(computed)
    values = np.ones(2, stored)
    assert at_least_single(values).dtype == np.dtype(computed)


def test_the_square_of_a_temperature_is_finite() -> None:
    halves = xr.DataArray(np.full(3, 280.0, np.float16), dims="x", attrs={"units": "K"})
    assert (at_least_single(halves) ** 2).values.tolist() == [78400.0] * 3
    assert at_least_single(halves).attrs == {"units": "K"}


def test_dask_stays_lazy_and_single_precision_is_not_copied() -> None:
    lazy = xr.DataArray(np.zeros(4, np.float16), dims="x").chunk(x=2)
    assert at_least_single(lazy).chunks == ((2, 2),)
    single = np.zeros(4, np.float32)
    assert at_least_single(single) is single

"""Storing values in 16 bits: round trips, errors within the type's precision, refusals."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.store.packing import Packing, StorageConfig, StoredType
from tests.builders.errors import rejects

TYPES: tuple[StoredType, ...] = ("float32", "float16", "bfloat16", "int16")
LABELS = ["warm", "small"]


def make_values(seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal((6, 2, 4, 8))
    return (noise * [[[20.0]], [[1e-6]]] + [[[280.0]], [[5e-6]]]).astype(np.float32)


@pytest.mark.parametrize(
    ("dtype", "share"), [("float32", 0), ("float16", 2**-10), ("bfloat16", 2**-7), ("int16", 2e-4)]
)
@given(seed=st.integers(0, 100))
def test_the_error_is_within_the_precision(dtype: StoredType, share: float, seed: int) -> None:
    values = make_values(seed)
    packing = Packing.fit(dtype, values)
    stored = packing.pack(values, LABELS)
    error = np.abs(packing.unpack(stored) - values).max(axis=(0, 2, 3))
    largest = np.abs(values - packing.offset[:, None, None]).max(axis=(0, 2, 3))
    assert stored.dtype.itemsize == (4 if dtype == "float32" else 2)
    # of the distance from the offset, and the rounding of float32 about the value itself
    assert (error <= share * largest + 2.0**-23 * np.abs(values).max(axis=(0, 2, 3))).all()


@pytest.mark.parametrize("dtype", TYPES)
def test_stored_values_come_back_to_themselves(dtype: StoredType) -> None:
    values = make_values()
    packing = Packing.fit(dtype, values)
    stored = packing.pack(values, LABELS)
    again = packing.pack(packing.unpack(stored), LABELS)
    difference = np.abs(again.astype(np.float64) - stored.astype(np.float64))
    assert difference.max() <= (0 if dtype == "float32" else 2e-3 if dtype == "float16" else 1)


def test_bfloat16_rounds_as_torch_does() -> None:
    values = np.random.default_rng(0).standard_normal((50, 1, 8, 8)).astype(np.float32)
    packing = Packing("bfloat16", np.zeros(1), np.ones(1))
    expected = torch.from_numpy(values).bfloat16()
    stored = torch.from_numpy(packing.pack(values, ["x"])).view(torch.bfloat16)
    assert torch.equal(stored, expected)
    np.testing.assert_array_equal(
        packing.unpack(stored.view(torch.int16).numpy()), expected.float()
    )


@pytest.mark.parametrize("dtype", ["float16", "int16"])
def test_values_that_do_not_fit_are_refused_by_name(dtype: StoredType) -> None:
    values = make_values()
    packing = Packing.fit(dtype, values)
    values[2, 1, 3, 3] = 1e3
    with rejects("out-of-range", "['small']", f"dtype={dtype}"):
        packing.pack(values, LABELS)


@pytest.mark.parametrize("dtype", TYPES)
def test_a_constant_channel_is_kept(dtype: StoredType) -> None:
    values = np.full((3, 1, 2, 2), 7.5, np.float32)
    packing = Packing.fit(dtype, values)
    np.testing.assert_array_equal(packing.unpack(packing.pack(values, ["x"])), values)


def test_some_channels_are_unpacked_like_all() -> None:
    values = make_values()
    packing = Packing.fit("int16", values)
    stored = packing.pack(values, LABELS)
    part = packing.for_channels(slice(1, 2)).unpack(stored[:, 1:])
    np.testing.assert_array_equal(part, packing.unpack(stored)[:, 1:])


def test_shards_need_a_size() -> None:
    with pytest.raises(ValueError, match="shard_mib must be above 0"):
        StorageConfig(shard_mib=0.0)

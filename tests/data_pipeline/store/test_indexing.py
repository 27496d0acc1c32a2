"""Keys of stored fields against numpy's own."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import basic_indices

from data_pipeline.store.indexing import Selection
from data_pipeline.store.packing import StorageConfig

SHAPE = (5, 4, 3, 6)
ARRAY = np.arange(np.prod(SHAPE)).reshape(SHAPE)


def taken(key: Any) -> np.ndarray:  # noqa: ANN401
    """What a selection of a key gives, by the way of what is read."""
    selection = Selection.from_key(key, SHAPE)
    return ARRAY[selection.times][:, selection.channels][selection.key]


@given(key=basic_indices(SHAPE, allow_newaxis=False))
@settings(max_examples=100, deadline=None)
def test_integers_slices_and_ellipses(key: Any) -> None:  # noqa: ANN401
    np.testing.assert_array_equal(taken(key), ARRAY[key])


MASK = np.array([True, False, True, True, False])


@pytest.mark.parametrize(
    "key",
    [
        [0, 3],
        [-1, -1, 0],
        [],
        MASK,
        list(MASK),
        ~MASK & MASK,
        np.array([[0, 1], [4, 2]]),
        np.int64(-2),
        (slice(None), [3, 1]),
        (slice(None), np.array([True, False, False, True])),
        ([0, 2], [3, 1]),
        (MASK, slice(3, 0, -1)),
        (2, [1, 0], slice(None), 1),
        ([[0], [1]], [1, 2, 3], ..., -1),
        (slice(None, None, -2), slice(-1, None, -1), [2, 0], [0, 5]),
        (..., [5, 0, 5]),
        (slice(9, 2), 1),
        (1, slice(2, 2)),
    ],
)
def test_lists_and_masks(key: Any) -> None:  # noqa: ANN401
    np.testing.assert_array_equal(taken(key), ARRAY[key])


def test_only_the_requested_is_read() -> None:
    selection = Selection.from_key((slice(4, 0, -2), [2, 1]), SHAPE)
    assert selection.times.tolist() == [4, 2]
    assert selection.channels == slice(1, 3)


@pytest.mark.parametrize(
    ("key", "named"),
    [
        (5, "axis time of length 5"),
        ((0, -5), "axis channel of length 4"),
        ((..., [6]), "axis column of length 6"),
        ((0, 0, 0, 0, 0), "time, channel, row, column"),
        ((..., 0, ...), "time, channel, row, column"),
        (None, "axis time"),
        (True, "axis time"),
        (1.0, "axis time"),
        ("t", "axis time"),
        (MASK[:4], "axis time of length 5"),
        (ARRAY > 7, "axis time of length 5"),
    ],
)
def test_other_keys_are_index_errors(key: Any, named: str) -> None:  # noqa: ANN401
    with pytest.raises(IndexError, match=named):
        Selection.from_key(key, SHAPE)


@pytest.mark.parametrize("storage", [StorageConfig(), StorageConfig(compression="zstd")])
def test_states_of_a_store_are_indexed_like_an_array(store_of_kind: Any, storage: Any) -> None:  # noqa: ANN401
    states = store_of_kind(storage).states
    every = states[:]
    assert every.shape == states.shape
    assert len(states) == len(every)
    for key in (
        -1,
        slice(None, None, -3),
        ([4, 0], slice(None), 1),
        (..., 2),
        every[:, 0, 0, 0] > 0,
    ):
        np.testing.assert_array_equal(states[key], every[key])
    np.testing.assert_array_equal(np.asarray(states[2:5]), np.stack([states[i] for i in (2, 3, 4)]))

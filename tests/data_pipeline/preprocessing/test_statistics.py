"""Moments of parts, merged in any way, are those of the whole."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.grids.grid import LatLonGrid
from data_pipeline.preprocessing.statistics import Moments, merge_all

GRID = LatLonGrid.equiangular(4, 6)
WEIGHTS = GRID.area_weights()


def make_states(num_times: int, offset: float = 0.0) -> np.ndarray:
    noise = np.random.default_rng(num_times).standard_normal((num_times, 2, *GRID.shape))
    return offset + noise * [[[1.0]], [[30.0]]]


@given(
    num_times=st.integers(1, 40),
    cuts=st.lists(st.integers(0, 40), max_size=6),
    offset=st.sampled_from([0.0, 1e6]),
)
def test_parts_merge_to_the_whole(num_times: int, cuts: list[int], offset: float) -> None:
    states = make_states(num_times, offset)
    parts = np.split(states, sorted(min(cut, num_times) for cut in cuts))
    found = merge_all([Moments.from_states(part, WEIGHTS) for part in parts])
    mean = (WEIGHTS * states).mean(axis=(0, 2, 3))
    variance = (WEIGHTS * (states - mean[:, None, None]) ** 2).mean(axis=(0, 2, 3))
    assert found.num_states == num_times
    np.testing.assert_allclose(found.mean, mean, rtol=1e-12)
    np.testing.assert_allclose(found.std, np.sqrt(variance), rtol=1e-8)
    np.testing.assert_array_equal(found.minimum, states.min(axis=(0, 2, 3)))
    np.testing.assert_array_equal(found.maximum, states.max(axis=(0, 2, 3)))


def test_two_states_by_hand() -> None:
    states = np.stack([np.full((1, *GRID.shape), value) for value in (1.0, 5.0)])
    found = Moments.from_states(states, WEIGHTS)
    assert found.mean == pytest.approx([3.0])
    assert found.std == pytest.approx([2.0])


def test_json_keeps_every_bit() -> None:
    moments = Moments.from_states(make_states(3), WEIGHTS)
    for ours, again in zip(moments, Moments.from_json(moments.to_json()), strict=True):
        np.testing.assert_array_equal(ours, again)


def test_no_states_have_no_influence() -> None:
    moments = Moments.from_states(make_states(3), WEIGHTS)
    for pair in ([Moments.empty(2), moments], [moments, Moments.empty(2)]):
        for ours, again in zip(moments, merge_all(pair), strict=True):
            np.testing.assert_array_equal(ours, again)

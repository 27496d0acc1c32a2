"""Weighted means over regions are sums over cells, whatever the way they are computed."""

import numpy as np
import pytest

from fourcastnet_afno.evaluation.statistics.averages import (
    Averager,
    cache_sized_slices,
    masked_mean,
)

RNG = np.random.default_rng(0)
FIELDS, OTHERS = RNG.standard_normal((2, 2, 3, 4, 6))


def normalized(weights: np.ndarray) -> np.ndarray:
    return weights / weights.sum(axis=(1, 2), keepdims=True)


ZONAL = np.repeat(RNG.random((2, 4, 1)), 6, axis=2)


@pytest.mark.parametrize(
    "weights", [ZONAL, ZONAL[:1], RNG.random((2, 4, 6)), RNG.random((1, 4, 6))]
)
def test_means_are_sums_over_cells(weights: np.ndarray) -> None:
    weights = normalized(weights)
    averager = Averager(weights)
    expected = np.einsum("abij,rij->abr", FIELDS, weights)
    np.testing.assert_allclose(averager.mean(FIELDS), expected)
    np.testing.assert_allclose(averager.mean(FIELDS.astype("f4")), expected, rtol=1e-5)
    product = np.einsum("abij,abij,rij->abr", FIELDS, OTHERS, weights)
    np.testing.assert_allclose(averager.mean_product(FIELDS, OTHERS), product)
    preweighted = averager.preweight(OTHERS)
    np.testing.assert_allclose(averager.mean_preweighted(FIELDS, preweighted), product)


def test_a_masked_mean_is_that_of_the_present_cells() -> None:
    weights = normalized(np.stack([np.ones((4, 6)), np.eye(4, 6)]))
    present = np.ones(FIELDS.shape, bool)
    present[0, 0, 1] = False
    present[1, 2] ^= np.eye(4, 6, dtype=bool)
    means = masked_mean(Averager(weights), FIELDS, present)
    np.testing.assert_allclose(means[0, 0, 0], FIELDS[0, 0, [0, 2, 3]].mean())
    assert np.isnan(means[1, 2, 1])  # the region has no cell
    assert np.isfinite(means[1, 2, 0])


@pytest.mark.parametrize("num_cells", [1, 2**18, 2**20])
def test_tiles_cover_all_fields_once(num_cells: int) -> None:
    tiles = list(cache_sized_slices(5, num_cells))
    np.testing.assert_array_equal(np.concatenate([np.arange(5)[t] for t in tiles]), np.arange(5))
    assert len(tiles) == {1: 1, 2**18: 3, 2**20: 5}[num_cells]

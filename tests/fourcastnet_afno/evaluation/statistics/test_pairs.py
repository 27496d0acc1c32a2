"""Means of small pairs by hand, and truth taken where forecasts are valid."""

import numpy as np
import pytest

from fourcastnet_afno.evaluation.metrics import METRICS
from fourcastnet_afno.evaluation.statistics.averages import Averager
from fourcastnet_afno.evaluation.statistics.pairs import (
    PairBlock,
    PairSettings,
    TruthAt,
    TruthBlock,
    make_buffers,
)

# Weights with sum 1 on a 2 x 3 grid: each cell of the first row counts three times.
ROWS = np.array([[3.0, 3, 3], [1, 1, 1]]) / 12


@pytest.mark.parametrize("weights", [ROWS, ROWS * (1 + 1e-15 * np.arange(3))])
def test_statistics_on_two_by_three(weights: np.ndarray) -> None:
    truth, climatology = np.full((1, 2, 3), 2.0), np.full((1, 2, 3), 1.0)
    forecast = truth + np.array([[[1.0, 2.0, 0.0], [0.0, 0.0, -4.0]]])
    averager = Averager(weights[None])
    settings = PairSettings(averager=averager, unweighted=averager)
    block = TruthBlock(truth, climatology, settings)

    def pair() -> PairBlock:
        return PairBlock(
            forecast[:, None],
            TruthAt(block, np.arange(1)),
            (slice(0, 1),),
            times=np.zeros(1, "datetime64[ns]"),
            label="t",
            settings=settings,
            buffers=make_buffers(6),
        )

    complete = pair()
    assert complete.present is None
    assert complete.mean(complete.error).item() == pytest.approx((3 * 3 - 4) / 12)
    assert complete.squared_error.item() == pytest.approx((3 * 5 + 16) / 12)
    (absolute_error,) = METRICS["mae"].statistics
    assert absolute_error.compute(complete).item() == pytest.approx((3 * 3 + 4) / 12)
    assert complete.mean_error_anomaly().item() == pytest.approx((3 * 3 - 4) / 12)
    forecast[0, 0, 1] = np.nan
    masked = pair()
    assert masked.num_missing().item() == 1
    assert masked.squared_error.item() == pytest.approx((3 * 1 + 16) / 9)
    assert masked.truth_mean("squared_truth").item() == pytest.approx(4)


@pytest.mark.parametrize(
    "positions",
    [
        np.add.outer(2 * np.arange(5), np.arange(8)),  # init times half as dense as lead times
        np.add.outer([0, 3, 5], np.arange(8)),  # an initial time that is missing
        np.add.outer(np.arange(4), [0, 1, 4]),
        np.array([[7]]),
        np.arange(12),
    ],
)
def test_truth_at_valid_times(positions: np.ndarray) -> None:
    generator = np.random.default_rng(1)
    fields, climatology = generator.standard_normal((2, 20, 4, 6))
    averager = Averager(np.full((1, 4, 6), 1 / 24))
    settings = PairSettings(averager=averager, unweighted=averager)
    block = TruthBlock(fields, climatology, settings)
    truth = TruthAt(block, positions)
    where = tuple(slice(length // 3, length) for length in positions.shape)
    for name in ("fields", "anomalies", "preweighted", "centered"):
        expected = getattr(block, name)[positions[where]]
        np.testing.assert_array_equal(truth.take(name, where), expected)
    np.testing.assert_allclose(
        truth.mean("squared_truth", where)[..., 0], (fields**2).mean((1, 2))[positions[where]]
    )

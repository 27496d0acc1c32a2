"""Probabilistic scores against their definitions, and what must hold for any ensemble."""

import math
from itertools import pairwise

import numpy as np
import pytest
import xarray as xr

from fourcastnet_afno.evaluation.config import EvaluationConfig
from fourcastnet_afno.evaluation.evaluate import evaluate
from fourcastnet_afno.evaluation.metrics.ensembles import cell_scores, energy_score, rank_histogram
from fourcastnet_afno.evaluation.statistics.averages import Averager
from tests.builders.forecasts import (
    GRID,
    make_climatology,
    make_forecast,
    make_truth,
    stacked,
    truth_at,
)

CONFIG = EvaluationConfig(baselines=["persistence"], num_resamples=0)


@pytest.fixture(scope="module")
def truth() -> xr.Dataset:
    return make_truth()


def crps_by_integral(members: np.ndarray, truth: float) -> float:
    """The integral of (F(x) - 1[x >= truth])^2 between the sorted points."""
    points = sorted([*members.tolist(), truth])
    total = 0.0
    for low, high in pairwise(points):
        share = sum(m <= low for m in members.tolist()) / len(members)
        total += (high - low) * (share - (1.0 if low >= truth else 0.0)) ** 2
    return total


def test_crps_is_the_integral_over_the_distribution() -> None:
    rng = np.random.default_rng(0)
    members, truth = rng.standard_normal((20, 7)), rng.standard_normal(20)
    found = cell_scores(members, truth)["crps_biased"]
    expected = [crps_by_integral(m, float(o)) for m, o in zip(members, truth, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    pairs = np.array([abs(m[:, None] - m[None, :]).sum() for m in members])
    skill = abs(members - truth[:, None]).mean(axis=1)
    fair = skill - pairs / (2 * 7 * 6)
    np.testing.assert_allclose(cell_scores(members, truth)["crps"], fair, rtol=1e-12)
    almost = 0.95 * fair + 0.05 * found
    np.testing.assert_allclose(cell_scores(members, truth)["crps_almost_fair"], almost, rtol=1e-12)


def test_the_precision_of_members_does_not_matter_and_they_stay_in_order() -> None:
    rng = np.random.default_rng(0)
    for cells in (1, 300):
        members = rng.standard_normal((2, 2000, cells)).astype(np.float32)
        before, actual = members.copy(), rng.standard_normal((2, cells))
        found, expected = (cell_scores(m, actual) for m in (members, members.astype(np.float64)))
        np.testing.assert_array_equal(found["crps"], expected["crps"])
        np.testing.assert_array_equal(members, before)


def test_one_member_has_the_absolute_error(truth: xr.Dataset) -> None:
    rng = np.random.default_rng(0)
    member, actual = rng.standard_normal((5, 1, 3)), rng.standard_normal((5, 3))
    for estimator in ("crps", "crps_biased", "crps_almost_fair"):
        np.testing.assert_array_equal(
            cell_scores(member, actual)[estimator], abs(member[:, 0] - actual)
        )
    forecasts = {"many": make_forecast(truth, members=3), "one": make_forecast(truth)}
    scores = evaluate(forecasts, truth, make_climatology(truth), CONFIG)
    for name in ("one", "persistence"):
        one = scores.sel(forecast=name)
        for kind in ("crps", "crps_biased", "crps_almost_fair"):
            np.testing.assert_allclose(one[kind], one["mae"], rtol=1e-12)
        np.testing.assert_array_equal(one["spread"], 0)
        # The norm of each field comes before the mean over initial times.
        assert (one["energy_score"] <= one["rmse"]).all()


def test_scores_of_an_ensemble_are_their_definitions(truth: xr.Dataset) -> None:
    forecast = make_forecast(truth, members=4)
    scores = evaluate({"ours": forecast}, truth, make_climatology(truth), CONFIG)
    ours = scores.sel(forecast="ours").isel(lead_time=2, channel=1)
    f, o = stacked(forecast)[:, 2, :, 1], truth_at(truth, forecast)[:, 2, 1]
    weights = GRID.area_weights() / GRID.area_weights().sum()

    def mean(values: np.ndarray) -> float:
        return float((weights * values).sum(axis=(-2, -1)).mean())

    average, variance = f.mean(axis=1), f.var(axis=1, ddof=1)
    expected = {
        "rmse": math.sqrt(mean((average - o) ** 2)),
        "spread": math.sqrt(mean(variance)),
        "spread_skill_ratio": math.sqrt(mean(variance) / mean((average - o) ** 2)),
        "debiased_rmse": math.sqrt(mean((average - o) ** 2 - variance / 4)),
        "crps": mean(cell_scores(f, o)["crps"]),
    }
    norms = [
        np.sqrt((weights * (f[:, i] - other) ** 2).sum(axis=(1, 2)))
        for i in range(4)
        for other in [o, *(f[:, j] for j in range(4))]
    ]
    norms = np.array(norms).reshape(4, 5, -1)
    expected["energy_score"] = float(
        (norms[:, 0].mean(axis=0) - norms[:, 1:].sum(axis=(0, 1)) / (2 * 4 * 3)).mean()
    )
    for name, value in expected.items():
        assert float(ours[name]) == pytest.approx(value, rel=1e-9), name


def test_energy_score_of_one_cell_is_the_crps() -> None:
    rng = np.random.default_rng(1)
    members, truth = rng.standard_normal((6, 5, 1, 1)), rng.standard_normal((6, 1, 1))
    found = energy_score(members, truth, Averager(np.ones((1, 1, 1))))
    np.testing.assert_allclose(found[:, 0], cell_scores(members, truth)["crps"][:, 0, 0], rtol=1e-6)


def mean_distances(members: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> float:
    """The energy score of one field by its double sum, in float64."""
    points = [np.sqrt(weights) * field.astype(np.float64) for field in (*members, truth)]
    flat = np.reshape(points, (len(points), -1))
    norms = np.array([np.sqrt(np.square(flat - point).sum(axis=1)) for point in flat[:-1]])
    count = len(members)
    return norms[:, -1].mean() - norms[:, :-1].sum() / (2 * count * (count - 1))


@pytest.mark.parametrize(("spread", "shape"), [(30.0, (30, 200)), (0.3, (9, 16))])
def test_the_energy_score_of_many_members_in_single_precision(
    spread: float, shape: tuple[int, int]
) -> None:
    rng = np.random.default_rng(2)
    weights = rng.uniform(0.5, 1.5, shape)
    weights /= weights.sum()
    truth = 5000.0 * rng.standard_normal(shape)
    members = truth + spread * rng.standard_normal((150, *shape))
    members = members.astype(np.float32)
    found = energy_score(members[None], truth[None], Averager(weights[None])).item()
    assert found == pytest.approx(mean_distances(members, truth, weights), rel=1e-7)


@pytest.mark.parametrize("scatter", [0.0, 1e-4, 1e-2])
def test_the_energy_score_of_members_in_clusters_is_not_lost_in_rounding(scatter: float) -> None:
    """As of a few checkpoints whose members have hardly left each other."""
    rng = np.random.default_rng(3)
    weights = np.full((6, 8), 1 / 48)
    truth, centers = rng.standard_normal((6, 8)), rng.standard_normal((2, 6, 8))
    members = np.repeat(centers, 40, axis=0) + scatter * rng.standard_normal((80, 6, 8))
    members = members.astype(np.float32)
    found = energy_score(members[None], truth[None], Averager(weights[None])).item()
    assert found == pytest.approx(mean_distances(members, truth, weights), rel=1e-7)


def test_the_variance_of_cells_far_from_zero() -> None:
    rng = np.random.default_rng(4)
    members = (1e5 + rng.standard_normal((2, 40, 3, 5000))).astype(np.float32)
    truth = members[:, 0].astype(np.float64) + 1.0
    found = cell_scores(members, truth)
    variance = members.astype(np.float64).var(axis=1, ddof=1)
    np.testing.assert_allclose(found["ensemble_variance"], variance, rtol=1e-12)
    square = (members.mean(axis=1, dtype=np.float64) - truth) ** 2 - variance / 40
    np.testing.assert_allclose(found["debiased_squared_error"], square, rtol=1e-9, atol=1e-12)


def test_a_reliable_ensemble() -> None:
    """Truth and members from one distribution: flat ranks, spread as large as the error."""
    rng = np.random.default_rng(0)
    count, fields = 9, 400
    members = rng.standard_normal((fields, count, *GRID.shape))
    truth = rng.standard_normal((fields, *GRID.shape))
    weights = GRID.area_weights() / GRID.area_weights().sum()
    ranks = rank_histogram(members, truth, weights).mean(axis=0)
    np.testing.assert_allclose(ranks, 1 / (count + 1), atol=5e-3)
    error = ((members.mean(axis=1) - truth) ** 2 * weights).sum(axis=(1, 2)).mean()
    variance = (members.var(axis=1, ddof=1) * weights).sum(axis=(1, 2)).mean()
    assert math.sqrt(variance / error) == pytest.approx(math.sqrt(count / (count + 1)), rel=0.01)
    few = cell_scores(members[:, :2], truth)["crps"].mean()
    assert few == pytest.approx(
        cell_scores(members, truth)["crps"].mean(), rel=0.02
    )  # fair: whatever the size
    assert cell_scores(members[:, :2], truth)["crps_biased"].mean() > 1.2 * few


def test_ties_are_shared_between_ranks() -> None:
    members = np.array([0.0, 0, 1]).reshape(1, 3, 1, 1)
    weights = np.ones((1, 1))
    found = rank_histogram(members, np.zeros((1, 1, 1)), weights)
    np.testing.assert_allclose(found, [[1 / 3, 1 / 3, 1 / 3, 0]])
    missing = rank_histogram(members, np.full((1, 1, 1), np.nan), weights)
    np.testing.assert_array_equal(missing, 0)


def test_rank_histograms_of_an_evaluation_sum_to_one(truth: xr.Dataset) -> None:
    forecast = make_forecast(truth, members=3)
    scores = evaluate({"ours": forecast}, truth, make_climatology(truth), CONFIG)
    ranks = scores["rank_histogram_ours"]
    assert ranks.sizes["rank_of_ours"] == 4
    np.testing.assert_allclose(ranks.sum("rank_of_ours"), 1, rtol=1e-12)
    weights = GRID.area_weights() / GRID.area_weights().sum()
    below = (stacked(forecast)[:, 0, :, 6] < truth_at(truth, forecast)[:, 0, 6][:, None]).sum(
        axis=1
    )
    expected = [(weights * (below == rank)).sum(axis=(1, 2)).mean() for rank in range(4)]
    np.testing.assert_allclose(ranks.isel(lead_time=0, channel=6), expected, rtol=1e-12)


def test_a_member_that_is_missing_leaves_out_its_cells(truth: xr.Dataset) -> None:
    forecast = make_forecast(truth, members=3).copy(deep=True)
    forecast["2m_temperature"][0, 0, 1, 2, 3] = np.nan
    scores = evaluate({"ours": forecast}, truth, make_climatology(truth), CONFIG)
    one = scores.sel(forecast="ours", channel="2m_temperature").isel(lead_time=0)
    assert int(one["missing_values"]) == 1
    f, o = stacked(forecast)[:, 0, :, 6], truth_at(truth, forecast)[:, 0, 6]
    weights = np.broadcast_to(GRID.area_weights(), o.shape).copy()
    weights[0, 2, 3] = 0
    weights /= weights.sum(axis=(1, 2), keepdims=True)
    cells = np.nan_to_num(cell_scores(np.nan_to_num(f), o)["crps"])
    assert float(one["crps"]) == pytest.approx((weights * cells).sum(axis=(1, 2)).mean(), rel=1e-9)


# Weights with sum 1 on a 2 x 3 grid: each cell of the first row counts three times.
ROWS = np.array([[3.0, 3, 3], [1, 1, 1]]) / 12


SMALL = Averager(ROWS[None])


def test_crps_of_three_members() -> None:
    members, truth = np.array([[0.0, 1, 4]]).T[None, :, :, None][..., 0], np.array([[2.0]])
    # |x - o|: 2, 1, 2; distances of pairs: 1, 4, 3, each twice
    assert cell_scores(members, truth)["crps_biased"].item() == pytest.approx(5 / 3 - 16 / 18)
    assert cell_scores(members, truth)["crps"].item() == pytest.approx(5 / 3 - 16 / 12)


def test_the_energy_score_of_two_members() -> None:
    members = np.zeros((1, 2, 2, 3))
    members[0, 0] = 1.0
    truth = np.full((1, 2, 3), 3.0)
    # norms of the differences: 2 and 3 to truth, 1 between the members
    assert energy_score(members, truth, SMALL).item() == pytest.approx(2.5 - 2 / 4)


def test_ranks_share_ties() -> None:
    members = np.array([0.0, 1.0])[None, :, None, None] * np.ones((1, 2, 2, 3))
    truth = np.array([[[-1.0, 0.5, 2.0], [0.0, np.nan, 2.0]]])
    found = rank_histogram(members, truth, ROWS)[0]
    np.testing.assert_allclose(found * 12, [3 + 0.5, 3 + 0.5, 3 + 1])


@pytest.mark.parametrize("shift", [0.0, 1e-9])
def test_ranks_of_more_members_than_a_byte_counts(shift: float) -> None:
    """Truth between two float32 numbers is above the lower one."""
    members = np.arange(600, dtype=np.float32).reshape(1, 600, 1, 1)
    found = rank_histogram(members, np.full((1, 1, 1), 555.0 + shift), np.ones((1, 1)))[0]
    expected = np.zeros(601)
    expected[[555, 556]] = (0.0, 1.0) if shift else (0.5, 0.5)
    np.testing.assert_array_equal(found, expected)

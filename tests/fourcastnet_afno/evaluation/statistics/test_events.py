"""Events, extremes, spectra, ranks and significance by hand arithmetic on small fields."""

import numpy as np
import pytest

from data_pipeline.errors import InputError
from data_pipeline.grids.grid import LatLonGrid
from fourcastnet_afno.evaluation.config import EvaluationConfig
from fourcastnet_afno.evaluation.evaluate import evaluate
from fourcastnet_afno.evaluation.regions import REGIONS, region_weights
from fourcastnet_afno.evaluation.scores.metrics import correlation_time, fraction_skill
from fourcastnet_afno.evaluation.scores.significance import (
    block_length,
    interval,
    resample_counts,
    verdicts,
)
from fourcastnet_afno.evaluation.statistics.averages import Averager, ErrorStatistics, TruthBlock
from fourcastnet_afno.evaluation.statistics.ensemble import crps, energy_score, rank_histogram
from fourcastnet_afno.evaluation.statistics.events import (
    event_statistics,
    neighborhood_mean,
    relative_quantile_error,
    reliability,
    seeps,
)
from fourcastnet_afno.evaluation.statistics.spectra import effective_wavenumber, wavelength_km
from tests.builders.evaluation_fixtures import GRID, make_coefficients, make_forecast, make_truth

# Weights with sum 1 on a 2 x 3 grid: each cell of the first row counts three times.
ROWS = np.array([[3.0, 3, 3], [1, 1, 1]]) / 12
SMALL = Averager(ROWS[None])


@pytest.mark.parametrize("weights", [ROWS, ROWS * (1 + 1e-15 * np.arange(3))])
def test_statistics_on_two_by_three(weights: np.ndarray) -> None:
    truth, climatology = np.full((1, 2, 3), 2.0), np.full((1, 2, 3), 1.0)
    forecast = truth + np.array([[[1.0, 2.0, 0.0], [0.0, 0.0, -4.0]]])
    averager = Averager(weights[None])
    block = TruthBlock.of(truth, climatology, averager)
    errors = ErrorStatistics(averager, 1, (2, 3), frozenset({"absolute_error"}))
    found = errors(forecast, block)
    assert found["error"].item() == pytest.approx((3 * 3 - 4) / 12)
    assert found["squared_error"].item() == pytest.approx((3 * 5 + 16) / 12)
    assert found["absolute_error"].item() == pytest.approx((3 * 3 + 4) / 12)
    assert found["error_anomaly"].item() == pytest.approx((3 * 3 - 4) / 12)
    forecast[0, 0, 1] = np.nan
    masked = errors(forecast, block)
    assert masked["missing"].item() == 1
    assert masked["squared_error"].item() == pytest.approx((3 * 1 + 16) / 9)


def test_crps_of_three_members() -> None:
    members, truth = np.array([[0.0, 1, 4]]).T[None, :, :, None][..., 0], np.array([[2.0]])
    # |x - o|: 2, 1, 2; distances of pairs: 1, 4, 3, each twice
    assert crps(members, truth, "biased").item() == pytest.approx(5 / 3 - 16 / 18)
    assert crps(members, truth, "fair").item() == pytest.approx(5 / 3 - 16 / 12)


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


def test_brier_and_fraction_skill() -> None:
    members = np.array([[[[1.0, 0, 0], [0, 0, 0]], [[1.0, 1, 0], [0, 0, 0]]]])
    truth = np.array([[[1.0, 1, 0], [0, 0, 1]]])
    found = event_statistics(members, truth, np.full((1, 2, 3), 0.5), [1, 3], SMALL)
    # probabilities 1, 1/2, 0 | 0, 0, 0 of the events 1, 1, 0 | 0, 0, 1
    assert found["brier"].item() == pytest.approx((3 * 0.25 + 1) / 12)
    np.testing.assert_allclose(found["fraction_error"][0, 0, 0], found["brier"][0, 0])
    # Squares of three cells, periodic in longitude, are the sums of the row over nine and of the
    # other row: means of p are 1.5 / 9 everywhere, those of the events 3 / 9.
    means = {name: found[name][0, 0, 1] for name in ("fraction_error", "fraction_reference")}
    assert means["fraction_error"].item() == pytest.approx((1.5 / 9) ** 2)
    expected = 1 - (1.5 / 9) ** 2 / ((1.5 / 9) ** 2 + (3 / 9) ** 2)
    assert fraction_skill(means).item() == pytest.approx(expected)


def test_neighborhoods_are_periodic_in_longitude_alone() -> None:
    field = np.zeros((4, 6))
    field[0, 0] = 9.0
    found = neighborhood_mean(field, 3)
    assert found.sum() == pytest.approx(6)  # the row beyond the pole is lost
    assert found[0, 5] == found[1, 1] == pytest.approx(1)
    assert found[3].tolist() == [0] * 6


def test_reliability_counts_events_by_probability() -> None:
    members = np.array([[[[1.0, 0, 0], [0, 0, 0]], [[1.0, 1, 0], [0, 0, 0]]]])
    truth = np.array([[[1.0, 1, 0], [0, 0, 1]]])
    weight, probability, events = reliability(members, truth, np.full((1, 2, 3), 0.5), ROWS)[0, 0]
    np.testing.assert_allclose(12 * weight[[0, 5, 10]], [6, 3, 3])
    np.testing.assert_allclose(12 * probability[[0, 5, 10]], [0, 1.5, 3])
    np.testing.assert_allclose(12 * events[[0, 5, 10]], [1, 3, 3])


def test_extremes_half_as_strong() -> None:
    truth = np.random.default_rng(0).gamma(2.0, size=(3, 6, 12))
    found = relative_quantile_error(0.5 * truth, truth, GRID.area_weights()[None])
    np.testing.assert_allclose(found, -0.5)


def test_seeps_by_the_matrix() -> None:
    p = np.array([[0.5, 0.5, 0.5], [0.5, 0.5, 0.05]])
    forecast = np.array([[0.0, 0.0, 1.0], [1.0, 5.0, 0.0]])
    truth = np.array([[0.0, 1.0, 5.0], [0.0, 0.0, 5.0]])
    found = seeps(forecast, truth, p, np.full((2, 3), 4.0), 0.25)
    expected = 0.5 * np.array([[0, 2, 6], [2, 2 + 3 / 2.5, np.nan]])
    np.testing.assert_allclose(found, expected)


def test_effective_wavenumber_is_the_last_resolved() -> None:
    truth = np.ones(6)
    forecast = np.array([1, 1, 0.9, 0.5, 0.4, 1.0])
    wavenumbers = np.arange(6)
    assert effective_wavenumber(forecast, truth, wavenumbers) == 3
    assert effective_wavenumber(truth, truth, wavenumbers) == 5
    assert effective_wavenumber(0 * truth, truth, wavenumbers) == 0
    assert wavelength_km(np.array([4.0])) == pytest.approx(10007.5)


def test_correlation_time_lies_between_lead_times() -> None:
    values = np.array([[1.0, 0.7, 0.9], [0.9, 0.6, 0.9], [0.7, 0.5, 0.85]])
    found = correlation_time(values, np.array([6.0, 12, 18]))
    np.testing.assert_allclose(found, [15, 0, np.nan])


def test_regions_have_the_area_of_their_boxes() -> None:
    grid = LatLonGrid.equiangular(180, 360)
    for name, region in REGIONS.items():
        bands = [np.sin(np.deg2rad(n)) - np.sin(np.deg2rad(s)) for s, n in region.latitudes]
        share = sum(bands) / 2 * (region.east - region.west) / 360
        found = (region.mask(grid) * grid.area_weights()).mean()
        assert found == pytest.approx(share, abs=0.004), name


def test_land_and_sea_share_a_region() -> None:
    land = np.random.default_rng(0).random(GRID.shape)
    names = ["tropics_land", "tropics_sea"]
    weights = region_weights(names, GRID, GRID.area_weights(), land)
    np.testing.assert_allclose(weights.sum(axis=(1, 2)), 1)
    ratio = weights[0] * (1 - land) / np.maximum(weights[1] * land, 1e-300)
    inside = REGIONS["tropics"].mask(GRID)
    np.testing.assert_allclose(ratio[inside], ratio[inside][0])
    with pytest.raises(InputError, match="tropics_land needs the variable land_sea_mask"):
        region_weights(names, GRID, GRID.area_weights())


def test_an_empty_region_is_named() -> None:
    grid = LatLonGrid.equiangular(2, 4)  # rows at 45 degrees north and south
    with pytest.raises(InputError, match="the region tropics has no cell on the grid"):
        region_weights(["tropics"], grid, np.ones(grid.shape))


def test_blocks_are_longer_where_neighbors_are_alike() -> None:
    rng = np.random.default_rng(0)
    white = rng.standard_normal((200, 5))
    red = white.copy()
    for step in range(1, 200):
        red[step] += 0.8 * red[step - 1]
    assert block_length(white) <= 3
    # (2 * 0.8 / 0.36) ** (2 / 3) * 200 ** (1 / 3) = 15.8
    assert 10 <= block_length(red) <= 22


def test_intervals_cover_the_mean_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    counts = resample_counts(60, 400, 1, rng)
    np.testing.assert_array_equal(counts.sum(axis=1), 60)
    samples = rng.standard_normal((60, 300))
    lower, upper = interval(counts @ samples / 60, 0.9)
    assert 0.85 <= ((lower <= 0) & (upper >= 0)).mean() <= 0.94


def test_verdicts_tell_a_better_forecast_from_its_equal() -> None:
    np.testing.assert_array_equal(verdicts(np.array([[-2, -1, 1], [-1, 1, 2]])), [-1, 0, 1])
    truth = make_truth()
    config = EvaluationConfig(reference="second", baselines=[], spectra=False, maps=False)
    worse = truth.copy()
    forecasts = {"second": make_forecast(truth, seed=2), "equal": make_forecast(truth, seed=3)}
    better = 0.5 * forecasts["second"] + 0.5 * truth.sel(
        time=forecasts["second"]["init_time"] + forecasts["second"]["lead_time"]
    ).drop_vars("time")
    scores = evaluate(forecasts | {"better": better}, worse, make_coefficients(truth), config)
    assert (scores["rmse_verdict"].sel(forecast="better") == -1).all()
    assert (scores["rmse_verdict"].sel(forecast="second") == 0).all()
    assert (scores["rmse_verdict"].sel(forecast="equal") == 0).mean() > 0.7
    lower, upper = scores["rmse_interval"].values
    assert ((lower <= scores["rmse"]) & (scores["rmse"] <= upper)).mean() > 0.9

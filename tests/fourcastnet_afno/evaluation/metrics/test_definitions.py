"""Every score of a forecast against loops in float64 that follow the definitions word by word."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import xarray as xr

from fourcastnet_afno.evaluation.config import EvaluationConfig
from fourcastnet_afno.evaluation.evaluate import evaluate
from tests.builders.evaluation_fixtures import (
    GRID,
    LEADS,
    make_coefficients,
    make_forecast,
    make_truth,
)

TRUTH = make_truth()


COEFFICIENTS = make_coefficients(TRUTH)


TROPICS = np.abs(GRID.coords["latitude"]) <= 20


FAST = {"num_resamples": 0, "maps": False, "baselines": ["climatology"]}


@dataclass
class Pair:
    """Members, truth and climatology of one field, with the weights of the cells (sum 1)."""

    members: np.ndarray
    truth: np.ndarray
    climatology: np.ndarray
    weights: np.ndarray

    def mean(self, values: np.ndarray) -> float:
        """The weighted mean, cell by cell."""
        total = 0.0
        for row, column in np.ndindex(*values.shape):
            total += self.weights[row, column] * values[row, column]
        return total

    @property
    def forecast(self) -> np.ndarray:
        """The mean over members."""
        return self.members.mean(axis=0)


def pairs(forecast: xr.Dataset, lead: int, rows: np.ndarray) -> Iterator[Pair]:
    weights = GRID.area_weights() * rows[:, None]
    climatology = COEFFICIENTS["2m_temperature"][0, 0].values
    for init in forecast["init_time"].values:
        picked = forecast["2m_temperature"].sel(init_time=init).isel(lead_time=lead).values
        members = picked if picked.ndim == 3 else picked[None]
        truth = TRUTH["2m_temperature"].sel(time=init + LEADS[lead]).values
        yield Pair(members, truth, climatology, weights / weights.sum())


def average(function: Callable[[Pair], float], found: list[Pair]) -> float:
    return sum(function(pair) for pair in found) / len(found)


def squared(pair: Pair) -> float:
    return pair.mean((pair.forecast - pair.truth) ** 2)


def correlation(pair: Pair) -> float:
    a, b = (f - pair.mean(f) for f in (pair.forecast, pair.truth))
    return pair.mean(a * b) / np.sqrt(pair.mean(a**2) * pair.mean(b**2))


def anomaly_correlation(pair: Pair) -> float:
    a, b = pair.forecast - pair.climatology, pair.truth - pair.climatology
    return pair.mean(a * b) / np.sqrt(pair.mean(a**2) * pair.mean(b**2))


def variance(pair: Pair, fields: np.ndarray) -> float:
    return pair.mean(fields**2) - pair.mean(fields) ** 2


def crps(pair: Pair, factor: Callable[[int], float]) -> float:
    """The skill less the mean distance of members, over M^2 or M (M - 1)."""
    x, count = pair.members, len(pair.members)
    skill = sum(np.abs(member - pair.truth) for member in x) / count
    distance = sum(np.abs(one - other) for one in x for other in x)
    return pair.mean(skill - distance / (2 * factor(count)))


def energy(pair: Pair) -> float:
    x, count = pair.members, len(pair.members)
    skill = sum(np.sqrt(pair.mean((m - pair.truth) ** 2)) for m in x) / count
    distances = [np.sqrt(pair.mean((one - other) ** 2)) for one in x for other in x]
    return float(skill - sum(distances) / (2 * count * (count - 1)))


DEFINITIONS: dict[str, Callable[[list[Pair]], float]] = {
    "rmse": lambda p: np.sqrt(average(squared, p)),
    "mse": lambda p: average(squared, p),
    "mae": lambda p: average(lambda q: q.mean(np.abs(q.forecast - q.truth)), p),
    "bias": lambda p: average(lambda q: q.mean(q.forecast - q.truth), p),
    "acc": lambda p: average(anomaly_correlation, p),
    "activity": lambda p: np.sqrt(average(lambda q: variance(q, q.forecast - q.climatology), p)),
    "standard_deviation_ratio": lambda p: np.sqrt(
        average(lambda q: variance(q, q.forecast - q.climatology), p)
        / average(lambda q: variance(q, q.truth - q.climatology), p)
    ),
    "correlation": lambda p: average(correlation, p),
    "relative_l2": lambda p: average(lambda q: np.sqrt(squared(q) / q.mean(q.truth**2)), p),
    "nrmse": lambda p: np.sqrt(average(squared, p) / average(lambda q: q.mean(q.truth**2), p)),
    "vrmse": lambda p: average(lambda q: np.sqrt(squared(q) / variance(q, q.truth)), p),
}


ENSEMBLE: dict[str, Callable[[list[Pair]], float]] = {
    "crps": lambda p: average(lambda q: crps(q, lambda m: m * (m - 1)), p),
    "crps_biased": lambda p: average(lambda q: crps(q, lambda m: m**2), p),
    "crps_almost_fair": lambda p: average(
        lambda q: 0.95 * crps(q, lambda m: m * (m - 1)) + 0.05 * crps(q, lambda m: m**2), p
    ),
    "energy_score": lambda p: average(energy, p),
    "spread": lambda p: np.sqrt(average(lambda q: q.mean(q.members.var(axis=0, ddof=1)), p)),
    "spread_skill_ratio": lambda p: ENSEMBLE["spread"](p) / DEFINITIONS["rmse"](p),
    "debiased_rmse": lambda p: np.sqrt(
        DEFINITIONS["mse"](p) - ENSEMBLE["spread"](p) ** 2 / len(p[0].members)
    ),
    "debiased_spread_skill_ratio": lambda p: ENSEMBLE["spread"](p) / ENSEMBLE["debiased_rmse"](p),
}


@pytest.mark.parametrize(("num_members", "names"), [(1, DEFINITIONS), (4, DEFINITIONS | ENSEMBLE)])
def test_scores_follow_their_definitions(num_members: int, names: dict) -> None:
    forecast = make_forecast(TRUTH, num_members=num_members)
    config = EvaluationConfig(regions=["global", "tropics"], **FAST)
    scores = evaluate({"model": forecast}, TRUTH, COEFFICIENTS, config)
    scores = scores.sel(forecast="model", channel="2m_temperature")
    for region, rows in {"global": np.ones(6, bool), "tropics": TROPICS}.items():
        for lead in (0, 2):
            found = list(pairs(forecast, lead, rows))
            for name, definition in names.items():
                value = scores[name].sel(region=region).values[lead]
                assert value == pytest.approx(definition(found), rel=1e-10), (name, region, lead)


def test_every_metric_has_a_definition_here() -> None:
    forecast = make_forecast(TRUTH, num_members=3)
    scores = evaluate({"model": forecast}, TRUTH, COEFFICIENTS, EvaluationConfig(**FAST))
    curves = {str(n) for n, a in scores.data_vars.items() if set(a.dims) == {
        "forecast", "lead_time", "channel"}}  # fmt: skip
    counted = {"num_init_times", "missing_values"}
    summaries = {"effective_wavenumber", "effective_resolution_km"}
    assert curves - counted - summaries == DEFINITIONS.keys() | ENSEMBLE.keys()


def test_one_member_scores_as_a_single_forecast() -> None:
    forecast = make_forecast(TRUTH)
    ensemble = make_forecast(TRUTH, num_members=3)
    scores = evaluate(
        {"one": forecast, "three": ensemble}, TRUTH, COEFFICIENTS, EvaluationConfig(**FAST)
    ).sel(forecast="one")
    for name in ("crps", "crps_biased", "crps_almost_fair"):
        np.testing.assert_allclose(scores[name], scores["mae"], rtol=1e-12)
    np.testing.assert_array_equal(scores["spread"], 0)


def test_a_fair_score_does_not_depend_on_the_members() -> None:
    rng = np.random.default_rng(0)
    big = make_forecast(TRUTH, num_members=6)
    for name, array in big.data_vars.items():
        big[name] = array * 0 + xr.DataArray(rng.standard_normal(array.shape), dims=array.dims)
    means = []
    for count in (2, 6):
        scores = evaluate(
            {"m": big.isel(realization=slice(count))},
            TRUTH - COEFFICIENTS.isel(hour=0, harmonic=0, drop=True),
            COEFFICIENTS * 0,
            EvaluationConfig(**FAST),
        ).sel(forecast="m")
        means.append(scores[["crps", "crps_biased"]].mean())
    assert means[0]["crps"].item() == pytest.approx(means[1]["crps"].item(), rel=0.01)
    assert means[0]["crps_biased"].item() > 1.02 * means[1]["crps_biased"].item()


@pytest.mark.parametrize("convention", ["weatherbench1", "fourcastnet"])
def test_conventions_of_other_benchmarks(convention: str) -> None:
    forecast = make_forecast(TRUTH)
    config = EvaluationConfig(convention=convention, **FAST)  # type: ignore[arg-type]
    scores = evaluate({"model": forecast}, TRUTH, COEFFICIENTS, config)
    scores = scores.sel(forecast="model", channel="2m_temperature")
    cosines = np.cos(np.deg2rad(GRID.coords["latitude"]))
    weights = np.repeat(cosines[:, None], 12, axis=1) / (12 * cosines.sum())
    for lead in (0, 2):
        found = [
            Pair(p.members, p.truth, p.climatology, weights)
            for p in pairs(forecast, lead, np.ones(6, bool))
        ]
        by_field = convention == "fourcastnet"
        mean_root = average(lambda p: np.sqrt(squared(p)), found)
        expected = mean_root if by_field else np.sqrt(average(squared, found))
        assert scores["rmse"].values[lead] == pytest.approx(expected, rel=1e-10)
        acc = average(anomaly_correlation, found) if by_field else pooled(found)
        assert scores["acc"].values[lead] == pytest.approx(acc, rel=1e-10)


def pooled(found: list[Pair]) -> float:
    """The ACC of WeatherBench 1, with the mean of all valid times as climatology."""
    inits = make_forecast(TRUTH)["init_time"].values
    valid = np.unique(inits[:, None] + LEADS)
    climatology = TRUTH["2m_temperature"].sel(time=valid).mean("time").values
    a = np.stack([p.forecast - climatology for p in found])
    b = np.stack([p.truth - climatology for p in found])
    a, b = a - a.mean(), b - b.mean()
    weights = found[0].weights
    return float((weights * a * b).sum() / np.sqrt((weights * a**2).sum() * (weights * b**2).sum()))

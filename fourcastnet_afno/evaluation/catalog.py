"""The list of metrics: what each is made of, where it is best, and what people call it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fourcastnet_afno.evaluation import metrics
from fourcastnet_afno.evaluation.conventions import Convention


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A score.

    Args:
        name: Name in the results.
        statistics: What it is made of, see ``statistics.DERIVED`` and ``ensembles``.
        combine: Score from the averages over initial times.
        best: Where the score is best: at low values, at high ones, at zero or at one.
        units: Whether it has the channel's units, their square, or none.
        label: What people call it.
        kind: Of which forecasts: all, ensembles, or events above thresholds.
    """

    name: str
    statistics: tuple[str, ...]
    combine: Callable[[metrics.Means], np.ndarray]
    best: Literal["low", "high", "zero", "one"] = "low"
    units: Literal["same", "squared", "none"] = "same"
    label: str = ""
    kind: Literal["all", "ensemble", "event", "extreme", "seeps"] = "all"

    def loss(self, values: np.ndarray) -> np.ndarray:
        """Distance from the best value, the same for every metric: lower is better."""
        match self.best:
            case "low":
                return values
            case "high":
                return -values
            case "zero":
                return np.abs(values)
            case "one":
                return np.abs(np.log(np.maximum(values, 1e-300)))


def _mean_of(name: str) -> Callable[[metrics.Means], np.ndarray]:
    return lambda means: means[name]


def metrics_of(convention: Convention) -> dict[str, Metric]:
    """All metrics by name, as a convention defines them."""
    listed = [
        *_conventional_metrics(convention),
        *_deterministic_metrics(),
        *_ensemble_metrics(),
        *_event_metrics(),
    ]
    return {metric.name: metric for metric in listed}


def _conventional_metrics(convention: Convention) -> list[Metric]:
    """Those that benchmarks define in different ways."""
    after = convention.root == "after"
    pooled = ("anomaly_product", "squared_forecast_anomaly", "squared_truth_anomaly")
    pooled += ("forecast_anomaly", "truth_anomaly")
    pooled += ("plain_forecast_anomaly", "plain_truth_anomaly")
    return [
        Metric(
            name="rmse",
            statistics=("squared_error",) if after else ("root_squared_error",),
            combine=metrics.rmse if after else metrics.mean_root_square_error,
            label="RMSE",
        ),
        Metric(
            name="acc",
            statistics=("anomaly_correlation",) if convention.acc == "by_field" else pooled,
            combine=metrics.acc if convention.acc == "by_field" else metrics.pooled_acc,
            best="high",
            units="none",
            label="ACC",
        ),
    ]


def _deterministic_metrics() -> list[Metric]:
    activities = ("forecast_activity", "truth_activity")
    return [
        Metric(name="bias", statistics=("error",), combine=metrics.bias, best="zero", label="bias"),
        Metric(name="mae", statistics=("absolute_error",), combine=metrics.mae, label="MAE"),
        Metric(
            name="mse",
            statistics=("squared_error",),
            combine=metrics.mse,
            units="squared",
            label="MSE",
        ),
        Metric(
            name="activity",
            statistics=activities,
            combine=metrics.activity,
            best="high",
            label="activity",
        ),
        Metric(
            name="standard_deviation_ratio",
            statistics=activities,
            combine=metrics.standard_deviation_ratio,
            best="one",
            units="none",
            label="standard deviation over truth's",
        ),
        Metric(
            name="correlation",
            statistics=("correlation",),
            combine=metrics.correlation,
            best="high",
            units="none",
            label="correlation",
        ),
        Metric(
            name="relative_l2",
            statistics=("relative_error",),
            combine=metrics.relative_l2,
            units="none",
            label="relative L2",
        ),
        Metric(
            name="nrmse",
            statistics=("squared_error", "squared_truth"),
            combine=metrics.nrmse,
            units="none",
            label="nRMSE",
        ),
        Metric(
            name="vrmse",
            statistics=("variance_scaled_error",),
            combine=metrics.vrmse,
            units="none",
            label="VRMSE",
        ),
    ]


def _ensemble_metrics() -> list[Metric]:
    scores = {
        "crps": "CRPS",
        "crps_biased": "CRPS (biased)",
        "crps_almost_fair": "CRPS (almost fair)",
        "energy_score": "energy score",
    }
    plain = [
        Metric(name=n, statistics=(n,), combine=_mean_of(n), label=label, kind="ensemble")
        for n, label in scores.items()
    ]
    return [
        *plain,
        Metric(
            name="spread",
            statistics=("ensemble_variance",),
            combine=metrics.spread,
            best="high",
            label="spread",
            kind="ensemble",
        ),
        Metric(
            name="spread_skill_ratio",
            statistics=("ensemble_variance", "squared_error"),
            combine=metrics.spread_skill_ratio,
            best="one",
            units="none",
            label="spread over RMSE",
            kind="ensemble",
        ),
        Metric(
            name="debiased_rmse",
            statistics=("debiased_squared_error",),
            combine=metrics.debiased_rmse,
            label="RMSE of the ensemble mean, debiased",
            kind="ensemble",
        ),
        Metric(
            name="debiased_spread_skill_ratio",
            statistics=("ensemble_variance", "debiased_squared_error"),
            combine=metrics.debiased_spread_skill_ratio,
            best="one",
            units="none",
            label="spread over RMSE, debiased",
            kind="ensemble",
        ),
    ]


def _event_metrics() -> list[Metric]:
    return [
        Metric(
            name="brier_score",
            statistics=("brier",),
            combine=_mean_of("brier"),
            units="none",
            label="Brier score",
            kind="event",
        ),
        Metric(
            name="fraction_skill_score",
            statistics=("fraction_error", "fraction_reference"),
            combine=metrics.fraction_skill,
            best="high",
            units="none",
            label="fraction skill score",
            kind="event",
        ),
        Metric(
            name="relative_quantile_error",
            statistics=("quantile_error",),
            combine=_mean_of("quantile_error"),
            best="zero",
            units="none",
            label="relative error of high quantiles",
            kind="extreme",
        ),
        Metric(
            name="seeps",
            statistics=("seeps",),
            combine=_mean_of("seeps"),
            units="none",
            label="SEEPS",
            kind="seeps",
        ),
    ]

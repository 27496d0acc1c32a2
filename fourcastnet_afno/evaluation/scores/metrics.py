"""Metrics: how averages of statistics over initial times become scores.

For a forecast f, truth o and climatology c at the valid time, the weighted mean <.> over the cells
of a region and the mean E over initial times. Weights and the choices that differ between
benchmarks are those of the ``Convention``. Each function takes the averages E of the statistics in
``Metric.statistics`` and documents formula, units, convention and source.

References:
    WB2: WeatherBench 2, Rasp et al., 2024, https://arxiv.org/abs/2308.15560, section 4.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from fourcastnet_afno.evaluation.scores.conventions import Convention

Means = Mapping[str, np.ndarray]
# What tables and curves show, whatever else is chosen.
ALWAYS = ("rmse", "acc")


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
    combine: Callable[[Means], np.ndarray]
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


def rmse(means: Means) -> np.ndarray:
    """Root mean square error, sqrt(E <(f - o)^2>): the root comes last (WB2)."""
    return np.sqrt(means["squared_error"])


def mean_root_square_error(means: Means) -> np.ndarray:
    """Mean of roots, E sqrt(<(f - o)^2>).

    References:
        WeatherBench, Rasp et al., 2020, https://arxiv.org/abs/2002.00469, equation 1; FourCastNet,
        Pathak et al., 2022, https://arxiv.org/abs/2202.11214, appendix B.
    """
    return means["root_squared_error"]


def mse(means: Means) -> np.ndarray:
    """Mean square error, E <(f - o)^2>, in squared units (WB2)."""
    return means["squared_error"]


def mae(means: Means) -> np.ndarray:
    """Mean absolute error, E <|f - o|> (WB2)."""
    return means["absolute_error"]


def bias(means: Means) -> np.ndarray:
    """Mean error, E <f - o> (WB2)."""
    return means["error"]


def acc(means: Means) -> np.ndarray:
    """Anomaly correlation of each field, averaged: E [<a b> / sqrt(<a^2> <b^2>)] (WB2).

    a = f - c and b = o - c are not centered. 0 / 0, as for the climatology itself, is 0.
    """
    return means["anomaly_correlation"]


def pooled_acc(means: Means) -> np.ndarray:
    """Correlation of anomalies over all fields at once, E <a' b'> / sqrt(E <a'^2> E <b'^2>).

    a' = a - [a], where [.] is the mean over cells and initial times without weights.

    References:
        WeatherBench, Rasp et al., 2020, https://arxiv.org/abs/2002.00469, and its ``score.py``.
    """
    a, b = means["forecast_anomaly"], means["truth_anomaly"]
    center_a, center_b = means["plain_forecast_anomaly"], means["plain_truth_anomaly"]
    product = means["anomaly_product"] - center_a * b - center_b * a + center_a * center_b
    square_a = means["squared_forecast_anomaly"] - 2 * center_a * a + center_a**2
    square_b = means["squared_truth_anomaly"] - 2 * center_b * b + center_b**2
    norm = np.sqrt(square_a * square_b)
    return np.divide(product, norm, out=np.zeros_like(product), where=norm > 0)


def activity(means: Means) -> np.ndarray:
    """Standard deviation of the forecast's anomalies in space, sqrt(E [<a^2> - <a>^2]).

    References:
        Ben Bouallegue et al., 2024, https://doi.org/10.1175/BAMS-D-23-0162.1 (forecast activity).
    """
    return np.sqrt(means["forecast_activity"])


def standard_deviation_ratio(means: Means) -> np.ndarray:
    """Activity of the forecast over that of truth; below 1 where a forecast is too smooth."""
    return _ratio(np.sqrt(means["forecast_activity"]), np.sqrt(means["truth_activity"]))


def correlation(means: Means) -> np.ndarray:
    """Pearson correlation of forecast and truth in space, averaged over initial times.

    Its fall below 0.8 is the correlation time of PDE benchmarks, see ``correlation_time``.
    """
    return means["correlation"]


def relative_l2(means: Means) -> np.ndarray:
    """Relative L2 error of each field, averaged: E sqrt(<(f - o)^2> / <o^2>).

    References:
        PDEBench, Takamoto et al., 2022, https://arxiv.org/abs/2210.07182 (there called nRMSE).
    """
    return means["relative_error"]


def nrmse(means: Means) -> np.ndarray:
    """RMSE over the root mean square of truth, sqrt(E <(f - o)^2> / E <o^2>)."""
    return _ratio(np.sqrt(means["squared_error"]), np.sqrt(means["squared_truth"]))


def vrmse(means: Means) -> np.ndarray:
    """Error over truth's standard deviation in space, E sqrt(<(f - o)^2> / <(o - <o>)^2>).

    1 is the score of the mean of truth.

    References:
        The Well, Ohana et al., 2024, https://arxiv.org/abs/2412.00568, appendix E.
    """
    return means["variance_scaled_error"]


def ensemble_spread(means: Means) -> np.ndarray:
    """Ensemble spread, sqrt(E <var(x)>) with the unbiased variance over members (WB2)."""
    return np.sqrt(means["ensemble_variance"])


def spread_skill_ratio(means: Means) -> np.ndarray:
    """Spread over the RMSE of the ensemble mean (WB2).

    sqrt(M / (M + 1)) for a reliable ensemble.
    """
    return _ratio(np.sqrt(means["ensemble_variance"]), np.sqrt(means["squared_error"]))


def debiased_rmse(means: Means) -> np.ndarray:
    """RMSE of the ensemble mean without the error of a finite ensemble (WB2).

    sqrt(E <(mean(x) - o)^2 - var(x) / M>), which does not depend on M in expectation.
    """
    return np.sqrt(np.maximum(means["debiased_squared_error"], 0))


def debiased_spread_skill_ratio(means: Means) -> np.ndarray:
    """sqrt((M + 1) / M) spread / RMSE, 1 for a reliable ensemble of any size.

    sqrt((E<var(x)> / E<(mean(x) - o)^2 - var(x) / M>)) has the same expectation and needs no M.

    References:
        Fortin et al., 2014, https://doi.org/10.1175/JHM-D-14-0008.1
    """
    return _ratio(np.sqrt(means["ensemble_variance"]), debiased_rmse(means))


def fraction_skill(means: Means) -> np.ndarray:
    """Fraction skill score, 1 - E <(P - O)^2> / E (<P^2> + <O^2>), see ``events``."""
    return 1 - _ratio(means["fraction_error"], means["fraction_reference"])


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    missing = np.full_like(np.asarray(numerator, float), np.nan)
    return np.divide(numerator, denominator, out=missing, where=denominator > 0)


def _mean_of(name: str) -> Callable[[Means], np.ndarray]:
    return lambda means: means[name]


_POOLED = (
    "anomaly_product", "squared_forecast_anomaly", "squared_truth_anomaly", "forecast_anomaly",
    "truth_anomaly", "plain_forecast_anomaly", "plain_truth_anomaly",
)  # fmt: skip
_ACTIVITIES = ("forecast_activity", "truth_activity")


def metrics_of(convention: Convention) -> dict[str, Metric]:
    """All metrics by name, as a convention defines them."""
    root_error = _metric("rmse", "RMSE", rmse, "squared_error")
    if convention.root != "after":
        root_error = _metric("rmse", "RMSE", mean_root_square_error, "root_squared_error")
    unitless = partial(_metric, units="none")
    anomalies = unitless("acc", "ACC", acc, "anomaly_correlation", best="high")
    if convention.acc != "by_field":
        anomalies = unitless("acc", "ACC", pooled_acc, *_POOLED, best="high")
    listed = [
        root_error,
        anomalies,
        _metric("bias", "bias", bias, "error", best="zero"),
        _metric("mae", "MAE", mae, "absolute_error"),
        _metric("mse", "MSE", mse, "squared_error", units="squared"),
        _metric("activity", "activity", activity, *_ACTIVITIES, best="high"),
        unitless(
            "standard_deviation_ratio", "standard deviation over truth's",
            standard_deviation_ratio, *_ACTIVITIES, best="one",
        ),
        unitless("correlation", "correlation", correlation, "correlation", best="high"),
        unitless("relative_l2", "relative L2", relative_l2, "relative_error"),
        unitless("nrmse", "nRMSE", nrmse, "squared_error", "squared_truth"),
        unitless("vrmse", "VRMSE", vrmse, "variance_scaled_error"),
        *_ensemble_metrics(),
        *_event_metrics(),
    ]  # fmt: skip
    return {metric.name: metric for metric in listed}


def _metric(
    name: str,
    label: str,
    combine: Callable[[Means], np.ndarray],
    *statistics: str,
    **further: Any,  # noqa: ANN401
) -> Metric:
    return Metric(name=name, label=label, combine=combine, statistics=statistics, **further)


def _ensemble_metrics() -> list[Metric]:
    metric = partial(_metric, kind="ensemble")
    ratio = partial(metric, best="one", units="none")
    scores = {
        "crps": "CRPS",
        "crps_biased": "CRPS (biased)",
        "crps_almost_fair": "CRPS (almost fair)",
        "energy_score": "energy score",
    }
    variance, corrected = "ensemble_variance", "debiased_squared_error"
    return [
        *(metric(name, label, _mean_of(name), name) for name, label in scores.items()),
        metric("spread", "spread", ensemble_spread, variance, best="high"),
        ratio(
            "spread_skill_ratio", "spread over RMSE", spread_skill_ratio, variance, "squared_error"
        ),
        metric("debiased_rmse", "RMSE of the ensemble mean, debiased", debiased_rmse, corrected),
        ratio(
            "debiased_spread_skill_ratio", "spread over RMSE, debiased",
            debiased_spread_skill_ratio, variance, corrected,
        ),
    ]  # fmt: skip


def _event_metrics() -> list[Metric]:
    metric = partial(_metric, units="none")
    return [
        metric("brier_score", "Brier score", _mean_of("brier"), "brier", kind="event"),
        metric(
            "fraction_skill_score", "fraction skill score", fraction_skill,
            "fraction_error", "fraction_reference", best="high", kind="event",
        ),
        metric(
            "relative_quantile_error", "relative error of high quantiles",
            _mean_of("quantile_error"), "quantile_error", best="zero", kind="extreme",
        ),
        metric("seeps", "SEEPS", _mean_of("seeps"), "seeps", kind="seeps"),
    ]  # fmt: skip


def correlation_time(
    values: np.ndarray, lead_hours: np.ndarray, threshold: float = 0.8
) -> np.ndarray:
    """Lead time at which a correlation falls below a threshold, in hours.

    Linear between lead times; NaN where it never does; 0 where the first value is already below.

    Args:
        values: Correlations of shape (lead_time, ...).
        lead_hours: Of shape (lead_time,).
        threshold: 0.8, as in Kochkov et al., 2021, https://doi.org/10.1073/pnas.2101784118, is
            usual.
    """
    below = values < threshold
    first = below.argmax(axis=0)
    before = np.maximum(first - 1, 0)
    low = np.take_along_axis(values, first[None], 0)[0]
    high = np.take_along_axis(values, before[None], 0)[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = (high - threshold) / (high - low)
        crossing = lead_hours[before] + share * (lead_hours[first] - lead_hours[before])
    crossing = np.where(first == 0, 0.0, crossing)
    return np.where(below.any(axis=0), crossing, np.nan)


def mean_over_inits(series: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted means over initial times that leave missing values out.

    Args:
        series: Of shape (init_time, ...), NaN where missing.
        weights: Of shape (set, init_time), as counts of resamples or members of a season.

    Returns:
        float64 of shape (set, ...); NaN where a set has nothing.
    """
    flat = series.reshape(len(series), -1)
    present = np.isfinite(flat)
    if present.all():
        sums, counts = weights @ flat, weights.sum(axis=1)[:, None]
        counts = np.broadcast_to(counts, sums.shape)
    else:
        infinite = np.where(np.isinf(flat), np.inf, 0.0).sum(axis=0)
        sums = weights @ np.where(present, flat, 0.0) + infinite
        counts = weights @ (present | np.isinf(flat)).astype(np.float64)
    means = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
    return means.reshape(len(weights), *series.shape[1:])

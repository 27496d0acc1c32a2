"""Metrics: how averages of statistics over initial times become scores.

For a forecast f, truth o and climatology c at the valid time, the weighted mean <.> over the cells
of a region and the mean E over initial times. Weights and the choices that differ between
benchmarks are those of the ``Convention``. Each function takes the averages E of the statistics in
``catalog.Metric.statistics`` and documents formula, units, convention and source.

References:
    WB2: WeatherBench 2, Rasp et al., 2024, https://arxiv.org/abs/2308.15560, section 4.
"""

from collections.abc import Mapping

import numpy as np

Means = Mapping[str, np.ndarray]


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


def spread(means: Means) -> np.ndarray:
    """Ensemble spread, sqrt(E <var(x)>) with the unbiased variance over members (WB2)."""
    return np.sqrt(means["ensemble_variance"])


def spread_skill_ratio(means: Means) -> np.ndarray:
    """Spread over the RMSE of the ensemble mean (WB2): sqrt(M / (M + 1)) if reliable."""
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
    fall = np.where(high > low, high - low, 1.0)
    share = (high - threshold) / fall
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

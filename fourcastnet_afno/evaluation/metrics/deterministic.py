"""Metrics of single forecasts and of ensemble means.

For a forecast f, truth o and climatology c at the valid time, the weighted mean <.> over the cells
of a region and the mean E over initial times; e = f - o, a = f - c, b = o - c. Weights, and the
choices that differ between benchmarks, are those of the ``Convention``. Without loss

    <a> = <e> + <b>,   <a b> = <e b> + <b^2>,   <a^2> = <e^2> + 2 <e b> + <b^2>.

References:
    WB2: WeatherBench 2, Rasp et al., 2024, https://arxiv.org/abs/2308.15560, section 4.
    WB1: WeatherBench, Rasp et al., 2020, https://arxiv.org/abs/2002.00469, and its ``score.py``.
"""

import numpy as np

from fourcastnet_afno.evaluation.metrics.metric import Metric, register, safe_ratio
from fourcastnet_afno.evaluation.statistics.pairs import PairBlock

# An anomaly this much smaller than truth's (in mean square) is rounding: there is nothing to
# correlate, as for the climatology itself.
_ROUNDING = 1e-13


def error(pair: PairBlock) -> np.ndarray:
    """<e>."""
    return pair.mean(pair.error)


def squared_error(pair: PairBlock) -> np.ndarray:
    """<e^2>."""
    return pair.squared_error


def root_squared_error(pair: PairBlock) -> np.ndarray:
    """sqrt(<e^2>)."""
    return np.sqrt(pair.squared_error)


def absolute_error(pair: PairBlock) -> np.ndarray:
    """<|e|>."""
    return pair.mean(np.abs(pair.error, out=pair.scratch))


def missing(pair: PairBlock) -> np.ndarray:
    """Cells that forecast or truth lacks."""
    return pair.num_missing()


def forecast_anomaly(pair: PairBlock) -> np.ndarray:
    """<a>."""
    return pair.once(error) + pair.truth_mean("anomaly")


def truth_anomaly(pair: PairBlock) -> np.ndarray:
    """<b>."""
    return pair.truth_mean("anomaly")


def unweighted_forecast_anomaly(pair: PairBlock) -> np.ndarray:
    """Mean of a without weights."""
    return pair.unweighted_mean(pair.error) + pair.truth_mean("unweighted_anomaly")


def unweighted_truth_anomaly(pair: PairBlock) -> np.ndarray:
    """Mean of b without weights."""
    return pair.truth_mean("unweighted_anomaly")


def _error_anomaly(pair: PairBlock) -> np.ndarray:
    return pair.mean_error_anomaly()


def squared_forecast_anomaly(pair: PairBlock) -> np.ndarray:
    """<a^2>; 0 where it is rounding."""
    b2 = pair.truth_mean("squared_anomaly")
    a2 = pair.squared_error + 2 * pair.once(_error_anomaly) + b2
    tiny = _ROUNDING * b2 + 1e-24 * pair.truth_mean("squared_climatology")
    return np.where(a2 <= tiny, 0.0, a2)


def squared_truth_anomaly(pair: PairBlock) -> np.ndarray:
    """<b^2>."""
    return pair.truth_mean("squared_anomaly")


def anomaly_product(pair: PairBlock) -> np.ndarray:
    """<a b>."""
    product = pair.once(_error_anomaly) + pair.truth_mean("squared_anomaly")
    return np.where(pair.once(squared_forecast_anomaly) == 0, 0.0, product)


def anomaly_correlation(pair: PairBlock) -> np.ndarray:
    """<a b> / sqrt(<a^2> <b^2>): not centered; 0 / 0, as for the climatology itself, is 0."""
    squares = pair.once(squared_forecast_anomaly) * pair.truth_mean("squared_anomaly")
    return _ratio(pair.once(anomaly_product), np.sqrt(squares))


def forecast_activity(pair: PairBlock) -> np.ndarray:
    """<a^2> - <a>^2."""
    return _variance(pair.once(squared_forecast_anomaly), pair.once(forecast_anomaly))


def truth_activity(pair: PairBlock) -> np.ndarray:
    """<b^2> - <b>^2."""
    return _variance(pair.truth_mean("squared_anomaly"), pair.truth_mean("anomaly"))


def correlation(pair: PairBlock) -> np.ndarray:
    """Pearson correlation of forecast and truth in space."""
    truth, e = pair.once(_truth_variance), pair.once(error)
    error_truth = pair.mean_product(pair.error, pair.centered)
    mixed = error_truth - e * pair.truth_mean("truth")
    square = pair.squared_error + 2 * error_truth + pair.truth_mean("squared_deviation")
    norm = np.sqrt(_variance(square, e + pair.truth_mean("truth")) * truth)
    return _ratio(np.where(norm == 0, 0.0, mixed + truth), norm)


def squared_truth(pair: PairBlock) -> np.ndarray:
    """<o^2>."""
    return pair.truth_mean("squared_truth")


def relative_error(pair: PairBlock) -> np.ndarray:
    """sqrt(<e^2> / <o^2>)."""
    return _ratio(np.sqrt(pair.squared_error), np.sqrt(pair.truth_mean("squared_truth")))


def variance_scaled_error(pair: PairBlock) -> np.ndarray:
    """sqrt(<e^2> / <(o - <o>)^2>)."""
    return _ratio(np.sqrt(pair.squared_error), np.sqrt(pair.once(_truth_variance)))


def _truth_variance(pair: PairBlock) -> np.ndarray:
    return _variance(pair.truth_mean("squared_deviation"), pair.truth_mean("truth"))


def _variance(square: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """The second moment about the mean; 0 where it is rounding, as in a region of one cell."""
    variance = square - mean**2
    return np.where(variance <= _ROUNDING * square, 0.0, variance)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """The quotient; 0 for 0 / 0; NaN stays."""
    otherwise = np.where(numerator == 0, 0.0, np.where(np.isnan(numerator), np.nan, np.inf))
    return np.divide(numerator, denominator, out=otherwise, where=denominator != 0)


def pool_anomalies(
    product: np.ndarray,
    square_a: np.ndarray,
    square_b: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    center_a: np.ndarray,
    center_b: np.ndarray,
) -> np.ndarray:
    """Correlation of anomalies over all fields at once, E <a' b'> / sqrt(E <a'^2> E <b'^2>) (WB1).

    a' = a - [a], where [.] is the mean over cells and initial times without weights.

    Args:
        product: E <a b>.
        square_a: E <a^2>.
        square_b: E <b^2>.
        a: E <a>.
        b: E <b>.
        center_a: [a].
        center_b: [b].
    """
    product = product - center_a * b - center_b * a + center_a * center_b
    square_a = square_a - 2 * center_a * a + center_a**2
    square_b = square_b - 2 * center_b * b + center_b**2
    norm = np.sqrt(square_a * square_b)
    return np.divide(product, norm, out=np.zeros_like(product), where=norm > 0)


# sqrt(E <e^2>), the root last (WB2).
RMSE = Metric(
    name="rmse",
    label="RMSE",
    statistics=(squared_error,),
    combine=np.sqrt,
    shown="everywhere",
)
# E sqrt(<e^2>): WB1, equation 1; FourCastNet, Pathak et al., 2022,
# https://arxiv.org/abs/2202.11214, appendix B.
MEAN_ROOT_ERROR = Metric(
    name="rmse", label="RMSE", statistics=(root_squared_error,), shown="everywhere"
)
# E [<a b> / sqrt(<a^2> <b^2>)] (WB2).
ACC = Metric(
    name="acc",
    label="ACC",
    statistics=(anomaly_correlation,),
    best="high",
    units="none",
    shown="everywhere",
)
POOLED_ACC = Metric(
    name="acc",
    label="ACC",
    statistics=(
        anomaly_product,
        squared_forecast_anomaly,
        squared_truth_anomaly,
        forecast_anomaly,
        truth_anomaly,
        unweighted_forecast_anomaly,
        unweighted_truth_anomaly,
    ),
    combine=pool_anomalies,
    best="high",
    units="none",
    shown="everywhere",
)
register(
    RMSE,
    ACC,
    # E <e> (WB2).
    Metric(name="bias", label="bias", statistics=(error,), best="zero"),
    # E <|e|> (WB2).
    Metric(name="mae", label="MAE", statistics=(absolute_error,)),
    # E <e^2> (WB2).
    Metric(name="mse", label="MSE", statistics=(squared_error,), units="squared"),
    # Standard deviation of the forecast's anomalies in space, sqrt(E [<a^2> - <a>^2]):
    # Ben Bouallegue et al., 2024, https://doi.org/10.1175/BAMS-D-23-0162.1 (forecast activity).
    Metric(
        name="activity",
        label="activity",
        statistics=(forecast_activity, truth_activity),
        combine=lambda forecast, truth: np.sqrt(forecast),
        best="high",
    ),
    # Activity of the forecast over that of truth; below 1 where a forecast is too smooth.
    Metric(
        name="standard_deviation_ratio",
        label="standard deviation over truth's",
        statistics=(forecast_activity, truth_activity),
        combine=lambda forecast, truth: safe_ratio(np.sqrt(forecast), np.sqrt(truth)),
        best="one",
        units="none",
        shown="curves",
    ),
    # Its fall below 0.8 is the correlation time of PDE benchmarks, see ``correlation_time``.
    Metric(
        name="correlation",
        label="correlation",
        statistics=(correlation,),
        best="high",
        units="none",
    ),
    # E sqrt(<e^2> / <o^2>): PDEBench, Takamoto et al., 2022, https://arxiv.org/abs/2210.07182
    # (there called nRMSE).
    Metric(
        name="relative_l2",
        label="relative L2",
        statistics=(relative_error,),
        units="none",
        shown="planes",
    ),
    # sqrt(E <e^2> / E <o^2>).
    Metric(
        name="nrmse",
        label="nRMSE",
        statistics=(squared_error, squared_truth),
        combine=lambda square, truth: safe_ratio(np.sqrt(square), np.sqrt(truth)),
        units="none",
    ),
    # E sqrt(<e^2> / <(o - <o>)^2>), 1 for the mean of truth: The Well, Ohana et al., 2024,
    # https://arxiv.org/abs/2412.00568, appendix E.
    Metric(name="vrmse", label="VRMSE", statistics=(variance_scaled_error,), units="none"),
)


def correlation_time(
    values: np.ndarray, lead_hours: np.ndarray, threshold: float = 0.8
) -> np.ndarray:
    """Lead time at which a correlation falls below a threshold, in hours.

    Linear between lead times; NaN where it never does; 0 where the first value is already below.

    Args:
        values: Correlations of shape (lead_time, ...).
        lead_hours: Lead times in hours, of shape (lead_time,).
        threshold: 0.8, as in Kochkov et al., 2021, https://doi.org/10.1073/pnas.2101784118, is
            usual.
    """
    below = values < threshold
    first = below.argmax(axis=0)
    before = np.maximum(first - 1, 0)
    low = np.take_along_axis(values, first[None], 0)[0]
    high = np.take_along_axis(values, before[None], 0)[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        fraction = (high - threshold) / (high - low)
        crossing = lead_hours[before] + fraction * (lead_hours[first] - lead_hours[before])
    crossing = np.where(first == 0, 0.0, crossing)
    return np.where(below.any(axis=0), crossing, np.nan)

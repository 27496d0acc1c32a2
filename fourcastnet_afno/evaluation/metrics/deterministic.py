"""Metrics of single forecasts and of ensemble means.

For a forecast f, truth o and climatology c at the valid time, the weighted mean <.> over the cells
of a region and the mean E over initial times; e = f - o, a = f - c, b = o - c. Weights, and the
choices that differ between benchmarks, are those of the ``Convention``. Without loss

    <a> = <e> + <b>,   <a b> = <e b> + <b^2>,   <a^2> = <e^2> + 2 <e b> + <b^2>.

References:
    WB2: WeatherBench 2, Rasp et al., 2024, https://arxiv.org/abs/2308.15560, section 4.
    WB1: WeatherBench, Rasp et al., 2020, https://arxiv.org/abs/2002.00469, and its ``score.py``.
"""

from operator import attrgetter, methodcaller

import numpy as np

from fourcastnet_afno.evaluation.metrics.metric import (
    Metric,
    Statistic,
    derived,
    register,
    safe_ratio,
)
from fourcastnet_afno.evaluation.statistics.pairs import PairBlock, TruthAt

# An anomaly this much smaller than truth's (in mean square) is rounding: there is nothing to
# correlate, as for the climatology itself.
_ROUNDING = 1e-13


def _of_truth(name: str, mean: str) -> Statistic:
    """A mean of truth alone, see ``PairBlock.truth_mean``."""
    return Statistic(name, methodcaller("truth_mean", mean), complete=methodcaller("mean", mean))


def _absolute_error(pair: PairBlock) -> np.ndarray:
    return pair.mean(np.abs(pair.error, out=pair.scratch))


def _mean_error(pair: PairBlock) -> np.ndarray:
    return pair.mean(pair.error)


def _error_truth(pair: PairBlock) -> np.ndarray:
    return pair.mean_product(pair.error, pair.centered)


def _unweighted_error(pair: PairBlock) -> np.ndarray:
    return pair.unweighted_mean(pair.error)


# With o' = o - [o], where [.] is the mean over the grid without weights: <e>, <e^2>, <|e|>, <e b>,
# <e o'>, [e], <b>, <b^2>, <c^2>, [b], <o'>, <o'^2> and <o^2>.
ERROR = Statistic("error", _mean_error)
SQUARED_ERROR = Statistic("squared_error", attrgetter("squared_error"))
ABSOLUTE_ERROR = Statistic("absolute_error", _absolute_error)
ERROR_ANOMALY = Statistic("error_anomaly", PairBlock.mean_error_anomaly)
ERROR_TRUTH = Statistic("error_truth", _error_truth)
UNWEIGHTED_ERROR = Statistic("unweighted_error", _unweighted_error)
TRUTH_ANOMALY = _of_truth("truth_anomaly", "anomaly")
SQUARED_TRUTH_ANOMALY = _of_truth("squared_truth_anomaly", "squared_anomaly")
SQUARED_CLIMATOLOGY = _of_truth("squared_climatology", "squared_climatology")
UNWEIGHTED_TRUTH_ANOMALY = _of_truth("unweighted_truth_anomaly", "unweighted_anomaly")
CENTERED_TRUTH = _of_truth("truth", "truth")
SQUARED_DEVIATION = _of_truth("squared_deviation", "squared_deviation")
SQUARED_TRUTH = _of_truth("squared_truth", "squared_truth")
MISSING = Statistic("missing", PairBlock.num_missing, complete=TruthAt.no_cells)


@derived(SQUARED_ERROR)
def root_squared_error(e2: np.ndarray) -> np.ndarray:
    """sqrt(<e^2>)."""
    return np.sqrt(e2)


@derived(ERROR, TRUTH_ANOMALY)
def forecast_anomaly(e: np.ndarray, b: np.ndarray) -> np.ndarray:
    """<a>."""
    return e + b


@derived(UNWEIGHTED_ERROR, UNWEIGHTED_TRUTH_ANOMALY)
def unweighted_forecast_anomaly(e: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[a]."""
    return e + b


@derived(SQUARED_ERROR, ERROR_ANOMALY, SQUARED_TRUTH_ANOMALY, SQUARED_CLIMATOLOGY)
def squared_forecast_anomaly(
    e2: np.ndarray, eb: np.ndarray, b2: np.ndarray, c2: np.ndarray
) -> np.ndarray:
    """<a^2>; 0 where it is rounding."""
    a2 = e2 + 2 * eb + b2
    return np.where(a2 <= _ROUNDING * b2 + 1e-24 * c2, 0.0, a2)


@derived(ERROR_ANOMALY, SQUARED_TRUTH_ANOMALY, squared_forecast_anomaly)
def anomaly_product(eb: np.ndarray, b2: np.ndarray, a2: np.ndarray) -> np.ndarray:
    """<a b>."""
    return np.where(a2 == 0, 0.0, eb + b2)


@derived(anomaly_product, squared_forecast_anomaly, SQUARED_TRUTH_ANOMALY)
def anomaly_correlation(ab: np.ndarray, a2: np.ndarray, b2: np.ndarray) -> np.ndarray:
    """<a b> / sqrt(<a^2> <b^2>): not centered; 0 / 0, as for the climatology itself, is 0."""
    return _ratio(ab, np.sqrt(a2 * b2))


@derived(squared_forecast_anomaly, forecast_anomaly)
def forecast_activity(a2: np.ndarray, a: np.ndarray) -> np.ndarray:
    """<a^2> - <a>^2."""
    return _variance(a2, a)


@derived(SQUARED_TRUTH_ANOMALY, TRUTH_ANOMALY)
def truth_activity(b2: np.ndarray, b: np.ndarray) -> np.ndarray:
    """<b^2> - <b>^2."""
    return _variance(b2, b)


@derived(SQUARED_DEVIATION, CENTERED_TRUTH)
def truth_variance(o2: np.ndarray, o: np.ndarray) -> np.ndarray:
    """<o'^2> - <o'>^2."""
    return _variance(o2, o)


@derived(ERROR, SQUARED_ERROR, ERROR_TRUTH, CENTERED_TRUTH, SQUARED_DEVIATION, truth_variance)
def correlation(
    e: np.ndarray,
    e2: np.ndarray,
    eo: np.ndarray,
    o: np.ndarray,
    o2: np.ndarray,
    variance: np.ndarray,
) -> np.ndarray:
    """Pearson correlation of forecast and truth in space."""
    norm = np.sqrt(_variance(e2 + 2 * eo + o2, e + o) * variance)
    return _ratio(np.where(norm == 0, 0.0, eo - e * o + variance), norm)


@derived(SQUARED_ERROR, SQUARED_TRUTH)
def relative_error(e2: np.ndarray, o2: np.ndarray) -> np.ndarray:
    """sqrt(<e^2> / <o^2>)."""
    return _ratio(np.sqrt(e2), np.sqrt(o2))


@derived(SQUARED_ERROR, truth_variance)
def variance_scaled_error(e2: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """sqrt(<e^2> / <(o - <o>)^2>)."""
    return _ratio(np.sqrt(e2), np.sqrt(variance))


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
    statistics=(SQUARED_ERROR,),
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
        SQUARED_TRUTH_ANOMALY,
        forecast_anomaly,
        TRUTH_ANOMALY,
        unweighted_forecast_anomaly,
        UNWEIGHTED_TRUTH_ANOMALY,
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
    Metric(name="bias", label="bias", statistics=(ERROR,), best="zero"),
    # E <|e|> (WB2).
    Metric(name="mae", label="MAE", statistics=(ABSOLUTE_ERROR,)),
    # E <e^2> (WB2).
    Metric(name="mse", label="MSE", statistics=(SQUARED_ERROR,), units="squared"),
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
        statistics=(SQUARED_ERROR, SQUARED_TRUTH),
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

"""Metrics of single forecasts and of ensemble means.

For a forecast f, truth o and climatology c at the valid time, the weighted mean <.> over the cells
of a region and the mean E over initial times; e = f - o, a = f - c, b = o - c. Weights, and the
choices that differ between benchmarks, are those of the ``Convention``. Without loss

    <a> = <e> + <b>,   <a b> = <e b> + <b^2>,   <a^2> = <e^2> + 2 <e b> + <b^2>.

References:
    WB2: WeatherBench 2, Rasp et al., 2024, https://arxiv.org/abs/2308.15560, section 4.
    WB1: WeatherBench, Rasp et al., 2020, https://arxiv.org/abs/2002.00469, and its ``score.py``.
"""

from dataclasses import replace
from functools import partial
from operator import attrgetter, methodcaller

import numpy as np

from fourcastnet_afno.evaluation.metrics.metric import (
    Metric,
    Statistic,
    computed_together,
    derived,
    register,
    safe_ratio,
)
from fourcastnet_afno.evaluation.statistics.pairs import PairBlock, TruthAt

# An anomaly this much smaller than truth's (in mean square) is rounding: there is nothing to
# correlate, as for the climatology itself.
_ROUNDING = 1e-13
CORRELATED = 0.8  # the threshold of ``correlation_time``


def _variance(square: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """The second moment about the mean; 0 where it is rounding, as in a region of one cell."""
    variance = square - mean**2
    return np.where(variance <= _ROUNDING * square, 0.0, variance)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """The quotient; 0 for 0 / 0; NaN stays."""
    otherwise = np.where(numerator == 0, 0.0, np.where(np.isnan(numerator), np.nan, np.inf))
    return np.divide(numerator, denominator, out=otherwise, where=denominator != 0)


def _of_truth(name: str, mean: str) -> Statistic:
    """A mean of truth alone, see ``PairBlock.truth_mean``."""
    return Statistic(name, methodcaller("truth_mean", mean), complete=methodcaller("mean", mean))


# <e>, <e^2>, <|e|>, <e b>, <e o'>, [e]; o' = o - [o], where [.] is the mean without weights.
ERROR = Statistic("error", lambda pair: pair.mean(pair.error))
SQUARED_ERROR = Statistic("squared_error", attrgetter("squared_error"))
_ABSOLUTE_ERROR = Statistic(
    "absolute_error", lambda pair: pair.mean(np.abs(pair.error, out=pair.scratch))
)
_ERROR_ANOMALY = Statistic("error_anomaly", PairBlock.mean_error_anomaly)
_ERROR_TRUTH = Statistic("error_truth", lambda pair: pair.mean_product(pair.error, pair.centered))
_UNWEIGHTED_ERROR = Statistic("unweighted_error", lambda pair: pair.unweighted_mean(pair.error))
MISSING = Statistic("missing", PairBlock.num_missing, complete=TruthAt.no_cells)
# <b>, <b^2>, [b], <c^2>, <o'>, <o'^2>, <o^2>.
_TRUTH_ANOMALY = _of_truth("truth_anomaly", "anomaly")
_SQUARED_TRUTH_ANOMALY = _of_truth("squared_truth_anomaly", "squared_anomaly")
_UNWEIGHTED_TRUTH_ANOMALY = _of_truth("unweighted_truth_anomaly", "unweighted_anomaly")
_SQUARED_CLIMATOLOGY = _of_truth("squared_climatology", "squared_climatology")
_CENTERED_TRUTH = _of_truth("truth", "truth")
_SQUARED_DEVIATION = _of_truth("squared_deviation", "squared_deviation")
_SQUARED_TRUTH = _of_truth("squared_truth", "squared_truth")


@derived(SQUARED_ERROR, _ERROR_ANOMALY, _SQUARED_TRUTH_ANOMALY, _SQUARED_CLIMATOLOGY)
def squared_forecast_anomaly(
    e2: np.ndarray, eb: np.ndarray, b2: np.ndarray, c2: np.ndarray
) -> np.ndarray:
    """<a^2>; 0 where it is rounding."""
    a2 = e2 + 2 * eb + b2
    return np.where(a2 <= _ROUNDING * b2 + 1e-24 * c2, 0.0, a2)


@derived(_ERROR_ANOMALY, _SQUARED_TRUTH_ANOMALY, squared_forecast_anomaly)
def anomaly_product(eb: np.ndarray, b2: np.ndarray, a2: np.ndarray) -> np.ndarray:
    """<a b>."""
    return np.where(a2 == 0, 0.0, eb + b2)


@derived(anomaly_product, squared_forecast_anomaly, _SQUARED_TRUTH_ANOMALY)
def anomaly_correlation(ab: np.ndarray, a2: np.ndarray, b2: np.ndarray) -> np.ndarray:
    """<a b> / sqrt(<a^2> <b^2>): not centered; 0 / 0, as for the climatology itself, is 0."""
    return _ratio(ab, np.sqrt(a2 * b2))


_FORECAST_ANOMALY = Statistic("forecast_anomaly", np.add, (ERROR, _TRUTH_ANOMALY))
_UNWEIGHTED_FORECAST_ANOMALY = Statistic(
    "unweighted_forecast_anomaly", np.add, (_UNWEIGHTED_ERROR, _UNWEIGHTED_TRUTH_ANOMALY)
)
_ACTIVITIES = (
    Statistic("forecast_activity", _variance, (squared_forecast_anomaly, _FORECAST_ANOMALY)),
    Statistic("truth_activity", _variance, (_SQUARED_TRUTH_ANOMALY, _TRUTH_ANOMALY)),
)
_TRUTH_VARIANCE = Statistic("truth_variance", _variance, (_SQUARED_DEVIATION, _CENTERED_TRUTH))


@derived(ERROR, SQUARED_ERROR, _ERROR_TRUTH, _CENTERED_TRUTH, _SQUARED_DEVIATION, _TRUTH_VARIANCE)
def correlation(
    e: np.ndarray, e2: np.ndarray, eo: np.ndarray, o: np.ndarray, o2: np.ndarray, var: np.ndarray
) -> np.ndarray:
    """Pearson correlation of forecast and truth in space."""
    norm = np.sqrt(_variance(e2 + 2 * eo + o2, e + o) * var)
    return _ratio(np.where(norm == 0, 0.0, eo - e * o + var), norm)


_PATCH_NAMES = tuple(f"{side}_patch_energy_{a}" for side in ("forecast", "truth") for a in "xy")


def _patch_energies(pair: PairBlock) -> dict[str, np.ndarray]:
    energies = pair.patch_energies()
    if energies is None:
        return {}
    return dict(zip(_PATCH_NAMES, np.moveaxis(energies, -2, 0), strict=True))


def mean_patch_ratio(x: np.ndarray, y: np.ndarray, ox: np.ndarray, oy: np.ndarray) -> np.ndarray:
    """The mean of x / ox and y / oy; one of them where the other axis has no energy."""
    along_rows, along_columns = safe_ratio(x, ox), safe_ratio(y, oy)
    first = np.where(np.isnan(along_rows), along_columns, along_rows)
    return (first + np.where(np.isnan(along_columns), along_rows, along_columns)) / 2


def _relative_root(square: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return _ratio(np.sqrt(square), np.sqrt(scale))


def _root_ratio(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return safe_ratio(np.sqrt(first), np.sqrt(second))


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
    The arguments are E <a b>, E <a^2>, E <b^2>, E <a>, E <b>, [a] and [b].
    """
    product = product - center_a * b - center_b * a + center_a * center_b
    square_a = square_a - 2 * center_a * a + center_a**2
    square_b = square_b - 2 * center_b * b + center_b**2
    norm = np.sqrt(square_a * square_b)
    return np.divide(product, norm, out=np.zeros_like(product), where=norm > 0)


# E sqrt(<e^2>): FourCastNet, Pathak et al., 2022, https://arxiv.org/abs/2202.11214, appendix B.
MEAN_ROOT_ERROR = Metric(
    name="rmse",
    label="RMSE",
    statistics=(Statistic("root_squared_error", np.sqrt, (SQUARED_ERROR,)),),
    shown="everywhere",
)
# E [<a b> / sqrt(<a^2> <b^2>)] (WB2).
_ACC = Metric(
    name="acc", label="ACC", statistics=(anomaly_correlation,), best="high", units="none",
    shown="everywhere",
)  # fmt: skip
POOLED_ACC = replace(
    _ACC,
    statistics=(
        anomaly_product, squared_forecast_anomaly, _SQUARED_TRUTH_ANOMALY, _FORECAST_ANOMALY,
        _TRUTH_ANOMALY, _UNWEIGHTED_FORECAST_ANOMALY, _UNWEIGHTED_TRUTH_ANOMALY,
    ),
    combine=pool_anomalies,
)  # fmt: skip
_unitless = partial(Metric, units="none")
register(
    # sqrt(E <e^2>), the root last (WB2, and WB1's score.py).
    Metric(
        name="rmse", label="RMSE", statistics=(SQUARED_ERROR,), combine=np.sqrt, shown="everywhere"
    ),
    _ACC,
    # E <e>, E <|e|> and E <e^2> (WB2).
    Metric(name="bias", label="bias", statistics=(ERROR,), best="zero"),
    Metric(name="mae", label="MAE", statistics=(_ABSOLUTE_ERROR,)),
    Metric(name="mse", label="MSE", statistics=(SQUARED_ERROR,), units="squared"),
    # Standard deviation of the forecast's anomalies in space, sqrt(E [<a^2> - <a>^2]):
    # Ben Bouallegue et al., 2024, https://doi.org/10.1175/BAMS-D-23-0162.1 (forecast activity).
    Metric(
        name="activity", label="activity", statistics=_ACTIVITIES, best="high",
        combine=lambda forecast, truth: np.sqrt(forecast),
    ),
    # Activity of the forecast over that of truth; below 1 where a forecast is too smooth.
    _unitless(
        name="standard_deviation_ratio", label="standard deviation over truth's",
        statistics=_ACTIVITIES, combine=_root_ratio, best="one", shown="curves",
    ),
    # Its fall below 0.8 is the correlation time of PDE benchmarks, see ``correlation_time``.
    _unitless(name="correlation", label="correlation", statistics=(correlation,), best="high"),
    # E sqrt(<e^2> / <o^2>): PDEBench, Takamoto et al., 2022, https://arxiv.org/abs/2210.07182
    # (there called nRMSE).
    _unitless(
        name="relative_l2", label="relative L2", shown="planes",
        statistics=(Statistic("relative_error", _relative_root, (SQUARED_ERROR, _SQUARED_TRUTH)),),
    ),
    # sqrt(E <e^2> / E <o^2>).
    _unitless(
        name="nrmse", label="nRMSE", statistics=(SQUARED_ERROR, _SQUARED_TRUTH),
        combine=_root_ratio,
    ),
    # E sqrt(<e^2> / <(o - <o>)^2>), 1 for the mean of truth: The Well, Ohana et al., 2024,
    # https://arxiv.org/abs/2412.00568, appendix E.
    _unitless(
        name="vrmse", label="VRMSE",
        statistics=(
            Statistic("variance_scaled_error", _relative_root, (SQUARED_ERROR, _TRUTH_VARIANCE)),
        ),
    ),
    # Of anomalies; above 1 where edges between patches show, see ``statistics.patches``.
    _unitless(
        name="patch_energy_ratio", label="energy at patches over truth's", best="one",
        statistics=computed_together(_patch_energies, *_PATCH_NAMES), combine=mean_patch_ratio,
        shown="curves",
    ),
)  # fmt: skip


def correlation_time(
    values: np.ndarray, lead_hours: np.ndarray, threshold: float = CORRELATED
) -> np.ndarray:
    """Lead time at which a correlation falls below a threshold, in hours.

    Correlations have the shape (lead_time, ...). Linear between the lead times that have one; 0
    where the first value is already below; NaN where no value is, and where the values before the
    first one below are missing. The threshold 0.8, as in Kochkov et al., 2021,
    https://doi.org/10.1073/pnas.2101784118, is usual.
    """
    below = values < threshold
    first = below.argmax(axis=0)
    # The last lead time before the fall that has a correlation.
    indices = np.arange(len(values)).reshape(-1, *[1] * (values.ndim - 1))
    before = np.where((indices < first) & (values >= threshold), indices, 0).max(axis=0)
    low = np.take_along_axis(values, first[None], 0)[0]
    high = np.take_along_axis(values, before[None], 0)[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        fraction = (high - threshold) / (high - low)
        crossing = lead_hours[before] + fraction * (lead_hours[first] - lead_hours[before])
    crossing = np.where(first == 0, 0.0, crossing)
    return np.where(below.any(axis=0), crossing, np.nan)

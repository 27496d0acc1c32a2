"""Statistics of each pair of forecast and truth that follow from the means of their products.

With the weighted means <e>, <e^2>, <e b> and <e o'> of ``statistics``, the forecast's anomaly is
a = e + b, and without loss

    <a> = <e> + <b>,   <a b> = <e b> + <b^2>,   <a^2> = <e^2> + 2 <e b> + <b^2>.
"""

from collections.abc import Callable, Iterable, Mapping

import numpy as np

# An anomaly this much smaller than truth's (in mean square) is rounding: there is nothing to
# correlate, as for the climatology itself.
_ROUNDING = 1e-13


def inputs_of(needed: Iterable[str]) -> frozenset[str]:
    """Products that only some of ``DERIVED`` are made of, as the needed ones."""
    return frozenset(name for statistic in needed for name in _INPUTS.get(statistic, ()))


_INPUTS: dict[str, tuple[str, ...]] = {
    "absolute_error": ("absolute_error",),
    "correlation": ("error_truth", "centered"),
    "variance_scaled_error": ("centered",),
    "squared_truth": ("squared_truth",),
    "relative_error": ("squared_truth",),
}


def derived_statistics(
    means: Mapping[str, np.ndarray], needed: Iterable[str]
) -> dict[str, np.ndarray]:
    """Statistics of each pair of forecast and truth, which metrics average over initial times.

    Args:
        means: Means of ``ErrorStatistics`` and ``TruthBlock`` by name, of one shape.
        needed: Names of ``DERIVED``.

    Returns:
        The needed statistics by name, of the same shape.
    """
    return {name: DERIVED[name](means) for name in needed if name in DERIVED}


_Means = Mapping[str, np.ndarray]


def _squared_forecast_anomaly(means: _Means) -> np.ndarray:
    b2 = means["squared_anomaly"]
    a2 = means["squared_error"] + 2 * means["error_anomaly"] + b2
    tiny = _ROUNDING * b2 + 1e-24 * means["squared_climatology"]
    return np.where(a2 <= tiny, 0.0, a2)


def _anomaly_product(means: _Means) -> np.ndarray:
    product = means["error_anomaly"] + means["squared_anomaly"]
    return np.where(_squared_forecast_anomaly(means) == 0, 0.0, product)


def _anomaly_correlation(means: _Means) -> np.ndarray:
    norms = np.sqrt(_squared_forecast_anomaly(means) * means["squared_anomaly"])
    return _ratio(_anomaly_product(means), norms)


def _variance(square: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """The second moment about the mean; 0 where it is rounding, as in a region of one cell."""
    variance = square - mean**2
    return np.where(variance <= _ROUNDING * square, 0.0, variance)


def _truth_variance(means: _Means) -> np.ndarray:
    return _variance(means["squared_deviation"], means["truth"])


def _correlation(means: _Means) -> np.ndarray:
    truth, error = _truth_variance(means), means["error"]
    mixed = means["error_truth"] - error * means["truth"]
    square = means["squared_error"] + 2 * means["error_truth"] + means["squared_deviation"]
    forecast = _variance(square, error + means["truth"])
    norm = np.sqrt(forecast * truth)
    return _ratio(np.where(norm == 0, 0.0, mixed + truth), norm)


DERIVED: dict[str, Callable[[_Means], np.ndarray]] = {
    "error": lambda m: m["error"],
    "squared_error": lambda m: m["squared_error"],
    "root_squared_error": lambda m: np.sqrt(m["squared_error"]),
    "absolute_error": lambda m: m["absolute_error"],
    "missing": lambda m: m["missing"],
    "forecast_anomaly": lambda m: m["error"] + m["anomaly"],
    "truth_anomaly": lambda m: m["anomaly"],
    "plain_forecast_anomaly": lambda m: m["plain_error"] + m["plain_anomaly"],
    "plain_truth_anomaly": lambda m: m["plain_anomaly"],
    "squared_forecast_anomaly": _squared_forecast_anomaly,
    "squared_truth_anomaly": lambda m: m["squared_anomaly"],
    "anomaly_product": _anomaly_product,
    "anomaly_correlation": _anomaly_correlation,
    "forecast_activity": lambda m: _variance(
        _squared_forecast_anomaly(m), m["error"] + m["anomaly"]
    ),
    "truth_activity": lambda m: _variance(m["squared_anomaly"], m["anomaly"]),
    "correlation": _correlation,
    "squared_truth": lambda m: m["squared_truth"],
    "relative_error": lambda m: _ratio(np.sqrt(m["squared_error"]), np.sqrt(m["squared_truth"])),
    "variance_scaled_error": lambda m: _ratio(
        np.sqrt(m["squared_error"]), np.sqrt(_truth_variance(m))
    ),
}


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """The quotient; 0 for 0 / 0; NaN stays."""
    otherwise = np.where(numerator == 0, 0.0, np.where(np.isnan(numerator), np.nan, np.inf))
    return np.divide(numerator, denominator, out=otherwise, where=denominator != 0)

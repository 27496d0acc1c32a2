"""Statistics of fields: weighted means over regions, from which the metrics are made.

For the error e = f - o of a forecast f against truth o, and truth's anomaly b = o - c from the
climatology c, every field gives the weighted means <e>, <e^2>, <|e|>, <e b> and <e o'>; truth alone
gives <b>, <b^2>, <o'>, <o'^2> and <o^2>, where o' is o less its plain mean over the grid, as the
variance of a temperature would drown in the square of its mean. The rest follows without loss, as
the forecast's anomaly a = e + b:

    <a> = <e> + <b>,   <a b> = <e b> + <b^2>,   <a^2> = <e^2> + 2 <e b> + <b^2>.

Everything is summed in float64 within each field, so that no result depends on how fields are
grouped. Where values are missing (NaN) the means are over the cells that have both forecast and
truth.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

# An anomaly this much smaller than truth's (in mean square) is rounding: there is nothing to
# correlate, as for the climatology itself.
_ROUNDING = 1e-13


@dataclass(frozen=True)
class Averager:
    """Weighted means of fields over regions.

    Args:
        weights: float64 of shape (region, latitude, longitude), with sum 1 in each region.
    """

    weights: np.ndarray

    def __post_init__(self) -> None:
        by_row = self.weights[..., :1]
        zonal = np.array_equal(self.weights, np.broadcast_to(by_row, self.weights.shape))
        object.__setattr__(self, "_rows", by_row[..., 0].T.copy() if zonal else None)
        object.__setattr__(self, "_ones", np.ones(self.weights.shape[-1]))
        object.__setattr__(self, "_cells", self.weights.reshape(len(self.weights), -1).T.copy())

    @property
    def num_regions(self) -> int:
        """Number of regions."""
        return len(self.weights)

    def mean(self, fields: np.ndarray) -> np.ndarray:
        """Means (field, region) of fields (field, latitude, longitude)."""
        rows: np.ndarray | None = self._rows  # type: ignore[attr-defined]
        if rows is not None:  # the same weight along each row: sum the rows first
            return np.vecdot(fields, self._ones) @ rows  # type: ignore[attr-defined]
        return self._by_cell(fields)

    def mean_product(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Means (field, region) of the product of two arrays of fields."""
        rows: np.ndarray | None = self._rows  # type: ignore[attr-defined]
        if rows is not None:
            return np.vecdot(first, second) @ rows
        return self._by_cell(first * second)

    def _by_cell(self, fields: np.ndarray) -> np.ndarray:
        cells: np.ndarray = self._cells  # type: ignore[attr-defined]
        return fields.astype(np.float64, copy=False).reshape(len(fields), -1) @ cells


@dataclass(frozen=True)
class TruthBlock:
    """Truth and what follows from it alone, at some times.

    Args:
        fields: float64 of shape (time, latitude, longitude).
        anomalies: Fields minus the climatology, likewise.
        centered: Fields minus their plain means over the grid, likewise.
        means: ``anomaly``, ``squared_anomaly``, ``truth`` and ``squared_deviation`` of the centered
            fields, ``squared_truth`` and ``squared_climatology``, of shape (time, region);
            ``plain_anomaly`` without weights.
    """

    fields: np.ndarray
    anomalies: np.ndarray
    centered: np.ndarray
    means: dict[str, np.ndarray]

    @classmethod
    def of(
        cls,
        fields: np.ndarray,
        climatology: np.ndarray,
        averager: Averager,
        plain: Averager | None = None,
    ) -> "TruthBlock":
        """Compute the statistics of truth; ``plain`` averages without weights, where needed."""
        anomalies = fields - climatology
        present = None if np.isfinite(anomalies).all() else np.isfinite(anomalies)
        centered = fields - _plain_means(fields, present)

        def square(values: np.ndarray) -> np.ndarray:
            if present is None:
                return averager.mean_product(values, values)
            return masked_mean(averager, values**2, present)

        means = {
            "anomaly": masked_mean(averager, anomalies, present),
            "squared_anomaly": square(anomalies),
            "truth": masked_mean(averager, centered, present),
            "squared_deviation": square(centered),
            "squared_truth": square(fields),
            "squared_climatology": square(climatology),
        }
        if plain is not None:
            means["plain_anomaly"] = masked_mean(plain, anomalies, present)
        return cls(fields, anomalies, centered, means)


def _plain_means(fields: np.ndarray, present: np.ndarray | None) -> np.ndarray:
    """Means over the grid without weights, (time, 1, 1), over the cells that are present."""
    if present is None:
        return fields.mean(axis=(1, 2), keepdims=True)
    counts = present.sum(axis=(1, 2), keepdims=True)
    return np.where(present, fields, 0.0).sum(axis=(1, 2), keepdims=True) / np.maximum(counts, 1)


def masked_mean(averager: Averager, values: np.ndarray, present: np.ndarray | None) -> np.ndarray:
    """Means over the cells that are present; NaN where a region has none."""
    if present is None:
        return averager.mean(values)
    sums = averager.mean(np.where(present, values, 0.0))
    shares = averager.mean(present.astype(np.float64))
    return np.divide(sums, shares, out=np.full_like(sums, np.nan), where=shares > 0)


class ErrorStatistics:
    """Means of errors, computed in buffers that are used again.

    Args:
        averager: Regions and weights.
        num_fields: Fields that fit into the buffers.
        shape: Latitudes and longitudes.
        needed: Which of ``absolute_error`` and ``error_truth`` are computed beside the others.
        plain: Averages without weights, for ``plain_error``.
    """

    def __init__(
        self,
        averager: Averager,
        num_fields: int,
        shape: tuple[int, ...],
        needed: frozenset[str],
        plain: Averager | None = None,
    ) -> None:
        self._averager, self._needed, self._plain = averager, needed, plain
        self._error = np.empty((num_fields, *shape))
        self._absolute = np.empty((num_fields, *shape))

    def __call__(
        self,
        forecast: np.ndarray,
        truth: np.ndarray,
        anomalies: np.ndarray,
        centered: np.ndarray,
    ) -> dict[str, np.ndarray]:
        """Means by name, of shape (field, region), and ``missing``, the number of missing cells.

        Args:
            forecast: Fields of shape (field, latitude, longitude), as many as the buffers hold.
            truth: At the valid times, float64, likewise.
            anomalies: Truth minus climatology, likewise.
            centered: Truth minus its plain mean, likewise.
        """
        error, absolute = self._error[: len(forecast)], self._absolute[: len(forecast)]
        np.copyto(error, forecast)
        np.subtract(error, truth, out=error)
        average = self._averager
        squared = average.mean_product(error, error)
        if not np.isfinite(squared).all():
            return self._masked(forecast, truth, anomalies, centered)
        result = {
            "error": average.mean(error),
            "squared_error": squared,
            "error_anomaly": average.mean_product(error, anomalies),
            "missing": np.zeros_like(squared),
        }
        if "error_truth" in self._needed:
            result["error_truth"] = average.mean_product(error, centered)
        if "absolute_error" in self._needed:
            result["absolute_error"] = average.mean(np.abs(error, out=absolute))
        if self._plain is not None:
            result["plain_error"] = self._plain.mean(error)
        return result

    def _masked(
        self,
        forecast: np.ndarray,
        truth: np.ndarray,
        anomalies: np.ndarray,
        centered: np.ndarray,
    ) -> dict[str, np.ndarray]:
        """With truth's own means over the same cells, which differ where forecasts lack some."""
        error = forecast - truth
        present = np.isfinite(error) & np.isfinite(anomalies)
        values = {
            "error": error,
            "squared_error": error**2,
            "error_anomaly": error * anomalies,
            "error_truth": error * centered,
            "absolute_error": np.abs(error),
            "anomaly": anomalies,
            "squared_anomaly": anomalies**2,
            "truth": centered,
            "squared_deviation": centered**2,
            "squared_truth": truth**2,
        }
        result = {n: masked_mean(self._averager, v, present) for n, v in values.items()}
        if self._plain is not None:
            result["plain_error"] = masked_mean(self._plain, error, present)
            result["plain_anomaly"] = masked_mean(self._plain, anomalies, present)
        missing = (~present).sum(axis=(1, 2))[:, None]
        return result | {"missing": np.broadcast_to(missing, result["error"].shape).astype(float)}


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

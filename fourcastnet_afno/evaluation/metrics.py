"""Statistics and metrics of a forecast f, truth o and climatology c on a sphere.

With the area-weighted mean <.> over a field and the average E over initial times,

    RMSE = sqrt(E <(f - o)^2>)                                  (the root comes last)
    ACC  = E [ <(f - c)(o - c)> / sqrt(<(f - c)^2> <(o - c)^2>) ]
    bias = E <f - o>

The ACC of the climatology itself, 0 / 0, is defined as 0.

References:
    WeatherBench 2, Rasp et al., 2024, https://arxiv.org/abs/2308.15560, section 4 (RMSE, ACC,
    bias).
"""

import numpy as np


def field_statistics(
    predictions: np.ndarray, targets: np.ndarray, climatology: np.ndarray, area_weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Statistics of each field, whose averages over initial times give the metrics.

    Args:
        predictions: Forecasts of shape (..., latitude, longitude).
        targets: Truth at the valid times, likewise.
        climatology: Climatology at the valid times, likewise.
        area_weights: Cell areas with mean 1, of shape (latitude, longitude).

    Returns:
        ``squared_error``, ``error`` and ``anomaly_correlation``, float64 without the last two axes.
    """
    weights = area_weights / area_weights.size

    def mean(field: np.ndarray) -> np.ndarray:
        return np.einsum("...yx,yx->...", field, weights)

    error = predictions - targets
    ours, theirs = predictions - climatology, targets - climatology
    norms = np.sqrt(mean(ours**2) * mean(theirs**2))
    # A forecast equal to the climatology up to float32 rounding has no anomaly to correlate.
    rounding = 1e-12 * np.sqrt(mean(climatology**2) * mean(theirs**2))
    has_anomaly = norms > rounding
    correlation = np.where(has_anomaly, mean(ours * theirs) / np.where(has_anomaly, norms, 1), 0)
    return {
        "squared_error": mean(error**2),
        "error": mean(error),
        "anomaly_correlation": correlation,
    }


def metrics(means: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Metrics from statistics that are averaged over initial times."""
    return {
        "rmse": np.sqrt(means["squared_error"]),
        "acc": means["anomaly_correlation"],
        "bias": means["error"],
    }


def zonal_energy_spectrum(fields: np.ndarray, area_weights: np.ndarray) -> np.ndarray:
    """Mean square of each zonal wavenumber, averaged over latitudes by area.

    The sum over wavenumbers is the area-weighted mean square of the field (Parseval).

    Args:
        fields: Values on a periodic grid, of shape (..., latitude, longitude).
        area_weights: Cell areas with mean 1, of shape (latitude, longitude).

    Returns:
        float64 of shape (..., zonal_wavenumber), in the squared units of the field.
    """
    length = fields.shape[-1]
    power = np.abs(np.fft.rfft(fields, axis=-1)) ** 2 / length**2
    power[..., 1 : (length + 1) // 2] *= 2
    return np.einsum("...yk,y->...k", power, area_weights[:, 0] / len(area_weights))

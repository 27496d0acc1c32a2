"""Zonal energy spectra and the effective resolution.

With the discrete Fourier transform F_k(y) of row y over its N longitudes, the energy of zonal
wavenumber k is

    S_k = sum_y w_y m_k |F_k(y)|^2 / N^2,    m_k = 1 for k = 0 and k = N / 2, else 2,

with the area weights w_y of the rows (sum 1). The sum over k is the weighted mean
square (Parseval).

References:
    WeatherBench 2, Rasp et al., 2024, https://arxiv.org/abs/2308.15560, section 4 (spectra).
"""

from functools import lru_cache

import numpy as np
import scipy.fft

_MAX_MATRIX = 80  # columns up to which the product with a matrix is the faster transform
_EARTH_CIRCUMFERENCE_KM = 40030.0


def zonal_energy_spectrum(fields: np.ndarray, area_weights: np.ndarray) -> np.ndarray:
    """Mean square of each zonal wavenumber, averaged over latitudes by area.

    The sum over wavenumbers is the area-weighted mean square of the field (Parseval). A field's
    spectrum is computed in the precision of the field.

    Args:
        fields: Values on a periodic grid, of shape (..., latitude, longitude).
        area_weights: Cell areas with mean 1, of shape (latitude, longitude).

    Returns:
        float64 of shape (..., zonal_wavenumber), in the squared units of the field.
    """
    rows, length = fields.shape[-2:]
    num_cosines = length // 2 + 1
    if length <= _MAX_MATRIX:
        matrix = _fourier_matrix(length, fields.dtype.char)
        # One product for each field, so that its rounding does not depend on its neighbors.
        with np.errstate(invalid="ignore"):  # what is not finite stays so, and is left out later
            parts = np.matmul(np.ascontiguousarray(fields), matrix)
    else:
        coefficients = np.asarray(scipy.fft.rfft(fields, axis=-1))
        coefficients[..., 1 : (length + 1) // 2] *= np.sqrt(2)
        parts = coefficients.view(np.finfo(coefficients.dtype).dtype)
    weights = area_weights[:, 0] / rows / length**2
    squares = np.matmul(weights.astype(parts.dtype), np.multiply(parts, parts, out=parts))
    if length > _MAX_MATRIX:
        return squares[..., ::2].astype(np.float64) + squares[..., 1::2]
    power = squares[..., :num_cosines].astype(np.float64)
    power[..., 1 : length - num_cosines + 1] += squares[..., num_cosines:]
    return power


@lru_cache
def _fourier_matrix(length: int, kind: str) -> np.ndarray:
    """Cosines and sines (longitude, part) times the root of m_k."""
    wavenumbers = np.arange(length // 2 + 1)
    angles = 2 * np.pi / length * (np.outer(np.arange(length), wavenumbers) % length)
    twice = slice(1, (length + 1) // 2)
    cosines, sines = np.cos(angles), np.sqrt(2) * np.sin(angles[:, twice])
    cosines[:, twice] *= np.sqrt(2)
    return np.concatenate([cosines, sines], axis=1).astype(kind)


def effective_wavenumber(
    spectrum: np.ndarray, truth_spectrum: np.ndarray, share: float = 0.5
) -> np.ndarray:
    """The highest zonal wavenumber up to which a forecast has at least a share of truth's energy.

    Args:
        spectrum: Energies of a forecast, of shape (..., zonal_wavenumber).
        truth_spectrum: Energies of truth, likewise.
        share: The share below which a scale counts as unresolved.

    Returns:
        Wavenumbers as float64 of shape (...); 0 where already wavenumber 1 has less.
    """
    low = spectrum[..., 1:] < share * truth_spectrum[..., 1:]
    length = low.shape[-1]
    return np.where(low.any(axis=-1), low.argmax(axis=-1), length).astype(np.float64)


def wavelength_km(wavenumber: np.ndarray) -> np.ndarray:
    """Wavelength at the equator in km; infinite for wavenumber 0."""
    with np.errstate(divide="ignore"):
        return _EARTH_CIRCUMFERENCE_KM / wavenumber

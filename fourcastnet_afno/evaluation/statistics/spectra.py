"""Energy spectra and the effective resolution.

Where rows alone close on themselves, spectra are zonal. With the discrete Fourier transform F_k(y)
of row y over its N longitudes, the energy of zonal wavenumber k is

    S_k = sum_y w_y m_k |F_k(y)|^2 / N^2,    m_k = 1 for k = 0 and k = N / 2, else 2,

with the area weights w_y of the rows (sum 1). The sum over k is the weighted mean
square (Parseval).

On a torus they are isotropic. With the two-dimensional transform F(p, q) of p waves along y and q
along x, the energy of shell k is

    S_k = sum |F(p, q)|^2 / N^2  over  k - 1/2 <= L |(p / L_y, q / L_x)| < k + 1/2,

where N counts the points and L is the longer of the lengths L_y and L_x. The shells reach into the
corners beyond the largest wavenumber of an axis, so their sum is the mean square. A shell holds
about 2 pi k L_y L_x / L^2 waves: white noise rises with k. For a single row it is the spectrum
along x.

References:
    WeatherBench 2, Rasp et al., 2024, https://arxiv.org/abs/2308.15560, section 4 (spectra).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import scipy.fft

from data_pipeline.grids.grid import Grid
from data_pipeline.precision import at_least_single
from fourcastnet_afno.evaluation.statistics.averages import cache_sized_slices

_FOURIER_TOGETHER = 4  # of the fields of other tiles, as these have copies
_MAX_MATRIX = 80  # columns up to which the product with a matrix is the faster transform
_EARTH_CIRCUMFERENCE_KM = 40030.0


@dataclass(frozen=True, kw_only=True)
class EnergySpectrum:
    """How the energy of fields on a grid is split by scale.

    ``energies`` makes of fields (..., row, column) energies (..., wavenumber) that sum to the
    area-weighted mean square.
    """

    dim: str  # name of the axis of wavenumbers in scores
    wavenumbers: np.ndarray  # increasing from 0
    attrs: dict[str, str | float]  # of this axis
    energies: Callable[[np.ndarray], np.ndarray]


def spectrum_of(grid: Grid) -> EnergySpectrum | None:
    """Isotropic on a torus and of a single periodic row, zonal on others whose rows are circles."""
    if grid.spectrum_kind is None:
        return None
    if grid.spectrum_kind == "isotropic":
        extent = grid.length("y"), grid.length("x")
        wavenumbers, _, longest = _shells(grid.shape, extent)
        name = "magnitude of the wave vector" if grid.shape[0] > 1 else "wavenumber"
        return EnergySpectrum(
            dim="wavenumber",
            wavenumbers=wavenumbers,
            attrs={"long_name": name, "units": "1", "longest_wave": longest},
            energies=partial(isotropic_energy_spectrum, extent=extent),
        )
    name = "zonal wavenumber" if grid.on_sphere else "wavenumber along x"
    return EnergySpectrum(
        dim="zonal_wavenumber",
        wavenumbers=np.arange(grid.shape[1] // 2 + 1),
        attrs={"long_name": name, "units": "1"},
        energies=partial(zonal_energy_spectrum, area_weights=grid.area_weights()),
    )


def isotropic_energy_spectrum(fields: np.ndarray, extent: tuple[float, float]) -> np.ndarray:
    """Mean squares (..., wavenumber) of each shell of wave vectors of fields (..., y, x).

    They have the squared units of the field, and their sum is its mean square. Wavenumbers are
    multiples of the smaller of the fundamental ones; shells without waves, between those of a long
    and narrow torus, are left out.
    """
    rows, columns = fields.shape[-2:]
    wavenumbers, indices, _ = _shells((rows, columns), extent)
    fields = at_least_single(fields)
    coefficients = np.ascontiguousarray(scipy.fft.rfft2(fields, norm="forward"))
    with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is left out later
        squares = np.square(coefficients.view(np.finfo(coefficients.dtype).dtype))
        power = squares[..., ::2] + squares[..., 1::2]
    power[..., 1 : (columns + 1) // 2] *= 2  # and the conjugates
    shells = [
        np.bincount(indices, weights=values, minlength=len(wavenumbers))
        for values in power.reshape(-1, len(indices))
    ]
    return np.reshape(shells, (*fields.shape[:-2], len(wavenumbers)))


@lru_cache
def _shells(
    shape: tuple[int, int], extent: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray, float]:
    """Wavenumbers of the shells that hold waves, each wave's shell, and the longest wave."""
    rows, columns = shape
    longest = max(extent) if rows > 1 else extent[1]
    along_y = np.fft.fftfreq(rows, 1 / rows) * longest / extent[0]
    along_x = np.arange(columns // 2 + 1) * longest / extent[1]
    # Waves on an edge but for rounding belong to the shell above, along either axis.
    shells = np.floor(np.hypot(along_y[:, None], along_x) + 0.5 + 1e-9).astype(int)
    wavenumbers, indices = np.unique(shells.ravel(), return_inverse=True)
    return wavenumbers, indices.ravel(), longest


def zonal_energy_spectrum(fields: np.ndarray, area_weights: np.ndarray) -> np.ndarray:
    """Mean square of each zonal wavenumber, averaged over latitudes by area.

    Computed in the precision of the fields (..., latitude, longitude), at least in float32, with
    area weights of mean 1. The result is float64 of shape (..., zonal_wavenumber), in the squared
    units of the field.
    """
    fields = at_least_single(fields)
    rows, length = fields.shape[-2:]
    weights = (area_weights[:, 0] / rows / length**2).astype(fields.dtype)
    if length <= _MAX_MATRIX:
        return _power_by_matrix(fields, weights)
    coefficients = np.asarray(scipy.fft.rfft(fields, axis=-1))
    coefficients[..., 1 : (length + 1) // 2] *= np.sqrt(2)
    parts = coefficients.view(np.finfo(coefficients.dtype).dtype)
    squares = np.matmul(weights, np.multiply(parts, parts, out=parts))
    return squares[..., ::2].astype(np.float64) + squares[..., 1::2]


def _power_by_matrix(fields: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Sums over rows of weights (row,) times the power of each wavenumber."""
    rows, length = fields.shape[-2:]
    matrix, num_cosines = _fourier_matrix(length, fields.dtype.char), length // 2 + 1
    flat = fields.reshape(-1, rows, length)
    squares = np.empty((len(flat), length), fields.dtype)
    for tile in cache_sized_slices(len(flat), _FOURIER_TOGETHER * rows * length):
        # One product for each field, so that its rounding does not depend on its neighbors.
        with np.errstate(invalid="ignore"):  # what is not finite stays so, and is left out later
            parts = np.matmul(np.ascontiguousarray(flat[tile]), matrix)
        np.matmul(weights, np.multiply(parts, parts, out=parts), out=squares[tile])
    power = squares[:, :num_cosines].astype(np.float64)
    power[:, 1 : length - num_cosines + 1] += squares[:, num_cosines:]
    return power.reshape(*fields.shape[:-2], num_cosines)


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
    spectrum: np.ndarray, truth_spectrum: np.ndarray, wavenumbers: np.ndarray, fraction: float = 0.5
) -> np.ndarray:
    """The highest wavenumber up to which a forecast has at least a fraction of truth's energy.

    Spectra have the shape (..., wavenumber); 0 where already the longest wave has less, NaN where a
    spectrum is missing.
    """
    low = spectrum[..., 1:] < fraction * truth_spectrum[..., 1:]
    last = np.where(low.any(axis=-1), low.argmax(axis=-1), low.shape[-1])
    is_known = np.isfinite(spectrum[..., 1:] + truth_spectrum[..., 1:]).all(axis=-1)
    return np.where(is_known, wavenumbers[last], np.nan)


def wavelength_km(wavenumber: np.ndarray) -> np.ndarray:
    """Wavelength at the equator in km; infinite for wavenumber 0."""
    with np.errstate(divide="ignore"):
        return _EARTH_CIRCUMFERENCE_KM / wavenumber

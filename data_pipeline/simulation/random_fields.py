"""Random initial fields that do not depend on the resolution.

N(0, scale (-laplacian + shift)^(-power)) on a periodic rectangle is here the sum of the modes
exp(i k . x) with independent coefficients of variance scale (|k|^2 + shift)^(-power), without the
mean. Under zero Neumann conditions on the unit square the modes are cos(pi i y) cos(pi j x).

The coefficients are drawn in the order of the largest of |ky| and |kx|: a finer grid continues
the list of a coarser one, so that both hold the same field, as far as they resolve it.

References:
    Li et al., 2021, Fourier neural operator for parametric partial differential equations,
    https://arxiv.org/abs/2010.08895, appendix A.3.
"""

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from data_pipeline.simulation.fourier import FourierGrid


def random_field(
    grid: FourierGrid, rng: np.random.Generator, *, scale: float, power: float, shift: float
) -> Complex[Tensor, "ky kx"]:
    """Spectrum of a periodic field with the covariance scale (-laplacian + shift)^(-power)."""
    num_rows, num_columns = grid.shape
    largest = (max(grid.shape) - 1) // 2
    rows = np.arange(-largest, largest + 1) if num_rows > 1 else np.zeros(1, int)
    ky, kx = (k.ravel() for k in np.meshgrid(rows, np.arange(largest + 1), indexing="ij"))
    half = (kx > 0) | (ky > 0)  # the others are conjugates, and the mean
    ky, kx = ky[half], kx[half]
    order = np.lexsort((kx, ky, np.maximum(np.abs(ky), kx)))
    ky, kx = ky[order], kx[order]
    draws = rng.standard_normal((len(ky), 2)) @ np.array([1, 1j]) / np.sqrt(2)
    fits = (2 * np.abs(ky) < num_rows) & (2 * kx < num_columns)
    ky, kx, draws = ky[fits], kx[fits], draws[fits]
    noise = np.zeros((num_rows, num_columns // 2 + 1), complex)
    noise[ky, kx] = draws
    noise[-ky[kx == 0], 0] = draws[kx == 0].conj()
    wavenumber = -grid.laplacian.double().cpu().numpy()
    return _spectrum(grid, np.sqrt(scale) * (wavenumber + shift) ** (-power / 2) * noise)


def gaussian_bumps(
    grid: FourierGrid, rng: np.random.Generator, *, count: int, width: float
) -> Complex[Tensor, "ky kx"]:
    """Spectrum of ``count`` periodic bumps exp(-r^2 / (2 width^2)) around random points."""
    ky, kx = (k.double().cpu().numpy() for k in (grid.ky, grid.kx))
    centers = rng.random((count, 2)) * np.array(grid.extent)
    waves = [np.exp(-1j * (ky * y + kx * x)) for y, x in centers]
    volume = 2 * np.pi * width**2 / (grid.extent[0] * grid.extent[1])
    shape = volume * np.exp(-(width**2) * (ky**2 + kx**2) / 2)
    return _spectrum(grid, shape * np.sum(waves, axis=0))


def neumann_field(
    y: np.ndarray,
    x: np.ndarray,
    rng: np.random.Generator,
    *,
    power: float,
    shift: float,
    num_modes: int,
) -> Float[np.ndarray, "y x"]:
    """Values of a field with the covariance (-laplacian + shift)^(-power) on the unit square.

    It is the sum of ``num_modes`` modes along each axis, without the mean, for any y and x in 0..1.
    """
    mode = np.arange(num_modes)
    eigenvalue = np.pi**2 * (mode[:, None] ** 2 + mode**2) + shift
    norm = np.where(mode > 0, np.sqrt(2), 1.0)
    coefficients = rng.standard_normal((num_modes, num_modes)) * eigenvalue ** (-power / 2)
    coefficients[0, 0] = 0
    rows, columns = (norm * np.cos(np.pi * np.outer(points, mode)) for points in (y, x))
    return rows @ coefficients @ columns.T


def _spectrum(grid: FourierGrid, coefficients: np.ndarray) -> Complex[Tensor, "ky kx"]:
    """Coefficients in the precision of a grid, without those that it forbids."""
    spectrum = torch.tensor(coefficients, device=grid.device) * grid.kept
    return spectrum.to(torch.complex64 if grid.dtype == torch.float32 else torch.complex128)

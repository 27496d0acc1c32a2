"""Spherical-harmonic transform by matrix products.

A real field on the sphere of latitude phi and longitude lambda, with mu = sin(phi), is the sum

    f(lambda, mu) = sum_{|m| <= T} sum_{n = |m|}^{T} f_mn P_mn(mu) exp(i m lambda)

over orders m and degrees n up to the truncation T. The associated Legendre functions P_mn are
normalized so that the mean of P_mn^2 exp(i m lambda) exp(-i m lambda) over the sphere is 1. Hence
f_00 is the mean of f, and its mean square is the sum of |f_mn|^2 over all positive and negative m.

Layout. Longitude or order come first and the batch comes last, on the grid and in the spectrum, so
that both stages are matrix products on contiguous memory without a transposition: a spectrum has
the shape (order, part, degree, ...), where part 0 is the real and part 1 the imaginary part of the
orders m >= 0, and a grid has the shape (longitude, latitude, ...). At the resolutions that a
laptop simulates, the Fourier matrix is faster than the fast transform with its strides.

References:
    Hack and Jakob, 1992, Description of a global shallow water model based on the spectral
    transform method, NCAR/TN-343+STR, https://doi.org/10.5065/D64X55QB.
    Holmes and Featherstone, 2002, A unified approach to the Clenshaw summation and the recursive
    computation of very high degree and order normalised associated Legendre functions,
    https://doi.org/10.1007/s00190-002-0216-2.
"""

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

HarmonicCoefficients = Float[Tensor, "order part degree *fields"]
GridField = Float[Tensor, "lon lat *fields"]


def alias_free_truncation(num_latitudes: int, num_longitudes: int) -> int:
    """Largest triangular truncation whose products of two fields are free of aliasing.

    A product has degrees up to 2 T; Gauss-Legendre quadrature of its projection (degree 3 T) needs
    2 num_latitudes > 3 T, and the Fourier sum num_longitudes > 3 T.
    """
    return (min(2 * num_latitudes, num_longitudes) - 1) // 3


def legendre_functions(truncation: int, mu: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Normalized associated Legendre functions P_mn and their slopes (1 - mu^2) dP_mn/dmu.

    Args:
        truncation: Largest order and degree T.
        mu: Sines of latitude, of shape (latitude,).

    Returns:
        Two float64 arrays of shape (order, latitude, degree); zero where degree < order.
    """
    order = np.arange(truncation + 1)[:, None]
    degree = np.arange(truncation + 2)[None, :]
    epsilon = np.sqrt(np.maximum(degree**2 - order**2, 0) / (4 * degree**2 - 1.0))
    values = np.zeros((truncation + 1, len(mu), truncation + 2))
    sectoral = np.ones_like(mu)
    for m in range(truncation + 1):
        if m > 0:
            sectoral = np.sqrt((2 * m + 1) / (2 * m)) * np.sqrt(1 - mu**2) * sectoral
        values[m, :, m] = sectoral
        for n in range(m + 1, truncation + 2):
            lower = epsilon[m, n - 1] * values[m, :, n - 2] if n > m + 1 else 0.0
            values[m, :, n] = (mu * values[m, :, n - 1] - lower) / epsilon[m, n]
    slopes = np.zeros_like(values[..., :-1])
    n = np.arange(truncation + 1)
    slopes -= n * epsilon[:, None, 1:] * values[..., 1:]
    slopes[..., 1:] += (n[1:] + 1) * epsilon[:, None, 1:-1] * values[..., :-2]
    return values[..., :-1], slopes


class SphericalHarmonicTransform:
    """Transform between one grid and triangularly truncated spectra on the unit sphere.

    Args:
        num_latitudes: Number of latitudes, from north to south.
        num_longitudes: Number of longitudes, from 0 eastward, more than 2 T.
        rows: ``gaussian`` integrates by Gauss-Legendre quadrature and projects any product of two
            truncated fields exactly. ``equiangular``, half a cell away from the poles, inverts by
            least squares: exact for fields within the truncation, on the grid that most data are
            on.
        truncation: Largest degree T; by default free of aliasing in products of two fields.
        dtype: Precision of the transform; its matrices are made in float64.
        device: Where the transform runs.
    """

    def __init__(
        self,
        num_latitudes: int,
        num_longitudes: int,
        *,
        rows: Literal["gaussian", "equiangular"] = "gaussian",
        truncation: int | None = None,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> None:
        if truncation is None:
            truncation = alias_free_truncation(num_latitudes, num_longitudes)
        if num_longitudes <= 2 * truncation or num_latitudes <= truncation:
            raise ValueError(
                f"truncation {truncation} needs more than {2 * truncation} longitudes and more "
                f"than {truncation} latitudes, got {num_latitudes} x {num_longitudes}; refine the "
                "grid or lower the truncation"
            )

        def matrices(array: np.ndarray, parts: int = 1) -> Tensor:
            repeated = np.repeat(array, parts, axis=0)
            return torch.tensor(np.ascontiguousarray(repeated), dtype=dtype, device=device)

        if rows == "gaussian":
            sines, weights = np.polynomial.legendre.leggauss(num_latitudes)
            self.latitude, quadrature = np.rad2deg(np.arcsin(sines[::-1])), weights[::-1] / 2
        else:
            self.latitude = 90 - 180 * (np.arange(num_latitudes) + 0.5) / num_latitudes
            quadrature = None
        self.quadrature_weights: np.ndarray | None = quadrature
        self.longitude = 360 * np.arange(num_longitudes) / num_longitudes
        self.truncation = truncation
        order = np.arange(truncation + 1.0)
        angle = 2 * np.pi * np.arange(num_longitudes)[:, None] * order / num_longitudes
        waves = np.stack([np.cos(angle), -np.sin(angle)], axis=-1)
        both_signs = np.where(order == 0, 1.0, 2.0)[:, None]
        self._fourier_synthesis = matrices((both_signs * waves).reshape(num_longitudes, -1))
        self._fourier_analysis = matrices(waves.reshape(num_longitudes, -1).T / num_longitudes)
        self._zonal_derivative = matrices(np.stack([-order, order], axis=1)[:, :, None])
        eigenvalues = order * (order + 1)
        self.laplacian = matrices(-eigenvalues)
        self.inverse_laplacian = matrices(-1 / np.maximum(eigenvalues, 1))
        self.inverse_laplacian[0] = 0
        mu = np.sin(np.deg2rad(self.latitude))
        values, slopes = legendre_functions(truncation, mu)
        self._values, self._slopes = matrices(values, parts=2), matrices(slopes, parts=2)
        if quadrature is None:
            projection = np.zeros_like(values.swapaxes(1, 2))
            for m, matrix in enumerate(values):  # degrees of at least the order
                projection[m, m:] = np.linalg.pinv(matrix[:, m:])
        else:
            projection = values.swapaxes(1, 2) * quadrature
            both = np.concatenate([values, slopes], axis=2).swapaxes(1, 2)
            self._vector_projection = matrices(both * (quadrature / (1 - mu**2)), parts=2)
        self._projection = matrices(projection, parts=2)

    def synthesize(self, spectrum: HarmonicCoefficients) -> GridField:
        """Values on the grid."""
        return self._to_longitudes(torch.bmm(self._values, self._flat(spectrum)), spectrum)

    def analyze(self, field: GridField) -> HarmonicCoefficients:
        """Coefficients of a field on the grid."""
        return self._unflat(torch.bmm(self._projection, self._to_orders(field)), field)

    def synthesize_wind(
        self,
        psi_chi: Float[Tensor, "order part degree 2 *batch"],
        scalars: Float[Tensor, "order part degree scalar *batch"],
    ) -> Float[Tensor, "lon lat scalar+2 *batch"]:
        """Wind times cos(phi) of a stream function psi and velocity potential chi, and scalars.

            V = v cos(phi) = d psi / d lambda + (1 - mu^2) d chi / d mu
            U = u cos(phi) = d chi / d lambda - (1 - mu^2) d psi / d mu

        Returns:
            Grid with the fields (V, U) and the scalars; one call for all saves time.
        """
        # Written in place, as the concatenation of small blocks is slow.
        num_scalars, (psi, chi) = scalars.shape[3], psi_chi.unbind(3)
        zonal = psi_chi.new_empty(*psi_chi.shape[:3], 2 + num_scalars, *psi_chi.shape[4:])
        self._turn(psi_chi, zonal[:, :, :, :2])
        zonal[:, :, :, 2:] = scalars
        values = torch.bmm(self._values, self._flat(zonal))
        meridional = torch.empty_like(psi_chi)
        meridional[:, :, :, 0] = chi
        torch.neg(psi, out=meridional[:, :, :, 1])
        slopes = torch.bmm(self._slopes, self._flat(meridional))
        values[..., : slopes.shape[-1]] += slopes
        return self._to_longitudes(values, zonal)

    def analyze_vectors(
        self, field: GridField
    ) -> tuple[HarmonicCoefficients, HarmonicCoefficients]:
        """Integrals from which divergence and curl follow, for components times cos(phi).

            divergence(U, V) = d/dlambda value(U) - slope(V)
            curl(U, V) = d/dlambda value(V) + slope(U)

        Returns:
            ``value``, the projection of field / (1 - mu^2) on P_mn, and ``slope``, the one on
            (1 - mu^2) dP_mn/dmu.
        """
        both = torch.bmm(self._vector_projection, self._to_orders(field))
        value, slope = both.chunk(2, dim=1)
        return self._unflat(value, field), self._unflat(slope, field)

    def zonal_derivative(self, spectrum: HarmonicCoefficients) -> HarmonicCoefficients:
        """Derivative with respect to longitude in radians: i m times the coefficients."""
        return self._turn(spectrum, torch.empty_like(spectrum))

    def _turn(self, spectrum: Tensor, result: Tensor) -> Tensor:
        """``zonal_derivative``, into a result."""
        turn = self._zonal_derivative.reshape(-1, 2, *[1] * (spectrum.ndim - 2))
        for part in (0, 1):
            torch.mul(spectrum[:, 1 - part], turn[:, part], out=result[:, part])
        return result

    def _flat(self, spectrum: Tensor) -> Tensor:
        return spectrum.reshape(2 * (self.truncation + 1), self.truncation + 1, -1)

    def _unflat(self, flat: Tensor, like: Tensor) -> Tensor:
        return flat.reshape(self.truncation + 1, 2, self.truncation + 1, *like.shape[2:])

    def _to_longitudes(self, meridians: Tensor, like: Tensor) -> Tensor:
        flat = self._fourier_synthesis @ meridians.reshape(meridians.shape[0], -1)
        return flat.reshape(len(self.longitude), len(self.latitude), *like.shape[3:])

    def _to_orders(self, field: Tensor) -> Tensor:
        flat = self._fourier_analysis @ field.reshape(len(self.longitude), -1)
        return flat.reshape(flat.shape[0], len(self.latitude), -1)

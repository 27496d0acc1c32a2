"""Adjusted mean square error: errors of amplitude and of phase, wavenumber by wavenumber.

With the power P_n(x) of a field x at wavenumber n, the co-spectrum C_n(x, y) and the coherence
K_n = C_n / sqrt(P_n(x) P_n(y)), the area-weighted mean square error is, by Parseval's identity,

    MSE(x, y) = sum_n (sqrt P_n(x) - sqrt P_n(y))^2 + 2 sqrt(P_n(x) P_n(y)) (1 - K_n).

Where a scale is not predictable (K_n < 1), its minimum has too little power: the double penalty.
The adjusted mean square error takes away this reward for smoothing,

    AMSE(x, y) = sum_n (sqrt P_n(x) - sqrt P_n(y))^2 + 2 max(P_n(x), P_n(y)) (1 - K_n),

equal to the MSE where both fields have the same power, and never below it.

Wavenumbers are the degrees of spherical harmonics, or zonal. The harmonics are made orthonormal in
the area-weighted mean over the points of the grid: for each order m, cos(latitude)^m times the
polynomials in sin(latitude) of degree n - m = 0, 1, ..., (number of rows) - 1, by Gram and Schmidt.
Unlike a truncated transform this is one to one, so that no part of the error escapes the loss and
Parseval's identity is exact; degrees that the grid does not resolve are kept apart by number alone.

References:
    Subich, Husain, Separovic and Yang, 2025, Fixing the Double Penalty in Data-Driven Weather
    Forecasting Through a Modified Spherical Harmonic Loss Function, ICML,
    https://arxiv.org/abs/2501.19374.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from fourcastnet_afno.losses.config import SpectralBasis

_LEAST_POWER = 1e-20  # in squared units of the scale; below it a wavenumber has no phase


class PowerSpectrum(nn.Module):
    """Power of fields by wavenumber, whose sum is their area-weighted mean square.

    The matrices of ``spherical_harmonics`` hold longitude / 2 * latitude^2 numbers (1.5 GB at 721 x
    1440 points); ``zonal`` needs none.

    Args:
        latitude: Rows in degrees, from north to south.
        num_longitudes: Columns, which close a circle.
        row_weights: Area of a cell of each row over the mean of all cells.
        basis: Meaning of the wavenumbers.
    """

    amplitude: Tensor
    matrices: Tensor
    wavenumber: Tensor

    def __init__(
        self,
        latitude: Sequence[float],
        num_longitudes: int,
        row_weights: Float[Tensor, " lat"],
        basis: SpectralBasis,
    ) -> None:
        super().__init__()
        rows, orders = len(latitude), torch.arange(num_longitudes // 2 + 1)
        both_signs = torch.where((orders == 0) | (2 * orders == num_longitudes), 1.0, 2.0)
        amplitude = (both_signs * row_weights[:, None].double() / rows).sqrt()
        self.register_buffer("amplitude", amplitude.to(row_weights), persistent=False)
        self.is_zonal = basis == "zonal"
        matrices = torch.empty(0)
        wavenumber = orders.expand(rows, -1)
        if not self.is_zonal:
            matrices = _orthonormal_harmonics(np.asarray(latitude), row_weights, len(orders))
            wavenumber = orders[:, None] + torch.arange(rows)
        self.register_buffer("matrices", matrices.to(row_weights), persistent=False)
        self.register_buffer("wavenumber", wavenumber.flatten(), persistent=False)
        self.num_wavenumbers = int(wavenumber.max()) + 1

    def coefficients(
        self, field: Float[Tensor, "batch channel lat lon"]
    ) -> Complex[Tensor, "batch channel _ _"]:
        """Coefficients whose squared moduli add up to the area-weighted mean square."""
        waves = torch.fft.rfft(field, norm="forward") * self.amplitude
        if self.is_zonal:
            return waves
        parts = torch.einsum("bcymp,mny->bcmnp", torch.view_as_real(waves), self.matrices)
        return torch.view_as_complex(parts.contiguous())

    def power(
        self,
        first: Complex[Tensor, "batch channel _ _"],
        second: Complex[Tensor, "batch channel _ _"],
    ) -> Float[Tensor, "batch channel wavenumber"]:
        """Co-spectrum of two fields from their coefficients; power where they are the same."""
        products = (first * second.conj()).real.flatten(2)
        sums = products.new_zeros(*products.shape[:2], self.num_wavenumbers)
        return sums.index_add(2, self.wavenumber, products)


def _orthonormal_harmonics(
    latitude: np.ndarray, row_weights: Float[Tensor, " lat"], num_orders: int
) -> Tensor:
    """Orthonormal functions of latitude times root area, float64 (order, degree - order, lat)."""
    weights = row_weights.double().cpu().numpy()
    radians = np.deg2rad(latitude)
    polynomials = np.polynomial.legendre.legvander(np.sin(radians), len(latitude) - 1)
    cosine = np.clip(np.cos(radians), 0, None)
    matrices = np.empty((num_orders, len(latitude), len(latitude)))
    for order in range(num_orders):
        # The largest value is 1, so that high orders do not underflow everywhere.
        rows = np.sqrt(weights) * (cosine / cosine.max()) ** order
        matrices[order] = np.linalg.qr(rows[:, None] * polynomials)[0].T
    return torch.from_numpy(matrices)


def adjusted_mse(
    predictions: Float[Tensor, "batch channel lat lon"],
    targets: Float[Tensor, "batch channel lat lon"],
    spectrum: PowerSpectrum,
) -> Float[Tensor, "batch channel"]:
    """Adjusted mean square error of each field, in units of the scale about its mean."""
    ours, theirs = spectrum.coefficients(predictions), spectrum.coefficients(targets)
    powers = [spectrum.power(c, c).clamp_min(_LEAST_POWER) for c in (ours, theirs)]
    roots = [power.sqrt() for power in powers]
    coherence = spectrum.power(ours, theirs) / (roots[0] * roots[1])
    amplitude = (roots[0] - roots[1]).square()
    return (amplitude + 2 * torch.maximum(*powers) * (1 - coherence)).sum(dim=-1)

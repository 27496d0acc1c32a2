"""Fields without the shortest waves of their grid.

A product of two fields of wavenumbers up to K has wavenumbers up to 2 K. On a grid with n points to
a period it folds those above n / 2 back, where they cannot be told from long waves; with K two
thirds of n / 2 none comes back to a wavenumber up to K (the two-thirds rule). A network that
predicts changes of no shorter waves is free of this aliasing, and of the edges of its patches.

The band is a tensor product of waves by axis: exp(i k x) along axes that close on themselves;
cosines between the ends of others; and on global grids the double Fourier sphere, in which cosines
of colatitude go with even zonal wavenumbers and sines with odd ones, for components of vectors
inversely, so that fields are smooth at the poles. Waves are fitted to the rows by least squares:
``BandLimit`` is a projection, the identity for fields within the band, on any rows.

What a network predicts badly lies at the scales of its patches, where fields have little energy.
``faded`` multiplies waves by

    g(k) = exp(-3 k^2 / K^2)

along each axis, K the largest wavenumber of the band, so that errors of the network have less of
these scales, as the changes of fields have. It is scaled to mean square 1 over the band.
``diffused`` multiplies them by exp(-r k^2 / K^2) along each axis, as diffusion over a step does.

References:
    Orszag, 1971, On the Elimination of Aliasing in Finite-Difference Schemes by Filtering
    High-Wavenumber Components, https://doi.org/10.1175/1520-0469(1971)028<1074:OTEOAI>2.0.CO;2
"""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from data_pipeline.channels import Channels
from data_pipeline.grids.grid import Grid, reaches_poles
from fourcastnet_afno.parallel.row_sharding import ALL_ROWS, Rows

_Matrix = Float[np.ndarray, "_ _"]


def largest_wavenumbers(grid: Grid, share: float) -> tuple[int, int]:
    """The largest wavenumbers of the band, by axis: ``share`` of those that the grid has.

    Along an axis of n points these are n / 2 if it closes on itself, otherwise n half waves.
    """
    rows, columns = (
        math.floor(round(share * points / (2 if axis in grid.periodic_axes else 1), 9))
        for axis, points in zip(grid.dims, grid.shape, strict=True)
    )
    return rows, columns


class BandLimit(nn.Module):
    """The projection of fields on waves of the longest wavenumbers of a grid.

    Args:
        grid: Grid of the fields.
        largest: Largest wavenumbers by axis, see ``largest_wavenumbers``; those of another grid
            give the same operator on this one, for fields that both resolve.
        channels: Components of wind, by the names of these, are components of vectors.
        diffusion: The rate r above.

    Attributes:
        rows: The rows that this process has of each field.
    """

    to_waves: Tensor  # (lon, wave)
    to_columns: Tensor  # (wave, lon)
    by_row: Tensor  # (parity, lat, lat)
    faded_to_columns: Tensor
    faded_by_row: Tensor
    diffused_to_columns: Tensor
    diffused_by_row: Tensor
    parity: Tensor | None  # (channel, 1, wave), whether waves of a channel are sines in latitude

    def __init__(
        self, grid: Grid, largest: tuple[int, int], channels: Channels, diffusion: float = 0.0
    ) -> None:
        super().__init__()
        rows, columns = grid.dims
        waves, orders = _waves(grid, columns, min(largest[1], grid.shape[1] - 1))
        parity = None
        if grid.on_sphere and grid.is_periodic and reaches_poles(grid.coords[rows]):
            colatitude = np.deg2rad(90 - grid.coords[rows])[:, None]
            row_orders = np.arange(min(largest[0], grid.shape[0] - 1) + 1)
            by_parity = [f(colatitude * row_orders) for f in (np.cos, np.sin)]
            is_vector = np.array([channel.is_vector_component for channel in channels])
            parity = torch.from_numpy((orders % 2 == 1) ^ is_vector[:, None, None])
        else:
            row_waves, row_orders = _waves(grid, rows, min(largest[0], grid.shape[0] - 1))
            by_parity = [row_waves]
        row_factors, factors = (
            _fading(each, limit, axis in grid.periodic_axes)
            for each, limit, axis in zip((row_orders, orders), largest, grid.dims, strict=True)
        )
        row_decay, decay = (
            np.exp(-diffusion * (each / max(1, limit)) ** 2)
            for each, limit in zip((row_orders, orders), largest, strict=True)
        )
        pairs = [(each, np.linalg.pinv(each)) for each in by_parity]
        matrices = {
            "to_waves": np.linalg.pinv(waves).T,
            "to_columns": waves.T,
            "faded_to_columns": factors[:, None] * waves.T,
            "by_row": np.stack([each @ inverse for each, inverse in pairs]),
            "faded_by_row": np.stack([each * row_factors @ inverse for each, inverse in pairs]),
            "diffused_to_columns": decay[:, None] * waves.T,
            "diffused_by_row": np.stack([each * row_decay @ inverse for each, inverse in pairs]),
        }
        for name, matrix in matrices.items():
            values = torch.from_numpy(np.ascontiguousarray(matrix)).float()
            self.register_buffer(name, values, persistent=False)
        self.register_buffer("parity", parity, persistent=False)
        self.rows: Rows = ALL_ROWS

    def forward(
        self, fields: Float[Tensor, "*batch channel lat lon"]
    ) -> Float[Tensor, "*batch channel lat lon"]:
        """The fields without shorter waves, in float32 or wider."""
        return self._filtered(fields, self.by_row, self.to_columns)

    def faded(
        self, fields: Float[Tensor, "*batch channel lat lon"]
    ) -> Float[Tensor, "*batch channel lat lon"]:
        """Likewise, and less of the shorter ones that stay, see the head of this module."""
        return self._filtered(fields, self.faded_by_row, self.faded_to_columns)

    def diffused(
        self, fields: Float[Tensor, "*batch channel lat lon"]
    ) -> Float[Tensor, "*batch channel lat lon"]:
        """Likewise, with the waves that stay damped by diffusion, see the head of this module."""
        return self._filtered(fields, self.diffused_by_row, self.diffused_to_columns)

    def _filtered(self, fields: Tensor, by_row: Tensor, to_columns: Tensor) -> Tensor:
        with torch.autocast(fields.device.type, enabled=False):
            waves = fields @ self.to_waves.to(fields.dtype)
            by_row = by_row[..., self.rows.field_slice].to(fields.dtype)
            if self.parity is None:
                waves = by_row[0] @ waves
            else:
                waves = torch.where(self.parity, by_row[1] @ waves, by_row[0] @ waves)
            waves = self.rows.sum(waves)[..., self.rows.field_slice, :]
            return waves @ to_columns.to(fields.dtype)


def _fading(orders: np.ndarray, largest: int, is_periodic: bool) -> np.ndarray:
    """Factors of waves of some wavenumbers, of mean square 1 over all waves of the band."""
    band = np.arange(-largest if is_periodic else 0, largest + 1)
    factors, squares = (np.exp(-3 * (k / max(1, largest)) ** 2) for k in (orders, 2**0.5 * band))
    return factors / np.sqrt(squares.mean())


def _waves(grid: Grid, axis: str, largest: int) -> tuple[_Matrix, np.ndarray]:
    """Waves (point, wave) along an axis, and the wavenumber of each."""
    points = grid.coords[axis]
    if axis in grid.periodic_axes:
        angle = 2 * np.pi * (points - points[0])[:, None] / grid.length(axis)
        orders = np.arange(1, min(largest, (len(points) - 1) // 2) + 1)
        waves = [np.ones_like(angle), np.cos(angle * orders), np.sin(angle * orders)]
        return np.concatenate(waves, axis=1), np.concatenate([[0], orders, orders])
    ends = grid.bounds(axis)
    orders = np.arange(largest + 1)
    return np.cos(np.pi * (points - ends[0])[:, None] / (ends[-1] - ends[0]) * orders), orders

"""Fields from one grid to another, exact for fields that both resolve.

Zonally a global field is interpolated by its trigonometric polynomial. Meridionally it is continued
over the poles on the opposite meridian (the double Fourier sphere): even zonal wavenumbers are
cosines in colatitude and odd ones sines, for components of vectors inversely. The wavenumbers are
those that both grids have. Regional grids are interpolated linearly.

On a plane, axes that close on themselves are interpolated by trigonometric polynomials too, and
bounded ones by cubic splines, which extrapolate from the outermost points to the boundary.
"""

import numpy as np
import torch
from jaxtyping import Float
from scipy.interpolate import make_interp_spline
from torch import Tensor, nn

from data_pipeline.channels import Channels
from data_pipeline.errors import InputError
from data_pipeline.grids.grid import Grid, reaches_poles
from data_pipeline.grids.plane import require_latlon

_Matrix = Float[np.ndarray, "_ _"]


class Regridder(nn.Module):
    """A linear map of fields from one grid to another.

    Components of wind, by the names of ``channels``, change sign across a pole.

    Raises:
        InputError: If the source does not cover the target.
    """

    longitude: Tensor
    latitude: Tensor
    opposite_longitude: Tensor | None
    opposite_latitude: Tensor | None

    def __init__(self, source: Grid, target: Grid, channels: Channels) -> None:
        super().__init__()
        opposite_longitude = opposite_latitude = None
        if source.on_sphere or target.on_sphere:
            for grid in (source, target):
                require_latlon(grid, "forecast.regrid between the data's and the network's grid")
            latitude, opposite = _meridional(source, target)
            longitude = _zonal(source, target, 0.0)
            if opposite.any():
                opposite_longitude = _zonal(source, target, 180.0).T
                wind = [channel.is_vector_component for channel in channels]
                opposite_latitude = np.where(wind, -1.0, 1.0).reshape(-1, 1, 1) * opposite
        elif source.same_domain(target):
            latitude, longitude = (_along(axis, source, target) for axis in source.dims)
        else:
            raise InputError(
                f"the grid {target} is no other resolution of {source}: lengths or periodic axes "
                "differ; choose a grid of the same domain",
                code="grid-mismatch",
            )
        for name, matrix in (
            ("longitude", longitude.T),
            ("latitude", latitude),
            ("opposite_longitude", opposite_longitude),
            ("opposite_latitude", opposite_latitude),
        ):
            buffer = None if matrix is None else torch.from_numpy(matrix).float()
            self.register_buffer(name, buffer, persistent=False)

    def forward(
        self, fields: Float[Tensor, "*batch channel lat lon"]
    ) -> Float[Tensor, "*batch channel target_lat target_lon"]:
        """The fields on the target grid."""
        result = self.latitude @ (fields @ self.longitude)
        if self.opposite_longitude is not None and self.opposite_latitude is not None:
            result = result + self.opposite_latitude @ (fields @ self.opposite_longitude)
        return result


def regridded_fill(
    filled: Float[Tensor, "channel lat lon"], source: Grid, target: Grid, channels: Channels
) -> Float[Tensor, "channel target_lat target_lon"]:
    """``Scales.filled`` on another grid: cells of which more than half is filled are filled."""
    known = filled.isnan()
    share = Regridder(source, target, channels).to(filled.device)((~known).float())
    count = (~known).sum(dim=(1, 2), keepdim=True).clamp_min(1)
    values = filled.nan_to_num(0).double().sum(dim=(1, 2), keepdim=True) / count
    return torch.where(share > 0.5, values.float(), torch.nan)


def _along(axis: str, source: Grid, target: Grid) -> _Matrix:
    """Interpolation (target, source) along an axis of a plane."""
    points, places = source.coords[axis], target.coords[axis]
    if axis not in source.periodic_axes:
        if len(points) == 1:
            return np.ones((len(places), 1))
        return make_interp_spline(points, np.eye(len(points)), k=min(3, len(points) - 1))(places)
    circle = source.length(axis)
    largest = (min(len(points), len(places)) - 1) // 2
    return _polynomial(2 * np.pi * points / circle, 2 * np.pi * places / circle, largest)


def _zonal(source: Grid, target: Grid, turn: float) -> _Matrix:
    """Interpolation (target, source) to the target's longitudes plus ``turn`` degrees."""
    points, places = source.coords["longitude"], target.coords["longitude"]
    if not source.is_periodic:
        return _linear("longitude", points, places)
    largest = (len(points) - 1) // 2
    if target.is_periodic:
        largest = min(largest, (len(places) - 1) // 2)
    return _polynomial(np.deg2rad(points), np.deg2rad(places + turn), largest)


def _polynomial(points: np.ndarray, places: np.ndarray, largest: int) -> _Matrix:
    """Trigonometric interpolation (places, points) between angles on a circle."""
    wavenumbers = np.arange(1, largest + 1)
    phases, target = (np.outer(angles, wavenumbers) for angles in (points, places))
    # The sum over k of cos(k (place - point)), without an array for each k.
    waves = np.cos(target) @ np.cos(phases).T + np.sin(target) @ np.sin(phases).T
    return (1 + 2 * waves) / len(points)


def _meridional(source: Grid, target: Grid) -> tuple[_Matrix, _Matrix]:
    """Interpolation (target, source) along a meridian, and the part of the opposite meridian."""
    points, places = source.coords["latitude"], target.coords["latitude"]
    if not (source.is_periodic and reaches_poles(points)):
        matrix = _linear("latitude", points[::-1], places[::-1])[::-1, ::-1].copy()
        return matrix, np.zeros_like(matrix)
    largest = min(len(points), len(places)) - 1 if reaches_poles(places) else len(points) - 1
    # Rows on the poles have no sines; a grid has as many sines as rows that are not.
    interior = int((np.abs(points) < 90 - 1e-6).sum())
    parts = []
    for wave, orders in (
        (np.cos, np.arange(largest + 1)),
        (np.sin, np.arange(1, min(largest, interior) + 1)),
    ):  # Fit waves in colatitude to the rows and evaluate them at the target's.
        basis, result = (wave(np.deg2rad(90 - x)[:, None] * orders) for x in (points, places))
        parts.append(result @ np.linalg.pinv(basis))
    even, odd = parts
    return (even + odd) / 2, (even - odd) / 2


def _linear(axis: str, points: np.ndarray, places: np.ndarray) -> _Matrix:
    if places.min() < points.min() - 1e-3 or places.max() > points.max() + 1e-3:
        raise InputError(
            f"{axis} {places.min():g}..{places.max():g} is not covered by {points.min():g}.."
            f"{points.max():g}; choose a grid inside of it",
            code="grid-mismatch",
        )
    return np.stack([np.interp(places, points, row) for row in np.eye(len(points))], axis=1)

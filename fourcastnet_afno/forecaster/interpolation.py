"""Fields from one grid to another, exact for fields that both resolve.

Zonally a global field is interpolated by its trigonometric polynomial. Meridionally it is continued
over the poles on the opposite meridian (the double Fourier sphere): even zonal wavenumbers are
cosines in colatitude and odd ones sines, for components of vectors inversely. The wavenumbers are
those that both grids have. Regional grids are interpolated linearly.

On a plane, axes that close on themselves are interpolated by trigonometric polynomials too, and
bounded ones by cubic splines, which go on from the outermost points to the boundary.
"""

import numpy as np
import torch
from jaxtyping import Float
from scipy.interpolate import make_interp_spline
from torch import Tensor, nn

from data_pipeline.channels import Channels
from data_pipeline.errors import InputError
from data_pipeline.grids.grid import Grid, LatLonGrid
from data_pipeline.grids.plane import PlaneGrid, require_latlon

_Matrix = Float[np.ndarray, "_ _"]
_Signed = Float[np.ndarray, "channel _ _"]


class Regridder(nn.Module):
    """A linear map of fields from one grid to another.

    Args:
        source: Grid of the fields.
        target: Grid of the result.
        channels: Names of the channels; components of wind change sign across a pole.

    Raises:
        InputError: If the source does not cover the target.
    """

    longitude: Tensor
    latitude: Tensor
    opposite_longitude: Tensor | None
    opposite_latitude: Tensor | None

    def __init__(self, source: Grid, target: Grid, channels: Channels) -> None:
        super().__init__()
        if isinstance(source, PlaneGrid) and isinstance(target, PlaneGrid):
            matrices = _on_plane(source, target)
        else:
            asked_by = "forecast.regrid between the data's and the network's grid"
            spheres = [require_latlon(grid, asked_by) for grid in (source, target)]
            matrices = _on_sphere(spheres[0], spheres[1], channels)
        for name, matrix in matrices.items():
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


def _on_sphere(
    source: LatLonGrid, target: LatLonGrid, channels: Channels
) -> dict[str, _Matrix | _Signed | None]:
    direct, opposite = _meridional(source, target)
    sign = np.array([[[-1.0 if _is_component(c.name) else 1.0]] for c in channels])
    return {
        "longitude": _zonal(source, target, 0.0).T,
        "latitude": direct,
        "opposite_longitude": _zonal(source, target, 180.0).T if opposite.any() else None,
        "opposite_latitude": sign.reshape(-1, 1, 1) * opposite,
    }


def _on_plane(source: PlaneGrid, target: PlaneGrid) -> dict[str, _Matrix | _Signed | None]:
    if not source.same_domain(target):
        raise InputError(
            f"the grid {target} is no other resolution of {source}: lengths or periodic axes "
            "differ; choose a grid of the same domain"
        )
    rows, columns = (_along(axis, source, target) for axis in source.dims)
    names = ("longitude", "latitude", "opposite_longitude", "opposite_latitude")
    return dict(zip(names, (columns.T, rows, None, None), strict=True))


def _along(axis: str, source: PlaneGrid, target: PlaneGrid) -> _Matrix:
    """Interpolation (target, source) along an axis."""
    given, wanted = source.coords[axis], target.coords[axis]
    if axis not in source.periodic:
        order = min(3, len(given) - 1)
        if order == 0:
            return np.ones((len(wanted), 1))
        return make_interp_spline(given, np.eye(len(given)), k=order)(wanted)
    circle = source.length(axis)
    largest = (min(len(given), len(wanted)) - 1) // 2
    return _polynomial(2 * np.pi * given / circle, 2 * np.pi * wanted / circle, largest)


def _is_component(name: str) -> bool:
    return "u_component_of" in name or "v_component_of" in name


def _zonal(source: LatLonGrid, target: LatLonGrid, turn: float) -> _Matrix:
    """Interpolation (target, source) to the target's longitudes plus ``turn`` degrees."""
    given, wanted = source.coords["longitude"], target.coords["longitude"]
    if not source.is_periodic:
        return _linear("longitude", given, wanted)
    largest = (len(given) - 1) // 2
    if target.is_periodic:
        largest = min(largest, (len(wanted) - 1) // 2)
    return _polynomial(np.deg2rad(given), np.deg2rad(wanted + turn), largest)


def _polynomial(given: np.ndarray, wanted: np.ndarray, largest: int) -> _Matrix:
    """Trigonometric interpolation (wanted, given) between angles on a circle."""
    wavenumbers = np.arange(1, largest + 1)
    points, (given, wanted) = len(given), (np.outer(x, wavenumbers) for x in (given, wanted))
    # The sum over k of cos(k (wanted - given)), without an array for each k.
    waves = np.cos(wanted) @ np.cos(given).T + np.sin(wanted) @ np.sin(given).T
    return (1 + 2 * waves) / points


def _meridional(source: LatLonGrid, target: LatLonGrid) -> tuple[_Matrix, _Matrix]:
    """Interpolation (target, source) along a meridian, and what the opposite meridian adds."""
    given, wanted = source.coords["latitude"], target.coords["latitude"]
    if not (source.is_periodic and _reaches_poles(given)):
        matrix = _linear("latitude", given[::-1], wanted[::-1])[::-1, ::-1].copy()
        return matrix, np.zeros_like(matrix)
    largest = min(len(given), len(wanted)) - 1 if _reaches_poles(wanted) else len(given) - 1
    even = _waves(np.cos, np.arange(largest + 1), given, wanted)
    # Rows on the poles have no sines; a grid has as many sines as rows that are not.
    interior = int((np.abs(given) < 90 - 1e-6).sum())
    odd = _waves(np.sin, np.arange(1, min(largest, interior) + 1), given, wanted)
    return (even + odd) / 2, (even - odd) / 2


def _waves(
    wave: np.ufunc, wavenumbers: np.ndarray, given: np.ndarray, wanted: np.ndarray
) -> _Matrix:
    """Fit waves in colatitude to rows at ``given`` and evaluate them at ``wanted`` latitudes."""
    basis, result = (
        wave(np.deg2rad(90 - latitude)[:, None] * wavenumbers) for latitude in (given, wanted)
    )
    return result @ np.linalg.pinv(basis)


def _reaches_poles(latitude: np.ndarray) -> bool:
    """Whether the outermost rows lie on the poles or about half a cell away."""
    step = np.abs(np.diff(latitude)).max()
    return bool(90 - latitude.max() < 0.8 * step and 90 + latitude.min() < 0.8 * step)


def _linear(axis: str, given: np.ndarray, wanted: np.ndarray) -> _Matrix:
    if wanted.min() < given.min() - 1e-3 or wanted.max() > given.max() + 1e-3:
        raise InputError(
            f"{axis} {wanted.min():g}..{wanted.max():g} is not covered by {given.min():g}.."
            f"{given.max():g}; choose a grid inside of it"
        )
    return np.stack([np.interp(wanted, given, row) for row in np.eye(len(given))], axis=1)

"""Fields from one latitude-longitude grid to another, exact for fields that both resolve.

Zonally a global field is interpolated by its trigonometric polynomial. Meridionally it is continued
over the poles on the opposite meridian (the double Fourier sphere): even zonal wavenumbers are
cosines in colatitude and odd ones sines, for components of vectors inversely. The wavenumbers are
those that both grids have. Regional grids are interpolated linearly.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from data_pipeline.channels import Channels
from data_pipeline.errors import InputError
from data_pipeline.grid import LatLonGrid

_Matrix = Float[np.ndarray, "_ _"]


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
    opposite_longitude: Tensor
    opposite_latitude: Tensor

    def __init__(self, source: LatLonGrid, target: LatLonGrid, channels: Channels) -> None:
        super().__init__()
        direct, opposite = _meridional(source, target)
        sign = np.array([[[-1.0 if _is_component(c.name) else 1.0]] for c in channels])
        matrices = {
            "longitude": _zonal(source, target, 0.0).T,
            "latitude": direct,
            "opposite_longitude": _zonal(source, target, 180.0).T if opposite.any() else None,
            "opposite_latitude": sign * opposite,
        }
        for name, matrix in matrices.items():
            buffer = None if matrix is None else torch.from_numpy(matrix).float()
            self.register_buffer(name, buffer, persistent=False)

    def forward(
        self, fields: Float[Tensor, "*batch channel lat lon"]
    ) -> Float[Tensor, "*batch channel target_lat target_lon"]:
        """The fields on the target grid."""
        result = self.latitude @ (fields @ self.longitude)
        if self.opposite_longitude is not None:
            result = result + self.opposite_latitude @ (fields @ self.opposite_longitude)
        return result


def _is_component(name: str) -> bool:
    return "u_component_of" in name or "v_component_of" in name


def _zonal(source: LatLonGrid, target: LatLonGrid, turn: float) -> _Matrix:
    """Interpolation (target, source) to the target's longitudes plus ``turn`` degrees."""
    given, wanted = source.coords["longitude"], target.coords["longitude"]
    if not source.is_periodic:
        return _linear("longitude", given, wanted)
    points, largest = len(given), (len(given) - 1) // 2
    if target.is_periodic:
        largest = min(largest, (len(wanted) - 1) // 2)
    wavenumbers = np.arange(1, largest + 1)
    given, wanted = (np.outer(np.deg2rad(x), wavenumbers) for x in (given, wanted + turn))
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

"""Whether AFNO's boundaries suit the points of a grid, see ``models.transforms``.

Mirrored axes have their outermost points on the boundary of the domain, reflected ones half a cell
from it. On one grid either is an operator; at other resolutions it is the same operator only where
fields are continued beyond the same places.
"""

from collections.abc import Iterator

import numpy as np

from data_pipeline.errors import InputError
from data_pipeline.grids.grid import Grid
from data_pipeline.grids.plane import PlaneGrid
from fourcastnet_afno.models.afno import AFNONetConfig
from fourcastnet_afno.models.fourier.transforms import Boundary

_Ends = tuple[float, float]


def check_ends(network: AFNONetConfig, grid: Grid, name: str) -> None:
    """Refuse grids that do not end where a network mirrors their fields.

    A grid on the sphere states no domain: it ends at its outermost points.

    Args:
        network: Size and shape.
        grid: Grid of its fields.
        name: Of the configuration, for messages.

    Raises:
        InputError: If a mirrored axis closes on itself, or its outermost points lie inside.
    """
    for axis in _axes(network, grid, "mirrored"):
        if grid.wraps[grid.dims.index(axis)]:
            raise InputError(
                f"{name}.boundary=mirrored is for axes with two ends, {axis} of the grid {grid} "
                "closes on itself; use periodic"
            )
        if not isinstance(grid, PlaneGrid):
            continue
        start = grid.starts[grid.dims.index(axis)]
        domain = start, start + grid.length(axis)
        if not _same(_points(grid, axis), domain, grid, axis):
            raise InputError(
                f"{name}.boundary=mirrored needs the first and the last {axis} on the ends of the "
                f"domain, {domain[0]:g} and {domain[1]:g}, the grid is {grid}; use reflected for "
                f"cell centers, or correct the attributes extent_{axis} and origin_{axis}"
            )


def check_same_ends(network: AFNONetConfig, own: Grid, grid: Grid) -> None:
    """Refuse another resolution at which fields would be mirrored at other places.

    Args:
        network: Size and shape.
        own: Grid that it was trained on.
        grid: Another resolution of the same domain.

    Raises:
        InputError: If mirrored axes end elsewhere, or reflected axes of a plane.
    """
    check_ends(network, grid, "model.network")
    for axis in _axes(network, own, "mirrored"):
        _require_same("mirrored", axis, own, grid, (_points(own, axis), _points(grid, axis)))
    if isinstance(own, PlaneGrid) and isinstance(grid, PlaneGrid):
        for axis in _axes(network, own, "reflected"):
            _require_same("reflected", axis, own, grid, (_edges(own, axis), _edges(grid, axis)))


def _require_same(
    boundary: Boundary, axis: str, own: Grid, grid: Grid, places: tuple[_Ends, _Ends]
) -> None:
    if _same(*places, grid, axis):
        return
    (first, last), (start, end) = places
    other = "; points on the boundary need a network with boundary=mirrored"
    raise InputError(
        f"forecast.resolution=native: this network has boundary={boundary} and mirrors fields at "
        f"{axis} {first:g} and {last:g} on its own grid {own}, but at {start:g} and {end:g} on the "
        f"data's {grid}; use resolution=interpolate{other if boundary == 'reflected' else ''}"
    )


def _axes(network: AFNONetConfig, grid: Grid, boundary: Boundary) -> Iterator[str]:
    """Axes of several points with a boundary."""
    for axis, given, points in zip(grid.dims, network.boundary, grid.shape, strict=True):
        if given == boundary and points > 1:
            yield axis


def _points(grid: Grid, axis: str) -> _Ends:
    values = grid.coords[axis]
    return float(values[0]), float(values[-1])


def _edges(grid: PlaneGrid, axis: str) -> _Ends:
    values = grid.bounds(axis)
    return float(values[0]), float(values[-1])


def _same(found: _Ends, expected: _Ends, grid: Grid, axis: str) -> bool:
    """To a twentieth of a cell, far below the half cell that is at stake."""
    values = grid.coords[axis]
    cell = abs(float(values[-1] - values[0])) / max(1, len(values) - 1)
    return np.allclose(found, expected, rtol=0, atol=0.05 * cell)

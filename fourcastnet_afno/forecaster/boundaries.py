"""Checks that AFNO's boundaries suit the points of a grid, see ``models.fourier.transforms``.

Mirrored axes have their outermost points on the boundary of the domain, reflected ones half a cell
from it. On one grid either is an operator; at other resolutions it is the same operator only where
fields are continued beyond the same locations.
"""

from collections.abc import Iterator

import numpy as np

from data_pipeline.errors import InputError
from data_pipeline.grids.grid import Grid
from fourcastnet_afno.models.config import AFNONetConfig, Boundary

_Ends = tuple[float, float]


def check_ends(network: AFNONetConfig, grid: Grid, name: str) -> None:
    """Reject grids that do not end where a network mirrors their fields.

    A grid on the sphere states no domain: it ends at its outermost points.

    Args:
        network: Size and shape.
        grid: Grid of its fields.
        name: Of the configuration, for messages.

    Raises:
        InputError: If a mirrored axis closes on itself, or its outermost points are inside.
    """
    for axis in _axes(network, grid, "mirrored"):
        if axis in grid.periodic_axes:
            raise InputError(
                f"{name}.boundary=mirrored is for axes with two ends, {axis} of the grid {grid} "
                "closes on itself; use periodic",
                code="boundary-mismatch",
            )
        domain = grid.domain(axis)
        if not _same(_ends(grid.coords[axis]), domain, grid, axis):
            raise InputError(
                f"{name}.boundary=mirrored needs the first and the last {axis} on the ends of the "
                f"domain, {domain[0]:g} and {domain[1]:g}, the grid is {grid}; use reflected for "
                f"cell centers, or correct the attributes extent_{axis} and origin_{axis}",
                code="boundary-mismatch",
            )


def check_same_ends(network: AFNONetConfig, trained: Grid, grid: Grid) -> None:
    """Reject another resolution at which fields would be mirrored at other locations.

    Args:
        network: Size and shape.
        trained: Grid that it was trained on.
        grid: Another resolution of the same domain.

    Raises:
        InputError: If mirrored axes end elsewhere, or reflected axes of a plane.
    """
    check_ends(network, grid, "model.network")
    for axis in _axes(network, trained, "mirrored"):
        ends = _ends(trained.coords[axis]), _ends(grid.coords[axis])
        _require_same("mirrored", axis, trained, grid, ends)
    for axis in () if trained.on_sphere else _axes(network, trained, "reflected"):
        ends = _ends(trained.bounds(axis)), _ends(grid.bounds(axis))
        _require_same("reflected", axis, trained, grid, ends)


def _require_same(
    boundary: Boundary, axis: str, trained: Grid, grid: Grid, ends: tuple[_Ends, _Ends]
) -> None:
    if _same(*ends, grid, axis):
        return
    (first, last), (start, end) = ends
    other = "; points on the boundary need a network with boundary=mirrored"
    raise InputError(
        f"forecast.resolution=native: this network has boundary={boundary} and mirrors fields at "
        f"{axis} {first:g} and {last:g} on its own grid {trained}, but at {start:g} and {end:g} on "
        f"the data's {grid}; use resolution=interpolate{other if boundary == 'reflected' else ''}",
        code="boundary-mismatch",
    )


def _axes(network: AFNONetConfig, grid: Grid, boundary: Boundary) -> Iterator[str]:
    """Axes of several points with a boundary."""
    for axis, kind, points in zip(grid.dims, network.boundary, grid.shape, strict=True):
        if kind == boundary and points > 1:
            yield axis


def _ends(values: np.ndarray) -> _Ends:
    return float(values[0]), float(values[-1])


def _same(ends: _Ends, expected: _Ends, grid: Grid, axis: str) -> bool:
    """Whether ends agree to a twentieth of a cell, far below the half cell that matters."""
    values = grid.coords[axis]
    cell = abs(float(values[-1] - values[0])) / max(1, len(values) - 1)
    return np.allclose(ends, expected, rtol=0, atol=0.05 * cell)

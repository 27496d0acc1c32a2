"""Checks that AFNO's boundaries suit the points of a grid, see ``models.fourier.transforms``.

Mirrored axes have their outermost points on the boundary of the domain, reflected ones half a cell
from it. On one grid either is an operator; at other resolutions it is the same operator only where
fields are continued beyond the same locations.
"""

import numpy as np

from data_pipeline.errors import InputError
from data_pipeline.grids.grid import Grid
from fourcastnet_afno.models.config import AFNONetConfig


def check_ends(network: AFNONetConfig, grid: Grid, name: str) -> None:
    """Reject grids that do not end where a network mirrors their fields.

    A grid on the sphere states no domain: it ends at its outermost points.

    Raises:
        InputError: If a mirrored axis closes on itself, or its outermost points are inside; the
            message starts with ``name``.
    """
    for axis, boundary, points in zip(grid.dims, network.boundary, grid.shape, strict=True):
        if boundary != "mirrored" or points == 1:
            continue
        if axis in grid.periodic_axes:
            raise InputError(
                f"{name}.boundary=mirrored is for axes with two ends, {axis} of the grid {grid} "
                "closes on itself; use periodic",
                code="boundary-mismatch",
            )
        start, end = grid.domain(axis)
        if not _same_ends(grid.coords[axis], np.array([start, end]), grid, axis):
            raise InputError(
                f"{name}.boundary=mirrored needs the first and the last {axis} on the ends of the "
                f"domain, {start:g} and {end:g}, the grid is {grid}; use reflected for cell "
                f"centers, or correct the attributes extent_{axis} and origin_{axis}",
                code="boundary-mismatch",
            )


def check_same_ends(network: AFNONetConfig, trained: Grid, grid: Grid) -> None:
    """Reject another resolution at which fields would be mirrored at other locations.

    Raises:
        InputError: If mirrored axes end elsewhere, or reflected axes of a plane.
    """
    check_ends(network, grid, "model.network")
    for axis, boundary, points in zip(trained.dims, network.boundary, trained.shape, strict=True):
        if boundary == "mirrored":
            ours, theirs = trained.coords[axis], grid.coords[axis]
        elif boundary == "reflected" and not trained.on_sphere:
            ours, theirs = trained.bounds(axis), grid.bounds(axis)
        else:
            continue
        if points > 1 and not _same_ends(ours, theirs, grid, axis):
            other = "; points on the boundary need a network with boundary=mirrored"
            raise InputError(
                f"forecast.resolution=native: this network has boundary={boundary} and mirrors "
                f"fields at {axis} {ours[0]:g} and {ours[-1]:g} on its own grid {trained}, but at "
                f"{theirs[0]:g} and {theirs[-1]:g} on the data's {grid}; use resolution="
                f"interpolate{other if boundary == 'reflected' else ''}",
                code="boundary-mismatch",
            )


def _same_ends(ours: np.ndarray, theirs: np.ndarray, grid: Grid, axis: str) -> bool:
    """Whether ends agree to a twentieth of a cell, far below the half cell that matters."""
    values = grid.coords[axis]
    cell = abs(float(values[-1] - values[0])) / max(1, len(values) - 1)
    return np.allclose(ours[[0, -1]], theirs[[0, -1]], rtol=0, atol=0.05 * cell)

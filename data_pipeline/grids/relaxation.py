"""Relaxation of limited areas to fields that are given near their open edges.

In a zone along each open edge the fields x of a model are drawn to given ones b,

    x <- (1 - w) x + w b,    w = cos^2(pi d / (2 width)),

where d is the number of cells between a cell and the edge: w is 1 in the outermost cells, and 0
from ``width`` cells on. Edges at a pole, and the ends of axes that close on themselves, are not
open.

References:
    Davies, 1976, A lateral boundary formulation for multi-level prediction models,
    https://doi.org/10.1002/qj.49710243210 (the zone; other weights).
"""

from typing import Annotated

import numpy as np
from annotated_types import Ge, Le

from data_pipeline.errors import InputError
from data_pipeline.grids.grid import Grid

BoundaryWidth = Annotated[int, Ge(0), Le(10_000)]


def relaxation_weights(grid: Grid, width: int) -> np.ndarray:
    """The weights w, float64 of the grid's shape.

    Args:
        grid: Of the limited area.
        width: Cells in the zone along each open edge.

    Raises:
        InputError: If the grid has no open edge, or the zone leaves no cell inside.
    """
    return _weights(grid, width, "data.boundary.width", "leave data.boundary out, or set data.crop")


def zone_mask(grid: Grid, width: int, setting: str) -> np.ndarray:
    """The cells of the zone; none where the width is 0.

    Args:
        grid: Of a limited area.
        width: Cells in the zone along each open edge.
        setting: That gives the width, for messages.

    Raises:
        InputError: If the grid has no open edge, or the zone leaves no cell inside.
    """
    if not width:
        return np.zeros(grid.shape, bool)
    return _weights(grid, width, setting, f"set {setting} to 0") > 0


def _weights(grid: Grid, width: int, setting: str, remedy: str) -> np.ndarray:
    weights = np.zeros(grid.shape)
    for axis, open_ends in open_edges(grid).items():
        points = np.arange(len(grid.coords[axis]))
        for is_open, distance in zip(open_ends, (points, points[::-1]), strict=True):
            if is_open:
                along = np.where(distance < width, np.cos(np.pi / 2 * distance / width) ** 2, 0)
                weights = np.maximum(weights, along[:, None] if axis == grid.dims[0] else along)
    if not weights.any():
        raise InputError(
            f"{setting}={width} needs a limited area, the grid {grid} has no open edge; {remedy}",
            code="boundary-mismatch",
        )
    if weights.all():
        raise InputError(
            f"{setting}={width} leaves no cell of the grid {grid} inside of the zone; set it to "
            f"{(min(n for n in grid.shape if n > 1) - 1) // 2} or less, or widen the area",
            code="boundary-mismatch",
        )
    return weights


def open_edges(grid: Grid) -> dict[str, tuple[bool, bool]]:
    """Whether the first and the last end of each axis are open edges."""
    edges = {}
    for axis in grid.dims:
        first, last = grid.bounds(axis)[[0, -1]]
        is_line = len(grid.coords[axis]) == 1 or axis in grid.periodic_axes
        at_pole = [axis == "latitude" and abs(end) > 90 - 1e-6 for end in (first, last)]
        edges[axis] = (not (is_line or at_pole[0]), not (is_line or at_pole[1]))
    return edges

"""Conservative regridding: cell means of a finer grid, weighted by the areas of overlap.

The area integral of a field over the globe, or over a plane, is conserved. For nested grids a cell
is the area-weighted mean of the cells inside it.

References:
    Jones, 1999, https://doi.org/10.1175/1520-0493(1999)127<2204:FASOCR>2.0.CO;2 (first order).
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge, Le

from data_pipeline.bounds import check_bounds
from data_pipeline.errors import InputError
from data_pipeline.grids.grid import Grid, LatLonGrid
from data_pipeline.grids.plane import require_latlon
from data_pipeline.memory import require_memory


@dataclass(frozen=True, kw_only=True)
class GridConfig:
    """A global grid of equal angles.

    Args:
        num_latitudes: Rows.
        num_longitudes: Columns.
        poles: Whether the outermost rows are on the poles, or half a cell away from them.
    """

    num_latitudes: Annotated[int, Ge(2), Le(100_000)]
    num_longitudes: Annotated[int, Ge(2), Le(200_000)]
    poles: bool = False

    def __post_init__(self) -> None:
        check_bounds(self, "data.grid")

    def build(self) -> LatLonGrid:
        """The grid."""
        return LatLonGrid.equiangular(self.num_latitudes, self.num_longitudes, self.poles)


class Coarsening:
    """Conservative means of fields on another grid of the same globe or rectangle.

    Args:
        source: Grid of the fields.
        target: Grid of the means.

    Raises:
        InputError: If the source is neither global nor planar, or does not cover the target.
    """

    def __init__(self, source: Grid, target: Grid) -> None:
        pairs = zip(source.shape, target.shape, strict=True)
        require_memory(
            16 * sum(before * after for before, after in pairs),
            f"the overlaps of the cells of {target} with those of {source}",
            "choose a coarser data.grid",
        )
        if source.on_sphere or target.on_sphere:
            for grid in (source, target):
                require_latlon(grid, "data.grid or evaluation.regrid to another kind of grid")
            bounds = source.bounds("latitude")
            if not source.is_periodic or bounds[0] < 90 - 1e-6 or bounds[-1] > -90 + 1e-6:
                raise InputError(
                    f"data.grid needs global data, their grid is {source}; leave data.grid out",
                    code="grid-mismatch",
                )
            south, target_south = (
                -np.sin(np.deg2rad(grid.bounds("latitude"))) for grid in (source, target)
            )
            longitudes = source.bounds("longitude"), target.bounds("longitude")
            overlaps = _overlaps(south, target_south), _overlaps(*longitudes, 360.0)
        else:
            overlaps = (_overlaps_on_plane(axis, source, target) for axis in source.dims)
        self._rows, self._columns = (o / o.sum(axis=1, keepdims=True) for o in overlaps)

    def apply(self, fields: np.ndarray) -> np.ndarray:
        """Means (..., target latitude, target longitude) of fields (..., latitude, longitude)."""
        means = self._rows @ (fields.astype(np.float64) @ self._columns.T)
        return means.astype(np.float32)


def _overlaps_on_plane(axis: str, source: Grid, target: Grid) -> np.ndarray:
    bounds, target_bounds = source.bounds(axis), target.bounds(axis)
    length, closes = source.length(axis), axis in source.periodic_axes
    overlaps = _overlaps(bounds, target_bounds, length if closes else None)
    covered = np.allclose(overlaps.sum(axis=1), np.diff(target_bounds), rtol=1e-3, atol=0)
    if not covered or (closes and not np.isclose(length, target.length(axis), rtol=1e-3)):
        raise InputError(
            f"the grid {source} does not cover {target} along {axis}, which means over cells need; "
            "give data on the same domain",
            code="grid-mismatch",
        )
    return overlaps


def _overlaps(bounds: np.ndarray, target: np.ndarray, circle: float | None = None) -> np.ndarray:
    """Lengths (target, source) that intervals of increasing bounds have in common.

    ``circle`` is the length after which the axis closes on itself, if it does.
    """
    overlaps = np.zeros((len(target) - 1, len(bounds) - 1))
    for turn in (0.0,) if circle is None else (-circle, 0.0, circle):
        low = np.maximum(target[:-1, None], bounds[None, :-1] + turn)
        high = np.minimum(target[1:, None], bounds[None, 1:] + turn)
        overlaps += np.maximum(high - low, 0)
    return overlaps

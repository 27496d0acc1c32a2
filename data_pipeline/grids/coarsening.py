"""Conservative regridding: cell means of a finer grid, weighted by the areas that cells share.

The area integral of a field over the globe, or over a plane, stays as it is. For nested grids a
cell is the area-weighted mean of the cells inside of it.

References:
    Jones, 1999, https://doi.org/10.1175/1520-0493(1999)127<2204:FASOCR>2.0.CO;2 (first order).
"""

from dataclasses import dataclass

import numpy as np

from data_pipeline.errors import InputError
from data_pipeline.grids.grid import Grid, LatLonGrid
from data_pipeline.grids.plane import PlaneGrid, require_latlon


@dataclass(frozen=True, kw_only=True)
class GridConfig:
    """A global grid of equal angles.

    Args:
        num_latitudes: Rows.
        num_longitudes: Columns.
        poles: Whether the outermost rows lie on the poles, or half a cell away from them.
    """

    num_latitudes: int
    num_longitudes: int
    poles: bool = False

    def __post_init__(self) -> None:
        if self.num_latitudes < 2 or self.num_longitudes < 2:
            raise ValueError(
                "data.grid needs at least 2 rows and 2 columns, got "
                f"{self.num_latitudes} x {self.num_longitudes}"
            )

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
        if isinstance(source, PlaneGrid) and isinstance(target, PlaneGrid):
            self._rows, self._columns = (_on_plane(axis, source, target) for axis in source.dims)
        else:
            asked_by = "data.grid or evaluation.regrid to another kind of grid"
            spheres = [require_latlon(grid, asked_by) for grid in (source, target)]
            self._rows, self._columns = _on_sphere(spheres[0], spheres[1])

    def apply(self, fields: np.ndarray) -> np.ndarray:
        """Means (..., target latitude, target longitude) of fields (..., latitude, longitude)."""
        means = self._rows @ (fields.astype(np.float64) @ self._columns.T)
        return means.astype(np.float32)


def _on_sphere(source: LatLonGrid, target: LatLonGrid) -> tuple[np.ndarray, np.ndarray]:
    bounds = source.latitude_bounds()
    if not source.is_periodic or bounds[0] < 90 - 1e-6 or bounds[-1] > -90 + 1e-6:
        raise InputError(
            f"data.grid needs global data, the data's grid is {source}; leave data.grid out"
        )
    given, wanted = (-np.sin(np.deg2rad(g.latitude_bounds())) for g in (source, target))
    rows = _overlaps(given, wanted)
    given, wanted = source.longitude_bounds(), target.longitude_bounds()
    return _shares(rows), _shares(_turned_overlaps(given, wanted, 360.0))


def _on_plane(axis: str, source: PlaneGrid, target: PlaneGrid) -> np.ndarray:
    given, wanted = source.bounds(axis), target.bounds(axis)
    length, other = source.length(axis), target.length(axis)
    closes = axis in source.periodic
    overlaps = _turned_overlaps(given, wanted, length) if closes else _overlaps(given, wanted)
    covered = np.allclose(overlaps.sum(axis=1), np.diff(wanted), rtol=1e-3, atol=0)
    if not covered or (closes and not np.isclose(length, other, rtol=1e-3)):
        raise InputError(
            f"the grid {source} does not cover {target} along {axis}, which means over cells need; "
            "give data on the same domain"
        )
    return _shares(overlaps)


def _turned_overlaps(given: np.ndarray, wanted: np.ndarray, circle: float) -> np.ndarray:
    """Overlaps on an axis that closes on itself after ``circle``."""
    turns = (_overlaps(given + turn, wanted) for turn in (-circle, 0, circle))
    return np.sum(list(turns), axis=0)


def _overlaps(given: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Length that intervals share, (wanted, given); both are bounds in increasing order."""
    low = np.maximum(wanted[:-1, None], given[None, :-1])
    high = np.minimum(wanted[1:, None], given[None, 1:])
    return np.maximum(high - low, 0)


def _shares(overlaps: np.ndarray) -> np.ndarray:
    return overlaps / overlaps.sum(axis=1, keepdims=True)

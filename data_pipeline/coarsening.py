"""Conservative regridding: cell means of a finer grid, weighted by the areas that cells share.

The area integral of a field over the globe stays as it is. For nested grids a cell is the
area-weighted mean of the cells inside of it.

References:
    Jones, 1999, https://doi.org/10.1175/1520-0493(1999)127<2204:FASOCR>2.0.CO;2 (first order).
"""

from dataclasses import dataclass

import numpy as np

from data_pipeline.errors import InputError
from data_pipeline.grid import LatLonGrid


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
    """Conservative means of global fields on another grid.

    Args:
        source: Grid of the fields.
        target: Grid of the means.

    Raises:
        InputError: If the source is not global.
    """

    def __init__(self, source: LatLonGrid, target: LatLonGrid) -> None:
        bounds = source.latitude_bounds()
        if not source.is_periodic or bounds[0] < 90 - 1e-6 or bounds[-1] > -90 + 1e-6:
            raise InputError(
                f"data.grid needs global data, the data's grid is {source}; leave data.grid out"
            )
        given, wanted = (-np.sin(np.deg2rad(g.latitude_bounds())) for g in (source, target))
        self._rows = _shares(_overlaps(given, wanted))
        given, wanted = source.longitude_bounds(), target.longitude_bounds()
        turns = (_overlaps(given + turn, wanted) for turn in (-360, 0, 360))
        self._columns = _shares(np.sum(list(turns), axis=0))

    def apply(self, fields: np.ndarray) -> np.ndarray:
        """Means (..., target latitude, target longitude) of fields (..., latitude, longitude)."""
        means = self._rows @ (fields.astype(np.float64) @ self._columns.T)
        return means.astype(np.float32)


def _overlaps(given: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Length that intervals share, (wanted, given); both are bounds in increasing order."""
    low = np.maximum(wanted[:-1, None], given[None, :-1])
    high = np.minimum(wanted[1:, None], given[None, 1:])
    return np.maximum(high - low, 0)


def _shares(overlaps: np.ndarray) -> np.ndarray:
    return overlaps / overlaps.sum(axis=1, keepdims=True)

"""Crops: a regional grid out of the fields of a larger one."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Interval

from data_pipeline.bounds import check_bounds
from data_pipeline.errors import InputError
from data_pipeline.grids.grid import Grid, LatLonGrid
from data_pipeline.grids.plane import require_latlon
from data_pipeline.store.states import ReadWindow


@dataclass(frozen=True, kw_only=True)
class CropConfig:
    """The cells whose centers are within a box; it may contain the prime meridian.

    Args:
        north: Northern bound in degrees.
        south: Southern bound in degrees.
        west: Western bound in degrees east; -30 and 330 are the same.
        east: Eastern bound in degrees east, from ``west`` eastward.
    """

    north: Annotated[float, Interval(ge=-90, le=90)] = 90.0
    south: Annotated[float, Interval(ge=-90, le=90)] = -90.0
    west: Annotated[float, Interval(ge=-360, le=720)] = 0.0
    east: Annotated[float, Interval(ge=-360, le=720)] = 360.0

    def __post_init__(self) -> None:
        check_bounds(self, "data.crop")
        if not self.south < self.north:
            bounds = f"south {self.south:g} and north {self.north:g}"
            raise ValueError(f"data.crop needs -90 <= south < north <= 90, got {bounds}")

    def apply(self, grid: Grid) -> tuple[LatLonGrid, ReadWindow]:
        """The regional grid, and the region of its fields in those of ``grid``.

        Raises:
            InputError: If fewer than 2 x 2 cells are left, or the grid is planar.
        """
        require_latlon(grid, "data.crop")
        latitude, longitude = (grid.coords[axis] for axis in grid.dims)
        rows = np.flatnonzero((latitude <= self.north + 1e-6) & (latitude >= self.south - 1e-6))
        span = self.east - self.west
        width = 360.0 if span >= 360 else span % 360
        offsets = (longitude - self.west + 1e-6) % 360 - 1e-6  # east of the western bound
        columns = np.argsort(offsets)
        columns = columns[offsets[columns] <= width + 1e-6]
        offsets = offsets[columns]
        if len(rows) < 2 or len(columns) < 2:
            raise InputError(
                f"data.crop leaves {len(rows)} rows and {len(columns)} columns of {grid}, expected "
                "at least 2 of each; widen it",
                code="bad-grid",
            )
        west = self.west % 360
        west -= 360.0 if west + offsets[-1] >= 360 else 0.0
        cropped = LatLonGrid(
            latitude=tuple(latitude[rows].tolist()), longitude=tuple((west + offsets).tolist())
        )
        edges = np.flatnonzero(np.diff(columns) != 1) + 1
        runs = tuple(slice(int(r[0]), int(r[-1]) + 1) for r in np.split(columns, edges))
        return cropped, ReadWindow(rows=slice(int(rows[0]), int(rows[-1]) + 1), columns=runs)

"""Regions: where on the globe scores are averaged; a plane has ``global`` alone.

The boxes are WeatherBench 2's. A cell belongs to a box if its center does, bounds included. Within
a region the weights are the cell areas (or what the convention says) and sum to one. ``_land`` and
``_sea`` multiply them by the land fraction or by one minus it.

References:
    WeatherBench 2, Rasp et al., 2024, https://arxiv.org/abs/2308.15560, section 4 (regions).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_pipeline.errors import InputError
from data_pipeline.grids.grid import Grid
from data_pipeline.grids.plane import require_latlon

_Range = tuple[float, float]
_EVERYWHERE: tuple[_Range, ...] = ((-90.0, 90.0),)


@dataclass(frozen=True, kw_only=True)
class Region:
    """A union of boxes: ranges in degrees north, and eastward from west to east in degrees east."""

    latitudes: tuple[_Range, ...] = _EVERYWHERE
    west: float = 0.0
    east: float = 360.0

    def mask(self, grid: Grid) -> np.ndarray:
        """Cells whose centers lie inside, bool of shape (latitude, longitude)."""
        if self == Region():
            return np.ones(grid.shape, bool)
        sphere = require_latlon(grid, "a part of evaluation.regions", "score global alone")
        latitude, longitude = sphere.coords["latitude"], sphere.coords["longitude"]
        rows = np.any([(latitude >= s) & (latitude <= n) for s, n in self.latitudes], axis=0)
        columns = (longitude - self.west) % 360 <= self.east - self.west
        return rows[:, None] & columns[None, :]


REGIONS: dict[str, Region] = {
    "global": Region(),
    "tropics": Region(latitudes=((-20.0, 20.0),)),
    "extratropics": Region(latitudes=((-90.0, -20.0), (20.0, 90.0))),
    "northern_hemisphere": Region(latitudes=((20.0, 90.0),)),
    "southern_hemisphere": Region(latitudes=((-90.0, -20.0),)),
    "europe": Region(latitudes=((35.0, 75.0),), west=347.5, east=402.5),
    "north_america": Region(latitudes=((25.0, 60.0),), west=240.0, east=285.0),
    "north_atlantic": Region(latitudes=((25.0, 65.0),), west=290.0, east=350.0),
    "north_pacific": Region(latitudes=((25.0, 60.0),), west=145.0, east=230.0),
    "east_asia": Region(latitudes=((25.0, 60.0),), west=102.5, east=150.0),
    "australia_new_zealand": Region(latitudes=((-45.0, -12.5),), west=120.0, east=175.0),
    "arctic": Region(latitudes=((60.0, 90.0),)),
    "antarctic": Region(latitudes=((-90.0, -60.0),)),
}


def box_of(name: str) -> str:
    """The box of a region: its name without ``_land`` or ``_sea``."""
    return name.removesuffix("_land").removesuffix("_sea")


def region_weights(
    names: Sequence[str], grid: Grid, weights: np.ndarray, land_fraction: np.ndarray | None = None
) -> np.ndarray:
    """Weights (region, latitude, longitude) of the cells in each region, with sum 1 in each.

    Names are those of ``REGIONS``, optionally with ``_land`` or ``_sea``, which need the fraction
    of land in each cell.

    Raises:
        InputError: If a region has no cell on this grid, or the land fraction is missing.
    """
    result = []
    for name in names:
        box = box_of(name)
        inside = weights * REGIONS[box].mask(grid)
        if box != name:
            if land_fraction is None:
                raise InputError(
                    f"the region {name} needs the variable land_sea_mask in the truth; add it, or "
                    f"score the region {box}",
                    code="missing-variable",
                )
            land = np.clip(land_fraction, 0, 1)
            inside = inside * (land if name.endswith("_land") else 1 - land)
        if not inside.sum() > 0:
            raise InputError(
                f"the region {name} has no cell on the grid {grid}; leave it out of "
                "evaluation.regions, or score data that covers it",
                code="empty-region",
            )
        result.append(inside / inside.sum())
    return np.stack(result)

"""Fields of a region, cut out of those of a larger grid, or interpolated linearly between them."""

from typing import NamedTuple

import numpy as np
import xarray as xr

from data_pipeline.errors import InputError
from data_pipeline.grids.grid import COORDINATE_TOLERANCE, Grid, spacing_of


class _Axis(NamedTuple):
    """Points of the larger grid along an axis, and the weights (region, point) of their values."""

    points: np.ndarray
    weights: np.ndarray | None  # None where each point of the region is one of the grid


class RegionFields:
    """Maps fields of a grid to those of a region in it.

    Args:
        grid: Of the fields.
        region: Grid of the region.
        given_by: Name of the fields in messages, such as ``--boundary``.

    Raises:
        InputError: If the grid does not cover the region.
    """

    def __init__(self, grid: Grid, region: Grid, given_by: str) -> None:
        axes = None
        if grid.dims == region.dims:
            axes = [_along(axis, grid, region) for axis in region.dims]
        if axes is None or None in axes:
            raise InputError(
                f"{given_by} is on the grid {grid}, which does not cover the region {region}; give "
                "fields on a grid around it, or the same",
                code="grid-mismatch",
            )
        self._region = region
        self._rows, self._columns = (axis for axis in axes if axis is not None)

    @property
    def is_cut(self) -> bool:
        """Whether every point of the region is one of the grid."""
        return self._rows.weights is None and self._columns.weights is None

    def select(self, dataset: xr.Dataset) -> xr.Dataset:
        """The part of a canonical dataset that the region needs, lazily.

        It has the coordinates of the region where that is cut out.
        """
        rows, columns = self._region.dims
        points = {rows: self._rows.points, columns: self._columns.points}
        selected = dataset.isel(points)
        if not self.is_cut:
            return selected
        attrs = {axis: dataset[axis].attrs for axis in points}
        coords = {a: (a, v, attrs[a]) for a, v in self._region.coords.items()}
        result = selected.assign_coords(coords)
        result.encoding = dataset.encoding
        return result

    def __call__(self, fields: np.ndarray) -> np.ndarray:
        """Fields (..., row, column) of what ``select`` gives on the region, float32."""
        if self._rows.weights is not None:
            fields = np.einsum("rp,...pc->...rc", self._rows.weights, fields)
        if self._columns.weights is not None:
            fields = np.einsum("cp,...rp->...rc", self._columns.weights, fields)
        return fields.astype(np.float32, copy=False)


def cut_out(dataset: xr.Dataset, grid: Grid, region: Grid) -> xr.Dataset:
    """The region of a dataset on a grid that has its points; else the dataset as it is."""
    try:
        fields = RegionFields(grid, region, "the data")
    except InputError:  # told where grids are compared
        return dataset
    return fields.select(dataset) if fields.is_cut else dataset


def _along(axis: str, grid: Grid, region: Grid) -> _Axis | None:
    """The points along an axis; None if they do not cover the region."""
    points, places = grid.coords[axis], region.coords[axis]
    if len(points) == 1 or len(places) == 1:
        same = len(points) == len(places)
        return _Axis(np.arange(1), None) if same else None
    indices, cell = np.arange(len(points)), spacing_of(points)
    widest = np.abs(np.diff(points)).max()
    if axis == "longitude":  # which counts from any meridian
        points = np.concatenate([points + turn for turn in (-720, -360, 0, 360, 720)])
        indices = np.tile(indices, 5)
    order = np.argsort(points)
    points, indices = points[order], indices[order]
    tolerance = COORDINATE_TOLERANCE * cell
    upper = np.minimum(np.searchsorted(points, places - tolerance), len(points) - 1)
    is_point = np.abs(points[upper] - places) <= tolerance
    lower = np.where(is_point, upper, np.maximum(upper - 1, 0))
    gap = points[upper] - points[lower]
    inside = (points[lower] <= places + tolerance) & (places <= points[upper] + tolerance)
    if not (inside & (gap <= widest + tolerance)).all():
        return None
    if is_point.all():
        return _Axis(indices[upper], None)
    share = np.where(is_point, 0.0, (places - points[lower]) / np.where(gap > 0, gap, 1))
    needed, columns = np.unique(indices[np.concatenate([lower, upper])], return_inverse=True)
    weights = np.zeros((len(places), len(needed)))
    rows = np.arange(len(places))
    np.add.at(weights, (rows, columns[: len(rows)]), 1 - share)
    np.add.at(weights, (rows, columns[len(rows) :]), share)
    return _Axis(needed, weights)

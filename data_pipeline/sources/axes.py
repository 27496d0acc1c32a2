"""Horizontal axes of sources: latitude from north to south, longitude increasing eastward."""

import numpy as np
import xarray as xr

from data_pipeline.errors import InputError
from data_pipeline.grids.grid import COORDINATE_TOLERANCE, spacing_of
from data_pipeline.sources.names import RENAME


def with_canonical_coordinates(dataset: xr.Dataset) -> xr.Dataset:
    """Order latitude from north to south, and longitude eastward without a repeated meridian."""
    for axis in ("latitude", "longitude"):
        check_axis(dataset, axis)
        units = str(dataset[axis].attrs.get("units", "degrees"))
        if units.lower().startswith("rad"):
            raise InputError(
                f"{dataset.encoding.get('source', 'the source')} has the {axis} in {units!r}, "
                "expected degrees; multiply it by 180 / pi in the file",
                code="units-mismatch",
            )
        if missing := int(dataset[axis].isnull().sum()):
            raise InputError(
                f"{dataset.encoding.get('source', 'the source')} has {missing} missing values in "
                f"the coordinate {axis}, expected none; correct the coordinate in the file",
                code="bad-grid",
            )
    latitude = dataset["latitude"].values
    if latitude[0] < latitude[-1]:
        dataset = dataset.isel(latitude=slice(None, None, -1))
    longitude = dataset["longitude"].values.astype(float)
    digits = COORDINATE_TOLERANCE * spacing_of(longitude)
    if len(longitude) > 1 and abs(abs(longitude[-1] - longitude[0]) - 360) < 2 * digits:
        dataset, longitude = dataset.isel(longitude=slice(-1)), longitude[:-1]
    # 0..360, or -180..180 where that keeps a region in one piece.
    east, centered = _turned(longitude, 0.0, digits), _turned(longitude, -180.0, digits)
    longitude = east if np.ptp(east) <= np.ptp(centered) + digits else centered
    return sorted_along(dataset.assign_coords(longitude=longitude), "longitude")


def check_axis(dataset: xr.Dataset, axis: str) -> None:
    """Reject an axis without values, or with others than numbers ("bad-grid")."""
    values = dataset[axis]
    if values.size and values.dtype.kind in "iuf" and not np.isinf(values.values).any():
        return
    raise InputError(
        f"{dataset.encoding.get('source', 'the source')} has {values.size} values of the type "
        f"{values.dtype} in the coordinate {axis}, expected finite numbers; correct the coordinate "
        "in the file",
        code="bad-grid",
    )


def _turned(longitude: np.ndarray, west: float, digits: float) -> np.ndarray:
    """Longitudes from ``west`` on; those within ``digits`` of it are not at the other end."""
    turned = (longitude - west + digits) % 360 - digits
    return np.maximum(turned, 0) + west


def reject_scattered_points(dataset: xr.Dataset, source: str) -> None:
    """Reject fields without rows and columns, which reduced and unstructured grids have.

    Raises:
        InputError: If latitudes and longitudes are those of points along one dimension, or of the
            points of a curvilinear grid.
    """
    found = {RENAME.get(str(name), str(name)): name for name in dataset.variables}
    if not {"latitude", "longitude"} <= found.keys():
        return
    dims = [dataset[found[axis]].dims for axis in ("latitude", "longitude")]
    if dims[0] != dims[1] or not dims[0]:
        return
    points = " x ".join(f"{dataset.sizes[dim]} {dim}" for dim in dims[0])
    kind = "reduced or unstructured" if len(dims[0]) == 1 else "curvilinear"
    raise InputError(
        f"{source} has the latitudes and longitudes of {points}, a {kind} grid, expected rows and "
        "columns; interpolate it to a latitude-longitude grid first, such as by `cdo remapcon` (a "
        "reduced Gaussian grid by `cdo setgridtype,regular`), or download it on one",
        code="bad-grid",
    )


def sorted_along(dataset: xr.Dataset, axis: str) -> xr.Dataset:
    """Sort an axis, unless it is sorted: an index costs time at every read."""
    increases = (np.diff(dataset[axis].values) > 0).all()
    return dataset if increases else dataset.sortby(axis)

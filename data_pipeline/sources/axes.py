"""Horizontal axes of sources: latitude from north to south, longitude increasing eastward."""

import numpy as np
import xarray as xr


def with_canonical_coordinates(dataset: xr.Dataset) -> xr.Dataset:
    """Order latitude from north to south, and longitude eastward without a repeated meridian."""
    latitude = dataset["latitude"].values
    if latitude[0] < latitude[-1]:
        dataset = dataset.isel(latitude=slice(None, None, -1))
    longitude = dataset["longitude"].values.astype(float)
    if len(longitude) > 1 and np.isclose(longitude[-1] - longitude[0], 360):
        dataset, longitude = dataset.isel(longitude=slice(-1)), longitude[:-1]
    # 0..360, or -180..180 where that keeps a region in one piece.
    east, centered = longitude % 360, (longitude + 180) % 360 - 180
    longitude = east if np.ptp(east) <= np.ptp(centered) + 1e-6 else centered
    return sorted_along(dataset.assign_coords(longitude=longitude), "longitude")


def sorted_along(dataset: xr.Dataset, axis: str) -> xr.Dataset:
    """Sort an axis, unless it is sorted: an index costs time at every read."""
    increases = (np.diff(dataset[axis].values) > 0).all()
    return dataset if increases else dataset.sortby(axis)

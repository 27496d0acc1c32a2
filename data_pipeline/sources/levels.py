"""Vertical axes of sources: pressure levels as increasing integers in hPa."""

import numpy as np
import xarray as xr

from data_pipeline.errors import InputError
from data_pipeline.sources.axes import sorted_along
from data_pipeline.sources.names import normalize_units

_LARGEST_PRESSURE = 2000  # hPa; unnamed levels beyond it are in Pa


def with_integer_levels(dataset: xr.Dataset, name: str) -> xr.Dataset:
    """Order levels as increasing integers in hPa.

    Raises:
        InputError: If a level of the file ``name`` is not an integer.
    """
    if "level" not in dataset.dims:
        return dataset.drop_vars("level", errors="ignore")
    units = normalize_units(str(dataset["level"].attrs.get("units", "")))
    levels = dataset["level"].values
    if units == "Pa" or (not units and levels.max() > _LARGEST_PRESSURE):
        levels = levels / 100
    if not np.allclose(levels, np.round(levels)):
        message = f"{name} has the levels {levels.tolist()} hPa, expected integers"
        raise InputError(message, code="bad-levels")
    return sorted_along(dataset.assign_coords(level=np.round(levels).astype(int)), "level")

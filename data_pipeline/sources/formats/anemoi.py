"""Stores of anemoi-datasets: all variables of a time in one array, with flattened fields.

``data`` is (time, variable, ensemble, cell), with ``dates``, ``latitudes`` and ``longitudes``; the
attributes have the names of the variables (``2t``, ``z_500``), the shape of the fields, and the
dates without data. Units are those that ``variables_metadata`` states, else those of ECMWF.

References:
    anemoi-datasets, https://anemoi.readthedocs.io/projects/datasets
"""

from collections.abc import Mapping
from typing import Any

import dask.array
import numpy as np
import xarray as xr

from data_pipeline.errors import InputError
from data_pipeline.sources.fields.levels_joined import joined_along_levels
from data_pipeline.sources.names import RENAME, UNITS, parse_label

_ARRAYS = {"data", "dates", "latitudes", "longitudes"}
_ON_PRESSURE = "pl"


def is_anemoi(dataset: xr.Dataset) -> bool:
    """Whether a store has the layout of anemoi-datasets."""
    has_arrays = {*map(str, dataset.variables)} >= _ARRAYS
    return has_arrays and "variables" in dataset.attrs and dataset["data"].ndim == 4


def anemoi_fields(dataset: xr.Dataset, path: str) -> xr.Dataset:
    """Variables with times, levels, latitudes and longitudes, lazily.

    Args:
        dataset: As opened, with chunks.
        path: Store, for messages.

    Raises:
        InputError: If the fields are on no grid of latitudes and longitudes ("other-layout"), or
            the attributes do not suit the arrays ("unreadable-file").
    """
    names = [str(name) for name in dataset.attrs["variables"]]
    data, shape = dataset["data"], _grid_shape(dataset, path)
    if len(names) != data.shape[1] or dataset["dates"].shape != data.shape[:1]:
        raise InputError(
            f"{path} has {len(names)} names of variables and {dataset['dates'].size} dates for its "
            f"array data {data.shape}, expected as many; copy it again",
            code="unreadable-file",
        )
    # A chunk holds all variables: it is read once for all of them.
    whole = data.data.map_blocks(_as_it_is, dtype=data.dtype, meta=data.data._meta)
    dims = ("time", "ensemble", "latitude", "longitude")
    members = (data.shape[0], data.shape[2])
    metadata = _metadata(dataset)
    levels: dict[str, dict[int, dask.array.Array]] = {}
    variables: dict[str, xr.Variable] = {}
    for number, name in enumerate(names):
        fields = whole[:, number].reshape(*members, *shape)
        known = metadata.get(name, {})
        label, level = parse_label(name)
        on_level = known.get("mars", {}).get("levtype", _ON_PRESSURE) == _ON_PRESSURE
        if level is not None and on_level:
            levels.setdefault(label, {})[level] = fields
            continue
        units = known.get("units") or UNITS.get(RENAME.get(name, name), "")
        variables[name] = xr.Variable(dims, fields, {"units": units})
    axes = {"latitude": dataset["latitudes"].values.reshape(shape)[:, 0]}
    axes["longitude"] = dataset["longitudes"].values.reshape(shape)[0]
    coordinates = {"time": dataset["dates"].values.astype("M8[ns]"), **axes}
    parts = [xr.Dataset(variables, coordinates)]
    parts += [_with_levels(label, each, dims, coordinates) for label, each in levels.items()]
    result = joined_along_levels(parts)
    missing = np.array(dataset.attrs.get("missing_dates") or [], "M8[ns]")
    return result.isel(time=~np.isin(result["time"].values, missing))


def _as_it_is(block: np.ndarray) -> np.ndarray:
    return block


def _metadata(dataset: xr.Dataset) -> dict[str, Mapping[str, Any]]:
    found = dataset.attrs.get("variables_metadata")
    return (
        {k: v for k, v in found.items() if isinstance(v, dict)} if isinstance(found, dict) else {}
    )


def _with_levels(
    name: str,
    by_level: Mapping[int, dask.array.Array],
    dims: tuple[str, ...],
    coordinates: Mapping[str, np.ndarray],
) -> xr.Dataset:
    chosen = sorted(by_level)
    stacked = dask.array.stack([by_level[level] for level in chosen], axis=1)
    array = xr.Variable((dims[0], "level", *dims[1:]), stacked, {"units": UNITS.get(name, "")})
    return xr.Dataset({name: array}, {**coordinates, "level": ("level", chosen, {"units": "hPa"})})


def _grid_shape(dataset: xr.Dataset, path: str) -> tuple[int, int]:
    """Rows and columns of fields on a grid of latitudes and longitudes.

    Raises:
        InputError: If they are on another ("other-layout").
    """
    shape = tuple(int(size) for size in dataset.attrs.get("field_shape") or ())
    latitude, longitude = (dataset[name].values for name in ("latitudes", "longitudes"))
    if len(shape) == 2 and latitude.shape == longitude.shape == (shape[0] * shape[1],):
        rows, columns = latitude.reshape(shape), longitude.reshape(shape)
        if (rows == rows[:, :1]).all() and (columns == columns[:1]).all():
            return shape
    raise InputError(
        f"{path} is a store of anemoi-datasets with {latitude.size} points and the field_shape "
        f"{list(shape)}, expected rows of latitudes and longitudes; make it with a regular grid "
        "(such as `grid: [1.0, 1.0]` in its recipe)",
        code="other-layout",
    )

"""Sources of any layout, read as one canonical dataset.

A canonical dataset has variables under the names of WeatherBench 2 with CF units, dimensions (time,
[level], latitude, longitude), latitude from north to south, longitude increasing eastward (0..360,
or -180..180 for a region that contains the prime meridian), levels as increasing integers in hPa,
datetime64 times. Everything stays lazy. Names and units are listed in ``names``.

Fields on a plane have the dimensions (time, y, x) with increasing y and x, and the attributes that
``grids.plane`` lists. Their variables keep their names, and those that state no units have none.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress

import numpy as np
import xarray as xr

from data_pipeline.errors import InputError
from data_pipeline.grids.plane import grid_of, is_planar
from data_pipeline.sources.chunks import PIECE_BYTES
from data_pipeline.sources.config import SourceConfig
from data_pipeline.sources.files import expand_glob, open_all
from data_pipeline.sources.join import join
from data_pipeline.sources.names import INVARIANT, RENAME, STANDARD_NAMES, UNITS, normalize_units
from data_pipeline.sources.pde_benchmarks import open_benchmark
from data_pipeline.sources.retry import DEFAULT_POLICY, RetryPolicy

# Axes of length one that CDS, GRIB and CMIP add.
_DROPPABLE_AXES = ("expver", "number", "step", "surface", "height", "depth", "meanSea")
_DROPPABLE_AXES += ("heightAboveGround", "realization", "ensemble", "band")
_LARGEST_PRESSURE = 2000  # hPa; unnamed levels beyond it are in Pa


def open_source(
    config: SourceConfig,
    static: Sequence[str] = (),
    *,
    policy: RetryPolicy = DEFAULT_POLICY,
    piece_bytes: int = PIECE_BYTES,
) -> xr.Dataset:
    """Open a source lazily as a canonical dataset, to be closed by the caller.

    Args:
        config: What to open.
        static: Variables that do not change, in addition to the invariants of ERA5. With a single
            time in files of their own they are taken for all times.
        policy: How patiently a URL is opened.
        piece_bytes: Size of the chunks of files that have none.

    Raises:
        InputError: If a path does not exist or cannot be read, an axis is missing, times repeat or
            decrease, files differ in grid or units, or a unit is not the expected one.
    """
    if config.benchmark is not None:
        groups = [expand_glob(path) for path in config.paths]
        return open_benchmark(groups, config.benchmark, config.rename, config.periodic)
    opened: list[xr.Dataset] = []
    for path in config.paths:
        opened += open_all(path, config, policy=policy, piece_bytes=piece_bytes)
    result = join([canonicalize(dataset, config) for dataset in opened], (*INVARIANT, *static))

    def close() -> None:
        for dataset in opened:
            dataset.close()

    result.set_close(close)
    return result


def canonicalize(dataset: xr.Dataset, config: SourceConfig) -> xr.Dataset:
    """Rename, reorder and check an opened dataset; see the module's header."""
    name = str(dataset.encoding.get("source", config.path))
    dataset = _with_one_time(dataset)
    known = {*dataset.variables, *dataset.dims}
    plane = dataset.rename({old: new for old, new in config.rename.items() if old in known})
    names = {RENAME.get(str(variable), str(variable)) for variable in plane.variables}
    # Projected maps have y and x too, in addition to latitudes and longitudes of each point.
    planar = is_planar(plane) and not names & {"latitude", "longitude"}
    dataset = _without_droppable_axes(plane if planar else _renamed(dataset, config.rename))
    for axis in () if planar else ("latitude", "longitude"):
        if axis not in dataset.coords or dataset[axis].ndim != 1:
            raise InputError(
                f"{name} lacks the 1-D coordinate {axis} (or, on a plane, y and x); it has "
                f"{list(dataset.coords)}; map its name with data.source.rename",
                code="missing-axis",
            )
    if "time" in dataset.variables:
        dataset = _with_standard_times(dataset, name)
    if planar:
        dataset = _with_plane_attrs(_sorted(_sorted(dataset, "y"), "x"), config, name)
    else:
        dataset = _with_integer_levels(_with_sorted_axes(dataset), name)
    axes = ("time", "y", "x") if planar else ("time", "level", "latitude", "longitude")
    dataset = dataset.transpose(*[axis for axis in axes if axis in dataset.dims], ...)
    dataset.encoding["source"] = name
    wrong = []
    for variable, array in dataset.data_vars.items():
        stated = config.units.get(str(variable), str(array.attrs.get("units", "")))
        units = normalize_units(stated)
        expected = units if planar else UNITS.get(str(variable), units)
        if units != expected and units:
            wrong.append(f"{variable} in {stated!r}, expected {expected!r}")
        array.attrs["units"] = units or ("1" if planar else "")
    if wrong:
        message = f"{name} has {'; '.join(wrong)}; convert the data, or correct data.source.units"
        raise InputError(message, code="units-mismatch")
    return dataset


def _with_plane_attrs(dataset: xr.Dataset, config: SourceConfig, name: str) -> xr.Dataset:
    if config.periodic is not None:
        dataset = dataset.assign_attrs(periodic=" ".join(config.periodic))
    try:
        return dataset.assign_attrs(grid_of(dataset).attrs)
    except InputError as error:
        raise InputError(f"{name}: {error}", code=error.code) from error


def _with_one_time(dataset: xr.Dataset) -> xr.Dataset:
    """Keep the valid time alone, where GRIB and CDS add the start of a forecast."""
    if "valid_time" not in dataset.variables or "time" not in dataset.variables:
        return dataset
    if "valid_time" in dataset.dims:
        return dataset.drop_vars("time")
    if dataset["valid_time"].dims == ("time",):
        dataset = dataset.assign_coords(time=dataset["valid_time"].values)
    return dataset.drop_vars("valid_time")


def _renamed(dataset: xr.Dataset, further: Mapping[str, str]) -> xr.Dataset:
    table = RENAME | dict(further)
    names = {str(old): table[str(old)] for old in dataset.variables if str(old) in table}
    for old, variable in dataset.data_vars.items():
        standard = STANDARD_NAMES.get(str(variable.attrs.get("standard_name", "")))
        known = str(old) in names or str(old) in UNITS
        if standard and not known:
            names[str(old)] = standard[_has_levels(variable, names)]
    if "z" in dataset and "z" not in further and not _has_levels(dataset["z"], names):
        names["z"] = "geopotential_at_surface"
    dims = {str(d): table[str(d)] for d in dataset.dims if str(d) in table and d not in names}
    changed = {old: new for old, new in (names | dims).items() if old != new}
    return dataset.rename(changed)


def _has_levels(variable: xr.DataArray, names: Mapping[str, str]) -> bool:
    return any(names.get(str(d), RENAME.get(str(d), str(d))) == "level" for d in variable.dims)


def _without_droppable_axes(dataset: xr.Dataset) -> xr.Dataset:
    if dataset.sizes.get("expver", 1) == 2:  # ERA5 and, for the last months, preliminary ERA5T
        first, second = (dataset.isel(expver=index, drop=True) for index in (0, 1))
        dataset = first.combine_first(second)
    dataset = dataset.squeeze([d for d in _DROPPABLE_AXES if dataset.sizes.get(d) == 1], drop=True)
    scalars = [str(name) for name, coord in dataset.coords.items() if name not in dataset.dims]
    return dataset.drop_vars([name for name in scalars if name not in ("time", "level")])


def _with_standard_times(dataset: xr.Dataset, name: str) -> xr.Dataset:
    if "time" not in dataset.dims:
        dataset = dataset.expand_dims("time")
    if dataset["time"].dtype == object:  # cftime: noleap leaves out leap days, which stay missing
        dataset = dataset.convert_calendar("standard", use_cftime=False, align_on="date")
    times = dataset["time"].values
    if not np.issubdtype(times.dtype, np.datetime64):
        message = f"{name} has times of type {times.dtype}; give them CF units such as "
        raise InputError(message + "'hours since 1900-01-01'", code="no-times")
    dataset = dataset.assign_coords(time=times.astype("datetime64[ns]"))
    ends = [str(dataset.attrs.get(f"valid_time_{end}", "")) for end in ("start", "stop")]
    with suppress(ValueError):  # ARCO-ERA5 states which times it has filled: its axis ends in 2050
        first, last = (np.datetime64(end) for end in ends)
        if not np.isnat(first) and not np.isnat(last):
            times = dataset["time"].values
            return dataset.isel(time=(times >= first) & (times < last + 1))  # last is a full day
    return dataset


def _with_sorted_axes(dataset: xr.Dataset) -> xr.Dataset:
    latitude = dataset["latitude"].values
    if latitude[0] < latitude[-1]:
        dataset = dataset.isel(latitude=slice(None, None, -1))
    longitude = dataset["longitude"].values.astype(float)
    if len(longitude) > 1 and np.isclose(longitude[-1] - longitude[0], 360):
        dataset, longitude = dataset.isel(longitude=slice(-1)), longitude[:-1]
    # 0..360, or -180..180 where that keeps a region in one piece.
    east, centered = longitude % 360, (longitude + 180) % 360 - 180
    longitude = east if np.ptp(east) <= np.ptp(centered) + 1e-6 else centered
    return _sorted(dataset.assign_coords(longitude=longitude), "longitude")


def _sorted(dataset: xr.Dataset, axis: str) -> xr.Dataset:
    """Sort an axis, unless it is sorted: an index costs time at every read."""
    increases = (np.diff(dataset[axis].values) > 0).all()
    return dataset if increases else dataset.sortby(axis)


def _with_integer_levels(dataset: xr.Dataset, name: str) -> xr.Dataset:
    if "level" not in dataset.dims:
        return dataset.drop_vars("level", errors="ignore")
    units = normalize_units(str(dataset["level"].attrs.get("units", "")))
    levels = dataset["level"].values
    if units == "Pa" or (not units and levels.max() > _LARGEST_PRESSURE):
        levels = levels / 100
    if not np.allclose(levels, np.round(levels)):
        message = f"{name} has the levels {levels.tolist()} hPa, expected integers"
        raise InputError(message, code="bad-levels")
    return _sorted(dataset.assign_coords(level=np.round(levels).astype(int)), "level")


def require_units(dataset: xr.Dataset, names: list[str]) -> None:
    """Reject variables whose attribute ``units`` is missing or empty; the error names them all."""
    missing = [name for name in names if not dataset[name].attrs.get("units")]
    if missing:
        usual = ", ".join(f"{name}: {UNITS.get(name, '?')}" for name in missing)
        message = f"{missing} state no units; set data.source.units={{{usual}}} if that is right"
        raise InputError(message, code="missing-units")

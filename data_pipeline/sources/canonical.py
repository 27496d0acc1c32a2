"""Sources of any layout, read as one canonical dataset.

A canonical dataset has variables under the names of WeatherBench 2 with CF units, dimensions (time,
[level], latitude, longitude), latitude from north to south, longitude increasing eastward (0..360,
or -180..180 for a region that contains the prime meridian), levels as increasing integers in hPa,
datetime64 times. Everything stays lazy. Names and units are listed in ``names``.

Fields on a plane have the dimensions (time, y, x) with increasing y and x, and the attributes that
``grids.plane`` lists. Their variables keep their names, and those that state no units have none.
"""

from collections.abc import Collection, Sequence

import xarray as xr

from data_pipeline.errors import InputError
from data_pipeline.grids.plane import grid_of, is_planar
from data_pipeline.sources.axes import (
    check_axis,
    reject_scattered_points,
    sorted_along,
    with_canonical_coordinates,
)
from data_pipeline.sources.config import SourceConfig
from data_pipeline.sources.fields.defaults import with_default_units_and_marks, with_defaults
from data_pipeline.sources.fields.identify import ambiguous_names, identified
from data_pipeline.sources.fields.rename import check_renames, renames_of
from data_pipeline.sources.fields.select import (
    MEMBER_AXES,
    check_members,
    check_selected,
    with_final_values,
    with_selected_entries,
    with_selected_levels,
)
from data_pipeline.sources.files import UNITS_BY_TABLE, expand_glob, open_all
from data_pipeline.sources.formats.chunks import PIECE_BYTES
from data_pipeline.sources.formats.fourcastnet_hdf5 import check_channels_used
from data_pipeline.sources.formats.pde_benchmarks import open_benchmark
from data_pipeline.sources.join import join, with_origins
from data_pipeline.sources.left_out import leave_out
from data_pipeline.sources.missing_marks import check_marks, with_marks_missing
from data_pipeline.sources.names import INVARIANT, RENAME, canonical_label
from data_pipeline.sources.retry import DEFAULT_POLICY, RetryPolicy
from data_pipeline.sources.time_axis import with_standard_times
from data_pipeline.sources.time_numbers import with_dates
from data_pipeline.sources.units import with_checked_units
from data_pipeline.sources.valid_times import with_valid_times

# Axes of length one that CDS, GRIB and CMIP add.
_DROPPABLE_AXES = ("expver", "step", "surface", "height", "depth", "meanSea", "band", "lev")
_DROPPABLE_AXES += ("heightAboveGround", *MEMBER_AXES)

SET_ASIDE = "set_aside"
"""Key of the encoding that lists the variables which were not wanted."""


def open_source(
    config: SourceConfig,
    static: Sequence[str] = (),
    *,
    policy: RetryPolicy = DEFAULT_POLICY,
    piece_bytes: int = PIECE_BYTES,
    defaults: SourceConfig | None = None,
    wanted: Collection[str] | None = None,
) -> xr.Dataset:
    """Open a source lazily as a canonical dataset, to be closed by the caller.

    Args:
        config: What to open.
        static: Variables that do not change, in addition to the invariants of ERA5. With a single
            time in files of their own they are taken for all times.
        policy: How patiently a URL is opened.
        piece_bytes: Size of the chunks of files that have none.
        defaults: Names, units, entries and marks of another source, which hold where these files
            have them and ``config`` does not say otherwise.
        wanted: Variables to read; others, which may be at other times or incomplete, are left
            aside. By default all.

    Raises:
        InputError: If a path does not exist or cannot be read, an axis is missing, times repeat or
            decrease, files differ in grid or units, or a unit is not the expected one.
    """
    if config.benchmark is not None:
        groups = [expand_glob(path) for path in config.paths]
        rename = renames_of(config.rename, "")
        trajectories = open_benchmark(
            groups, config.benchmark, rename, config.periodic, config.time_units
        )
        check_marks(trajectories, config.missing)
        return with_marks_missing(trajectories, config.missing)
    opened: list[xr.Dataset] = []
    for path in config.paths:
        opened += open_all(path, config, policy=policy, piece_bytes=piece_bytes)
    config = config if defaults is None else with_defaults(config, defaults, opened)
    found = canonical_parts(opened, config)
    parts = _with_variables(found, wanted)
    result = with_origins(join(parts, (*INVARIANT, *static)), parts)
    present = {str(name) for part in found for name in part.data_vars}
    result.encoding[SET_ASIDE] = sorted(present - {*map(str, result.data_vars)})
    check_marks(result, config.missing)
    if defaults is not None:
        result = with_default_units_and_marks(result, config, defaults)

    def close() -> None:
        for dataset in opened:
            dataset.close()

    result.set_close(close)
    return result


def canonical_parts(opened: Sequence[xr.Dataset], config: SourceConfig) -> list[xr.Dataset]:
    """The files of one source as canonical datasets, to be joined.

    Raises:
        InputError: As by ``open_source``; ``rename`` or ``select`` name things that no file has, or
            a file holds several members.
    """
    check_channels_used(opened, config)
    check_renames(config.rename, opened)
    check_selected(opened, config.select)
    ambiguous = ambiguous_names(opened) if len(opened) > 1 else ()
    parts = [canonicalize(dataset, config, ambiguous) for dataset in opened]
    kept = [part for part in parts if part.data_vars] or parts[:1]
    for part in kept:
        check_members(part, part.encoding["source"])
    return kept


def _with_variables(parts: list[xr.Dataset], wanted: Collection[str] | None) -> list[xr.Dataset]:
    """The parts with the wanted variables, or all where no part has one."""
    if wanted is None:
        return parts
    chosen = [part[[name for name in part.data_vars if name in wanted]] for part in parts]
    for part, given in zip(chosen, parts, strict=True):
        part.encoding = dict(given.encoding)
    return [part for part in chosen if part.data_vars] or parts


def canonicalize(
    dataset: xr.Dataset,
    config: SourceConfig,
    ambiguous: Collection[str] = (),
    *,
    is_forecast: bool = False,
) -> xr.Dataset:
    """Rename, reorder and check an opened dataset; see the module's header.

    A forecast keeps its initial and lead times, anything else has valid times alone. Units of GRIB
    follow from tables, and are converted where they are known. ``ambiguous`` are names that stand
    for several fields in the source, see ``identify``.
    """
    name = str(dataset.encoding.get("source", config.path))
    convert = config.convert or dataset.encoding.get(UNITS_BY_TABLE, False)
    rename = renames_of(config.rename, name)
    dataset = with_final_values(with_selected_entries(dataset, config.select), name)
    dataset = with_dates(dataset, rename, config)
    dataset = dataset if is_forecast else with_valid_times(dataset, rename, name)
    rename = {old: new for old, new in rename.items() if old != "time"}
    known = {*dataset.variables, *dataset.dims}
    plane = dataset.rename({old: new for old, new in rename.items() if old in known})
    names = {RENAME.get(str(variable), str(variable)) for variable in plane.variables}
    # Projected maps have y and x too, in addition to latitudes and longitudes of each point.
    planar = is_planar(plane) and not names & {"latitude", "longitude"}
    if planar:
        dataset = plane.drop_vars([n for n in plane.coords if n not in (*plane.dims, "time")])
    else:
        dataset = identified(dataset, rename, name, ambiguous, config.units.get("level", ""))
    single = [axis for axis in _DROPPABLE_AXES if dataset.sizes.get(axis) == 1]
    dataset = dataset.squeeze(single, drop=True)
    for axis in () if planar else ("latitude", "longitude"):
        if axis not in dataset.coords or dataset[axis].dims != (axis,):
            reject_scattered_points(plane, name)
            raise InputError(
                f"{name} lacks the 1-D coordinate {axis} (or, on a plane, y and x); it has "
                f"{list(dataset.coords)}; map its name with data.source.rename",
                code="missing-axis",
            )
    if "time" in dataset.variables:
        dataset = with_standard_times(dataset, name)
    elif dataset.sizes.get("time", 1) > 1:
        raise InputError(
            f"{name} has {dataset.sizes['time']} entries along time and no coordinate time, it has "
            f"{list(dataset.coords)}; map its name with data.source.rename",
            code="no-times",
        )
    if planar:
        for axis in ("y", "x"):
            check_axis(dataset, axis)
        dataset = _with_plane_attrs(sorted_along(sorted_along(dataset, "y"), "x"), config, name)
    else:
        dataset = with_selected_levels(with_canonical_coordinates(dataset), config.select)
    axes = ("time", "y", "x") if planar else ("time", "level", "latitude", "longitude")
    dataset = dataset.transpose(*[axis for axis in axes if axis in dataset.dims], ...)
    dataset.encoding["source"] = name
    dataset = with_marks_missing(_without_other_types(dataset, name), config.missing)
    units = {canonical_label(key)[0]: value for key, value in config.units.items()}
    units = config.units | units
    return with_checked_units(dataset, units, name, planar=planar, convert=convert)


def _without_other_types(dataset: xr.Dataset, name: str) -> xr.Dataset:
    """The variables of real numbers; text, dates and complex numbers are left out."""
    others = {
        str(variable): f"it holds values of the type {array.dtype} in {name}, expected real "
        "numbers; convert them in the file (complex numbers to their real and imaginary parts)"
        for variable, array in dataset.data_vars.items()
        if array.dtype.kind not in "fiub"
    }
    return leave_out(dataset, others) if others else dataset


def _with_plane_attrs(dataset: xr.Dataset, config: SourceConfig, name: str) -> xr.Dataset:
    if config.periodic is not None:
        dataset = dataset.assign_attrs(periodic=" ".join(config.periodic))
    try:
        return dataset.assign_attrs(grid_of(dataset).attrs)
    except InputError as error:
        raise InputError(f"{name}: {error}", code=error.code) from error

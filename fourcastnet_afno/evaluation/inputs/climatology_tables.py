"""Tables of a climatology, by day of the year or month, and hour of day.

A table has some of the axes ``hour``, and ``dayofyear`` or ``month``; one without an axis is the
same along it. Days are looked up as follows.

dayofyear, 1 to 366   the day of the year, as in WeatherBench 2: day 60 of a leap year is February
                      29, of other years March 1
dayofyear, 1 to 365   the day of a year without leap day; February 29 is the mean of its neighbors
month, 1 to 12        the month, the same on all of its days
"""

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from data_pipeline.channels import Channel
from data_pipeline.errors import InputError
from data_pipeline.grids.grid import space_dims
from data_pipeline.preprocessing.climatology import hours_of_day
from data_pipeline.sources.canonical import canonical_parts
from data_pipeline.sources.config import SourceConfig
from data_pipeline.sources.fields.rename import renames_of
from data_pipeline.sources.files import open_all
from data_pipeline.sources.retry import read_errors_as_input_errors, with_retries
from fourcastnet_afno.evaluation.inputs.climatologies import Climatology, pick, require_hours

TABLE_AXES = ("hour", "dayofyear", "month")
_YEAR, _LEAP_YEAR, _MONTHS = range(1, 366), range(1, 367), range(1, 13)
_MONTH_DAYS = np.array([31, 28.25, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
_UNITS = {"hour": "h", "dayofyear": "D", "month": "D"}  # in which xarray decodes durations


def is_table(dataset: xr.Dataset, source: SourceConfig | None = None) -> bool:
    """Whether a dataset has an axis of a table, under the names that a source gives it."""
    rename = {} if source is None else renames_of(source.rename, _file(dataset))
    names = {rename.get(str(name), str(name)) for name in dataset.dims}
    return bool(names & set(TABLE_AXES))


def open_table(source: SourceConfig) -> xr.Dataset:
    """Open a table of one or several files, by variable or along an axis of the table.

    Raises:
        InputError: If files cannot be read, differ in grid or axes, or contradict each other.
    """
    opened = [dataset for path in source.paths for dataset in open_all(path, source)]
    parts = canonical_parts([_with_table_axes(part, source) for part in opened], source)
    parts = [
        part.isel(time=0, drop=True) if part.sizes.get("time") == 1 else part for part in parts
    ]
    if len(parts) == 1:
        return parts[0]
    rows, columns = space_dims(parts[0].dims)
    try:
        for index, part in enumerate(parts[1:], 1):
            for axis in (rows, columns):
                if not np.allclose(part[axis], parts[0][axis], rtol=0, atol=1e-3):
                    raise ValueError(f"the {axis} differs")
            parts[index] = part.assign_coords({a: parts[0][a] for a in (rows, columns)})
        merged = xr.combine_by_coords(
            parts, compat="no_conflicts", join="outer", combine_attrs="override"
        )
    except (ValueError, KeyError) as error:
        raise InputError(
            f"the files of the climatology {source.path} do not make one table ({error}); give "
            "files of different variables, hours or days on one grid",
            code="files-differ",
        ) from error
    assert isinstance(merged, xr.Dataset)
    merged.encoding["source"] = parts[0].encoding["source"]
    return merged


def _file(dataset: xr.Dataset) -> str:
    return str(dataset.encoding.get("source", ""))


def _with_table_axes(dataset: xr.Dataset, source: SourceConfig) -> xr.Dataset:
    """Turn scalar coordinates such as a single hour into axes, and durations into numbers."""
    rename = renames_of(source.rename, _file(dataset))
    for stored in [str(name) for name in dataset.coords]:
        axis = rename.get(stored, stored)
        if axis not in TABLE_AXES:
            continue
        values = dataset[stored]
        if values.dtype.kind == "m":  # an attribute units, such as hours, makes it a duration
            values = values / np.timedelta64(1, _UNITS[axis])
            dataset = dataset.assign_coords({stored: values})
        if values.ndim == 0:
            dataset = dataset.expand_dims(stored)
    return dataset


def from_table(
    table: xr.Dataset,
    description: str = "given table",
    *,
    covered: np.ndarray | None = None,
    times: np.ndarray | None = None,
) -> Climatology:
    """A climatology by the axes of a table, see the module's header.

    Args:
        table: Canonical, see ``sources.canonical``.
        description: For reports.
        covered: Whether an hour and day (hour, dayofyear) can be used; by default all.
        times: Of the data behind it, where known.

    Raises:
        InputError: If the axes are not as the header says.
    """
    table = _checked(table)
    axes = {axis: table[axis].values for axis in TABLE_AXES if axis in table.dims}
    day_axis = next((axis for axis in ("dayofyear", "month") if axis in axes), None)
    name = _file(table) or "the climatology"

    def require_times(valid: np.ndarray) -> None:
        if "hour" in axes:
            require_hours(axes["hour"], valid)
        if day_axis is not None:
            needed = np.unique(np.concatenate(_positions(day_axis, axes[day_axis], valid)))
            missing = sorted(set(needed.tolist()) - set(axes[day_axis].tolist()))
            if missing:
                raise _missing_days(f"it lacks {day_axis} {_shortened(np.array(missing))}")
        if covered is not None:
            hours = np.searchsorted(axes["hour"], hours_of_day(valid)) if "hour" in axes else 0
            days, _ = _positions("dayofyear", axes["dayofyear"], valid)
            lacking = ~covered[hours, days - 1]
            if lacking.any():
                raise _missing_days(
                    f"there are too few states near day {days[lacking][0]} of the year, "
                    f"{valid[lacking][0].astype('datetime64[D]')}",
                    "more years, or set evaluation.climatology=harmonics and fewer harmonics with "
                    "evaluation.climatology_harmonics (0 fits a constant)",
                )

    def at(channel: Channel, valid: np.ndarray) -> np.ndarray:
        require_times(valid)
        fields = pick(table, channel)
        index = {"hour": hours_of_day(valid)} if "hour" in axes else {}
        if day_axis is None:
            return _read(fields, index, name)
        first, second = _positions(day_axis, axes[day_axis], valid)
        result = _read(fields, {**index, day_axis: first}, name)
        leap = first != second
        if leap.any():
            others = {axis: values[leap] for axis, values in {**index, day_axis: second}.items()}
            result[leap] = (result[leap] + _read(fields, others, name)) / 2
        return result

    def mean(channel: Channel) -> np.ndarray:
        fields = pick(table, channel)
        if "month" in axes:
            days = xr.DataArray(_MONTH_DAYS[axes["month"] - 1], dims="month")
            fields = fields.weighted(days).mean("month")
        others = [axis for axis in ("hour", "dayofyear") if axis in fields.dims]
        return fields.mean(others, dtype="float64").compute().values

    return Climatology(
        at=at,
        mean=mean,
        description=description,
        dataset=table,
        require_times=require_times,
        times=times,
    )


def _missing_days(found: str, remedy: str = "one of the full year") -> InputError:
    return InputError(
        f"the climatology does not cover all valid times: {found}; give {remedy}",
        code="short-period",
    )


def _checked(table: xr.Dataset) -> xr.Dataset:
    """The table with sorted axes of integers, except for hours, which may have fractions."""
    axes = [axis for axis in TABLE_AXES if axis in table.dims]
    if "dayofyear" in axes and "month" in axes:
        raise InputError(
            "the climatology has the axes dayofyear and month; give a table by one of them",
            code="wrong-dimensions",
        )
    for axis in axes:
        stored = table[axis].values if axis in table.coords else np.array([np.nan])
        values = stored.astype(float) if stored.dtype.kind in "iuf" else np.array([np.nan])
        allowed: Sequence[int] = {"dayofyear": _LEAP_YEAR, "month": _MONTHS}.get(axis, range(24))
        is_valid = (values >= allowed[0]) & (values < allowed[-1] + 1)
        if axis != "hour":
            is_valid &= values == np.round(values)
        if not is_valid.all() or len(np.unique(values)) < len(values):
            raise InputError(
                f"the climatology's axis {axis} has the values {_shortened(values)}, expected "
                f"different ones from {allowed[0]} to {allowed[-1]}; correct the coordinate",
                code="wrong-dimensions",
            )
        if axis == "dayofyear" and len(values) == 360 and values.max() == 360:
            raise InputError(
                "the climatology has 360 days of the year, as in a calendar of 360 days; give a "
                "table of 365 or 366 days, or by month",
                code="wrong-dimensions",
            )
        whole = values.astype(int)
        exact = whole if (whole == values).all() else values
        table = table.assign_coords({axis: exact})
        table = table if (np.diff(exact) > 0).all() else table.sortby(axis)
    return table


def _shortened(values: np.ndarray) -> str:
    text = [f"{value:g}" for value in values.tolist()]
    return ", ".join(text if len(text) < 8 else [*text[:3], "...", *text[-3:]])


def _positions(axis: str, values: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two values of the axis at each time, whose mean counts; mostly they are the same."""
    if axis == "month":
        months = times.astype("datetime64[M]").astype(int) % 12 + 1
        return months, months
    years = times.astype("datetime64[Y]")
    days = (times.astype("datetime64[D]") - years.astype("datetime64[D]")).astype(int) + 1
    if not np.array_equal(values, np.array(_YEAR)):
        return days, days
    lengths = (years + 1).astype("datetime64[D]") - years.astype("datetime64[D]")
    shifted = days - ((lengths.astype(int) == 366) & (days > 59))
    return shifted, np.where(shifted < days, np.where(days == 60, 60, shifted), days)


def _read(fields: xr.DataArray, index: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """Fields (time, latitude, longitude), without threads of dask: the engine has its own."""
    picked = fields.sel({axis: xr.DataArray(values, dims="time") for axis, values in index.items()})
    picked = picked.transpose("time", *space_dims(fields.dims))
    with read_errors_as_input_errors(name):
        values = with_retries(lambda: picked.compute(scheduler="synchronous").values, name)
    return values.astype(np.float64)

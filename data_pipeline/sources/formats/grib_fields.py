"""Fields of GRIB files on regular grids, as lazy datasets: one pass over the messages.

A variable is a parameter at a type of level with a statistic over time; its messages make up an
array with the axes number, valid_time and level. Where they do not (other levels at some times),
they become several. Names, units and kinds of levels are those of ecCodes. A message of a
temperature at the surface by NCEP is the skin temperature, as in wgrib2's tables. Pressures that
are no integers in hPa, which channels cannot name, are left out: GFS has .4 hPa and others.

References:
    ecCodes keys, https://confluence.ecmwf.int/display/ECC
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from data_pipeline.sources.formats.grib_messages import Message
from data_pipeline.sources.left_out import note_reasons
from data_pipeline.sources.names import RENAME

REGULAR_GRIDS = ("regular_ll", "regular_gg")
_MISSING = 1e300
# ecCodes is not made for several threads.
_LOCK = threading.Lock()
_LEVELS_WITHOUT_VALUES = ("unknown", "undef")
_COORDINATE_ATTRS = {
    "valid_time": {"standard_name": "time"},
    "isobaricInhPa": {"units": "hPa", "positive": "down", "standard_name": "air_pressure"},
    "isobaricInPa": {"units": "Pa", "positive": "down", "standard_name": "air_pressure"},
    "heightAboveGround": {"units": "m", "positive": "up", "standard_name": "height"},
}
_OF_OTHER_LEVELS = {"positive": "up"}  # tells that a coordinate is vertical


@dataclass(frozen=True, kw_only=True)
class GribField:
    """A message, by what it holds.

    Args:
        message: Its place in the file.
        name: Name of the variable, such as ``t2m``.
        parameter: Number of ecCodes.
        level_type: Kind of level of ecCodes, such as ``isobaricInhPa``.
        level: Value in the units of its kind.
        statistic: Over time: instant, accum, avg, max, ...
        steps: Hours of the forecast, such as "6" or "0-6".
        time: At which it is valid.
        number: Member of an ensemble, or None.
        grid: Digest of the grid.
        grid_type: Such as ``regular_ll``.
    """

    message: Message
    name: str
    parameter: int
    level_type: str
    level: float
    statistic: str
    steps: str
    time: np.datetime64
    number: int | None
    grid: str
    grid_type: str

    @property
    def variable(self) -> tuple[object, ...]:
        """Key that all messages of a variable have in common."""
        return self.grid, self.level_type, self.statistic, self.name, self.parameter

    @property
    def place(self) -> tuple[object, ...]:
        """Key of its place in the array of its variable."""
        return self.number, self.time, self.level


def read_fields(file: str, messages: Sequence[Message]) -> list[GribField]:
    """Fields of the messages of a file, by their headers alone."""
    import eccodes

    with _LOCK, open(file, "rb") as stream:
        fields = []
        for message in messages:
            stream.seek(message.start)
            handle = eccodes.codes_grib_new_from_file(stream, headers_only=True)
            try:
                fields.append(_describe(eccodes, handle, message))
            finally:
                eccodes.codes_release(handle)
    return fields


def _describe(eccodes: Any, handle: Any, message: Message) -> GribField:  # noqa: ANN401
    def get(key: str, kind: type | None = None) -> Any:  # noqa: ANN401
        return eccodes.codes_get(handle, key, kind)

    name, level_type = get("cfVarName", str), get("typeOfLevel", str)
    if name in ("unknown", "~"):
        name = f"parameter_{get('paramId', int)}" if get("paramId", int) else get("shortName", str)
    if (name, level_type, get("centre", str)) == ("t", "surface", "kwbc"):
        name = "skt"
    date, time = get("validityDate", int), get("validityTime", int)
    day = np.datetime64(f"{date // 10000:04}-{date // 100 % 100:02}-{date % 100:02}", "ns")
    has_number = eccodes.codes_is_defined(handle, "number")
    number = get("number", int) if has_number else None
    return GribField(
        message=message,
        name=name,
        parameter=get("paramId", int),
        level_type=level_type,
        level=get("level", float),
        statistic=get("stepType", str),
        steps=get("stepRange", str),
        time=day + np.timedelta64(60 * (time // 100) + time % 100, "m"),
        number=number,
        grid=get("md5GridSection", str),
        grid_type=get("gridType", str),
    )


def datasets_of(file: str, fields: Sequence[GribField]) -> list[xr.Dataset]:
    """Lazy datasets of the fields of a file, each with one kind of level and one grid.

    A variable with several messages for one time and level, such as sums over 6 and 12 hours, is
    left out, and the datasets note the reason.
    """
    variables: dict[tuple[object, ...], dict[tuple[object, ...], GribField]] = {}
    ambiguous: dict[tuple[object, ...], set[str]] = {}
    for field in filter(_has_label, fields):
        places = variables.setdefault(field.variable, {})
        other = places.setdefault(field.place, field)
        if other is not field:
            ambiguous.setdefault(field.variable, {other.steps}).add(field.steps)
    reasons = {
        RENAME.get(str(name), str(name)): f"{file} has several messages of {name} at one time, of "
        f"the steps {' and '.join(sorted(steps))} of forecasts; keep one of them, such as with "
        f"`grib_copy -w stepRange={min(steps)} {file} other.grib2`"
        for (*_, name, _), steps in ambiguous.items()
    }
    grids: dict[str, dict[str, xr.Variable]] = {}
    groups: dict[tuple[object, ...], dict[str, xr.Variable]] = {}
    coordinates: dict[tuple[object, ...], dict[str, xr.Variable]] = {}
    for variable in [variable for variable in variables if variable not in ambiguous]:
        for cube in _cubes(list(variables[variable].values())):
            first = cube.fields[0]
            if first.grid not in grids:
                grids[first.grid] = _axes(file, first)
            key = (first.grid, first.level_type, first.statistic, *cube.key)
            if first.name in groups.get(key, {}):
                key = (*key, first.parameter)
            coordinates.setdefault(key, {**cube.coordinates(), **grids[first.grid]})
            array = _variable(file, cube, coordinates[key])
            groups.setdefault(key, {})[first.name] = array
    found = []
    for key, arrays in groups.items():
        dataset = xr.Dataset(arrays, coordinates[key])
        found.append(note_reasons(dataset, reasons) if reasons else dataset)
    return found


def _has_label(field: GribField) -> bool:
    return field.level_type != "isobaricInPa" or field.level % 100 == 0


@dataclass(frozen=True)
class _Cube:
    """Fields for each of some members, times and levels."""

    numbers: tuple[int | None, ...]
    times: tuple[np.datetime64, ...]
    levels: tuple[float, ...]
    fields: tuple[GribField, ...]

    @property
    def key(self) -> tuple[object, ...]:
        return self.numbers, self.times, self.levels

    @property
    def leading(self) -> dict[str, int]:
        """Sizes of the axes before latitude and longitude; single entries are scalars."""
        level_type = self.fields[0].level_type
        sizes = {"number": self.numbers, "valid_time": self.times, level_type: self.levels}
        return {name: len(values) for name, values in sizes.items() if len(values) > 1}

    def coordinates(self) -> dict[str, xr.Variable]:
        """Axes and scalars."""
        level_type = self.fields[0].level_type
        values: dict[str, np.ndarray] = {"valid_time": np.array(self.times, "datetime64[ns]")}
        if self.numbers[0] is not None:
            values["number"] = np.array(self.numbers)
        if level_type not in _LEVELS_WITHOUT_VALUES:
            values[level_type] = np.array(self.levels)
        attrs = {level_type: _OF_OTHER_LEVELS, **_COORDINATE_ATTRS}
        return {
            name: xr.Variable(
                (name,) if name in self.leading else (),
                array if name in self.leading else array[0],
                attrs.get(name, {}),
            )
            for name, array in values.items()
        }


def _cubes(fields: Sequence[GribField]) -> list[_Cube]:
    """The fields of a variable in as few full cubes as they allow."""
    whole = _cube(fields)
    if len(whole.fields) == len(whole.numbers) * len(whole.times) * len(whole.levels):
        return [whole]
    for split in (_by_time, _by_level):
        parts = split(fields)
        if len(parts) > 1:
            return [cube for part in parts for cube in _cubes(part)]
    return [_cube([field]) for field in fields]


def _cube(fields: Sequence[GribField]) -> _Cube:
    def order(field: GribField) -> tuple[float, np.datetime64, float]:
        number = -1.0 if field.number is None else float(field.number)
        return number, field.time, field.level

    fields = sorted(fields, key=order)
    numbers = tuple(dict.fromkeys(field.number for field in fields))
    times = tuple(sorted({field.time for field in fields}))
    levels = tuple(sorted({field.level for field in fields}))
    return _Cube(numbers, times, levels, tuple(fields))


def _by_time(fields: Sequence[GribField]) -> list[list[GribField]]:
    """Fields grouped by times that have the same levels and members."""
    return _grouped(fields, lambda f: f.time, lambda f: (f.number, f.level))


def _by_level(fields: Sequence[GribField]) -> list[list[GribField]]:
    return _grouped(fields, lambda f: f.level, lambda f: (f.number, f.time))


def _grouped(
    fields: Sequence[GribField],
    axis: Callable[[GribField], object],
    others: Callable[[GribField], object],
) -> list[list[GribField]]:
    along: dict[object, list[GribField]] = {}
    for field in fields:
        along.setdefault(axis(field), []).append(field)
    groups: dict[object, list[GribField]] = {}
    for members in along.values():
        groups.setdefault(frozenset(map(others, members)), []).extend(members)
    return list(groups.values())


def _axes(file: str, field: GribField) -> dict[str, xr.Variable]:
    """Latitudes and longitudes in the order of rows and columns."""
    import eccodes

    with _LOCK:
        handle = _handle(eccodes, file, field.message)
        try:
            latitude = np.asarray(eccodes.codes_get_array(handle, "distinctLatitudes"))
            longitude = np.asarray(eccodes.codes_get_array(handle, "distinctLongitudes"))
            southward = not eccodes.codes_get(handle, "jScansPositively", int)
            westward = eccodes.codes_get(handle, "iScansNegatively", int)
        finally:
            eccodes.codes_release(handle)
    if southward != (latitude[0] > latitude[-1]):
        latitude = latitude[::-1]
    if westward and len(longitude) > 1 and longitude[0] < longitude[-1]:
        longitude = longitude[::-1]
    return {
        "latitude": xr.Variable("latitude", latitude, {"units": "degrees_north"}),
        "longitude": xr.Variable("longitude", longitude, {"units": "degrees_east"}),
    }


def _handle(eccodes: Any, file: str, message: Message) -> Any:  # noqa: ANN401
    with open(file, "rb") as stream:
        stream.seek(message.start)
        return eccodes.codes_grib_new_from_file(stream)


def _variable(file: str, cube: _Cube, axes: dict[str, xr.Variable]) -> xr.Variable:
    import eccodes

    first = cube.fields[0]
    shape = (*cube.leading.values(), axes["latitude"].size, axes["longitude"].size)
    with _LOCK:
        handle = _handle(eccodes, file, first.message)
        try:
            units, standard, long = (
                eccodes.codes_get(handle, key, str) for key in ("units", "cfName", "name")
            )
        finally:
            eccodes.codes_release(handle)
    attrs = {"units": units, "long_name": long, "GRIB_stepType": first.statistic}
    if standard not in ("unknown", "~"):
        attrs["standard_name"] = standard
    array = _Values(file, tuple(field.message for field in cube.fields), shape)
    dims = (*cube.leading, "latitude", "longitude")
    return xr.Variable(dims, indexing.LazilyIndexedArray(array), attrs)


class _Values(BackendArray):
    """Values of messages in the order of an array, read when they are asked for."""

    def __init__(self, file: str, messages: tuple[Message, ...], shape: tuple[int, ...]) -> None:
        self._file, self._messages = file, messages
        self.shape, self.dtype = shape, np.dtype(np.float32)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:  # noqa: ANN401
        support = indexing.IndexingSupport.OUTER
        return indexing.explicit_indexing_adapter(key, self.shape, support, self._read)

    def _read(self, key: tuple[Any, ...]) -> np.ndarray:
        leading = self.shape[:-2]
        numbers = np.arange(int(np.prod(leading))).reshape(leading)
        outer = indexing.OuterIndexer(key[:-2])
        chosen = np.asarray(indexing.NumpyIndexingAdapter(numbers).oindex[outer])
        rows, columns = key[-2:]
        planes = [self._plane(self._messages[n])[rows][..., columns] for n in chosen.ravel()]
        if not planes:
            return np.empty((*chosen.shape, *np.empty(self.shape[-2:])[rows][..., columns].shape))
        return np.stack(planes).reshape(*chosen.shape, *planes[0].shape)

    def _plane(self, message: Message) -> np.ndarray:
        import eccodes

        with _LOCK:
            handle = _handle(eccodes, self._file, message)
            try:
                eccodes.codes_set(handle, "missingValue", _MISSING)
                values = eccodes.codes_get_values(handle)
                by_column = eccodes.codes_get(handle, "jPointsAreConsecutive", int)
            finally:
                eccodes.codes_release(handle)
        values = np.where(values == _MISSING, np.nan, values).astype(np.float32)
        rows, columns = self.shape[-2:]
        return values.reshape(columns, rows).T if by_column else values.reshape(rows, columns)


def is_regular(fields: Sequence[GribField]) -> bool:
    """Whether all fields are on grids of latitudes and longitudes."""
    return all(field.grid_type in REGULAR_GRIDS for field in fields)

"""Identification of variables: which field of the canonical names a variable of a file is.

A field is a name, a level or height, and what was done to it over time. A name in the tables of
``names`` decides where the vertical coordinate does not contradict it; a CF standard name decides
only together with the vertical coordinate and the cell methods. Scalar pressures become a level
axis of length one.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import xarray as xr

from data_pipeline.errors import InputError
from data_pipeline.sources.fields.levels_joined import joined_along_levels
from data_pipeline.sources.fields.stacked_heights import with_heights_split
from data_pipeline.sources.fields.vertical import LEVEL_NAMES, Vertical, verticals_by_variable
from data_pipeline.sources.left_out import note_reasons, reasons_left_out, with_all_reasons
from data_pipeline.sources.levels import with_integer_levels
from data_pipeline.sources.names import (
    AT_HEIGHT,
    COORDINATES,
    ON_LEVELS,
    RENAME,
    STANDARD_NAMES,
    UNITS,
    VERTICAL_NEEDED,
    canonical_label,
    named_in_capitals,
    normalize_units,
    wgrib2_name,
)

_EXTREMES = {"max": "maximum", "min": "minimum"}
_OTHER_STATISTICS = ("maximum", "minimum", "range", "mid_range", "standard_deviation", "variance")
_TOLERANCES = {2: (1, 3), 10: (8, 12), 100: (80, 120)}  # m, of names that state a height
_KEPT = ("time",)  # scalar coordinates that later steps need


@dataclass(frozen=True)
class Field:
    """A variable of a file, identified.

    Args:
        stored: Name in the file.
        name: Canonical name, or that of the file.
        rank: How it was identified: 0 by its name, 1 by a name in capitals, 2 by its standard name,
            3 by the standard name of a mean; ``None`` if it was not.
        level: Coordinate that becomes the level axis, or a level in hPa.
    """

    stored: str
    name: str
    rank: int | None
    level: str | int | None = None


def identified(
    dataset: xr.Dataset,
    rename: Mapping[str, str],
    file: str,
    ambiguous: Collection[str] = (),
    level_units: str = "",
) -> xr.Dataset:
    """Variables under canonical names, with levels in hPa, without other scalar coordinates.

    Args:
        dataset: As opened; lazy arrays stay lazy.
        rename: Names or labels that the user gives to variables and axes of this file.
        file: Name of the file, for messages.
        ambiguous: Names that stand for several fields in this source; see ``ambiguous_names``.
        level_units: Units of levels in place of those of the file.

    Raises:
        InputError: If two variables are the same field ("duplicate-name"), or the vertical
            coordinate of a variable contradicts its name ("contradictory-level").
    """
    dataset = with_heights_split(dataset.rename(_axis_names(dataset, rename)), rename)
    places = verticals_by_variable(dataset, level_units)
    fields = []
    for stored, verticals in places.items():
        array = dataset[stored]
        if stored in rename:
            field = _renamed(stored, rename[stored], verticals, file)
        else:
            field = _identify(stored, array, verticals)
            _reject_contradiction(field, places, file)
            if stored in ambiguous:
                field = _qualified(field, array, verticals)
        fields.append(field)
    fields = [_with_lone_pressure(field, fields, places[field.stored]) for field in fields]
    fields = _without_repeats(fields, places, file)
    result = _assemble(dataset, fields, file, level_units)
    result = result.squeeze(_single_axes(result, places.values()), drop=True)
    reasons = _reasons(fields, dataset, places, file)
    return note_reasons(result, {**reasons, **reasons_left_out(result)})


def _single_axes(dataset: xr.Dataset, places: Iterable[Sequence[Vertical]]) -> list[str]:
    """Vertical axes of length one, which have told what the variables are; not that of levels."""
    axes = {vertical.coordinate for verticals in places for vertical in verticals}
    return [axis for axis in axes - {"level"} if dataset.sizes.get(axis) == 1]


def ambiguous_names(datasets: Sequence[xr.Dataset]) -> set[str]:
    """Names of variables that stand for several fields: at several heights, or means too."""
    found: dict[str, set[str]] = {}
    for dataset in datasets:
        for name, verticals in verticals_by_variable(dataset).items():
            found.setdefault(name, set()).add(_place(dataset[name], verticals))
    return {name for name, places in found.items() if len(places) > 1}


def _place(array: xr.DataArray, verticals: Sequence[Vertical]) -> str:
    """Where a variable is, and which statistic over time it holds, as a suffix of its name."""
    words = [] if _level_of(verticals) else [vertical.label for vertical in verticals[:1]]
    statistic = statistic_over_time(array)
    return "_".join([*words, *([statistic] if statistic not in ("", "accum", "sum") else [])])


def statistic_over_time(array: xr.DataArray) -> str:
    """Statistic over time that a variable holds by its attributes; "" for instants."""
    step = str(array.attrs.get("GRIB_stepType", ""))
    methods = str(array.attrs.get("cell_methods", ""))
    found = re.findall(r"\btime\w*:\s+(?:\w+:\s+)*(\w+)(\s+(?:within|over)\b)?", methods)
    for method, climatological in found:
        if method in _OTHER_STATISTICS:
            return method
        if climatological:
            return f"{method}_of_climatology"
    of_cells = next((method for method, _ in found if method != "point"), "")
    return _EXTREMES.get(step, of_cells or ("" if step == "instant" else step))


def _is_other_statistic(statistic: str) -> bool:
    return statistic in _OTHER_STATISTICS or statistic.endswith("_of_climatology")


def _renamed(stored: str, target: str, verticals: Sequence[Vertical], file: str) -> Field:
    """A variable under the name, or the label with a level, that the user gives."""
    name, level = canonical_label(target)
    pressure = _level_of(verticals)
    if level is None and pressure is None:
        of_key, level_of_key = canonical_label(stored)
        level = level_of_key if of_key == name else None
    if level is None:
        on_level = pressure is not None and (pressure.is_axis or name in ON_LEVELS)
        return Field(stored, name, 0, pressure.coordinate if pressure and on_level else None)
    if pressure is not None and level not in pressure.values:
        message = f"data.source.rename puts {stored} at {level} hPa, in {file} it is at "
        message += f"{pressure.coordinate}={pressure.text}; correct one of them"
        raise InputError(message, code="contradictory-level")
    return Field(stored, name, 0, pressure.coordinate if pressure else level)


def _level_of(verticals: Sequence[Vertical]) -> Vertical | None:
    """The vertical coordinate that becomes the level axis; an axis of another kind is left out."""
    for vertical in verticals:
        is_axis = vertical.is_axis and len(vertical.values) > 1
        if vertical.kind == "pressure" or (is_axis and vertical.coordinate in LEVEL_NAMES):
            return vertical
    return None


def _identify(stored: str, array: xr.DataArray, verticals: Sequence[Vertical]) -> Field:
    name, rank = _name_of(stored, array)
    if name is None and (wgrib2 := wgrib2_name(stored)):
        return Field(stored, wgrib2[0], 1, wgrib2[1])
    pressure = _level_of(verticals)
    axis = pressure.coordinate if pressure and pressure.is_axis else None
    own = Field(stored, stored, None, axis)
    statistic = statistic_over_time(array)
    if name is None:
        return own
    if _is_other_statistic(statistic):
        return replace(own, name=f"{stored}_{statistic}" if rank == 0 else stored)
    if rank == 2 and statistic == "mean":
        rank = 3
    if name not in ON_LEVELS:
        return Field(stored, name, rank, axis)
    if pressure is not None:
        return Field(stored, name, rank, pressure.coordinate)
    place = next((v for v in verticals if v.kind != "surface"), None)
    if place is not None:
        at_height = place.kind == "height" and len(place.values) == 1
        single = AT_HEIGHT.get((name, round(place.values[0], 2))) if at_height else None
        if single:
            return Field(stored, single, rank)
        return replace(own, name=f"{stored}_{place.label}" if len(place.values) == 1 else stored)
    if name == "geopotential" and stored != "geopotential" and rank == 0:
        return Field(stored, "geopotential_at_surface", 0)
    return Field(stored, name, rank) if rank == 0 and stored not in VERTICAL_NEEDED else own


def _name_of(stored: str, array: xr.DataArray) -> tuple[str | None, int]:
    """Canonical name without its height, and how it was found; see ``Field``."""
    if stored in RENAME and RENAME[stored] not in COORDINATES.values():
        return RENAME[stored], 0
    if stored in UNITS or stored in ON_LEVELS:
        return stored, 0
    name = named_in_capitals(stored, normalize_units(str(array.attrs.get("units", ""))))
    if name is not None and not _is_speed(name, array):
        return name, 1
    names = STANDARD_NAMES.get(str(array.attrs.get("standard_name", "")))
    if names is None:
        return None, 0
    return (names[1] if names[0] != names[1] or names[1] in ON_LEVELS else names[0]), 2


def _is_speed(name: str, array: xr.DataArray) -> bool:
    """Whether a component of the wind by its name is called a speed: ``U10`` of CESM."""
    return "component_of_wind" in name and "speed" in str(array.attrs.get("long_name", "")).lower()


def _qualified(field: Field, array: xr.DataArray, verticals: Sequence[Vertical]) -> Field:
    """The field under a name that tells where it is, unless its canonical name tells that."""
    place = _place(array, verticals)
    tells = field.rank is not None and (
        field.level is not None or field.name in AT_HEIGHT.values() or field.name not in ON_LEVELS
    )
    statistic = statistic_over_time(array)
    instant = statistic in ("", "accum", "sum")
    if (
        not place
        or (tells and instant)
        or field.name not in (field.stored, RENAME.get(field.stored))
    ):
        return field
    return replace(field, name=f"{field.stored}_{place}", rank=None)


def _height_of(name: str) -> int | None:
    match = re.match(r"(\d+)m_", name)
    return int(match[1]) if match else None


def _contradicts(field: Field, vertical: Vertical) -> bool:
    """Whether a name that states a height cannot be on a pressure or at another height."""
    height = _height_of(field.name)
    if height is None or field.rank is None or vertical.kind not in ("pressure", "height"):
        return False
    if vertical.kind == "pressure" or not vertical.values:
        return vertical.kind == "pressure"
    low, high = _TOLERANCES.get(height, (0.9 * height, 1.1 * height))
    return any(not low <= value <= high for value in vertical.values)


def _reject_contradiction(
    field: Field, places: Mapping[str, Sequence[Vertical]], file: str
) -> None:
    for vertical in places[field.stored]:
        if not _contradicts(field, vertical):
            continue
        others = [other for other in places if other != field.stored]
        if not vertical.is_axis and any(
            vertical in places[other] and _may_own(other, vertical) for other in others
        ):
            continue  # a scalar of another variable of the file
        message = f"{field.stored} in {file} is {field.name} by its name, and at "
        message += f"{vertical.coordinate}={vertical.text}; name it with "
        message += f"data.source.rename={{{field.stored}: ...}}, or correct that coordinate"
        raise InputError(message, code="contradictory-level")


def _may_own(stored: str, vertical: Vertical) -> bool:
    """Whether a scalar coordinate may belong to a variable, by the name of that."""
    name = RENAME.get(stored, stored)
    if name in ON_LEVELS or (name not in UNITS and name not in RENAME.values()):
        return True
    return _height_of(name) is not None and not _contradicts(Field(stored, name, 0), vertical)


def _without_repeats(
    fields: Sequence[Field], places: Mapping[str, Sequence[Vertical]], file: str
) -> list[Field]:
    """Guesses yield to names; two variables that are the same field are an error."""
    by_name: dict[str, list[Field]] = {}
    for field in fields:
        by_name.setdefault(field.name, []).append(field)
    kept = []
    for name, group in by_name.items():
        best = min(9 if field.rank is None else field.rank for field in group)
        first = [field for field in group if field.rank == best or len(group) == 1]
        kept += [replace(f, name=f.stored) for f in group if f not in first]
        levels = [_levels_in_hpa(field, places[field.stored]) for field in first]
        values = [value for each in levels for value in each or ()]
        if len(first) > 1 and (None in levels or len({*values}) < len(values)):
            stored = [field.stored for field in first]
            message = f"{' and '.join(stored)} in {file} are both {name}; leave one out of the "
            message += f"file, give one another name with data.source.rename={{{stored[-1]}: ...}}"
            message += ", or choose an entry of an axis with data.source.select"
            raise InputError(message, code="duplicate-name")
        kept += first
    return kept


def _levels_in_hpa(field: Field, verticals: Sequence[Vertical]) -> tuple[float, ...] | None:
    if isinstance(field.level, int):
        return (float(field.level),)
    return next((v.values for v in verticals if v.coordinate == field.level), None)


def _reasons(
    fields: Sequence[Field],
    dataset: xr.Dataset,
    places: Mapping[str, Sequence[Vertical]],
    file: str,
) -> dict[str, str]:
    """Why variables that have the name of a field are another one, by the name of the field."""
    found: dict[str, str] = {}
    for field in fields:
        name = RENAME.get(field.stored, field.stored)
        if field.rank is not None or name == field.name or name not in RENAME.values():
            continue
        place = _place(dataset[field.stored], places[field.stored]) or "without level or height"
        reason = f"{field.stored} in {file} is another field ({place}), called {field.name} here; "
        found[name] = reason + f"if it is {name}, say so: data.source.rename={{{field.stored}: "
        found[name] += f"{name}}}"
    return {name: why for name, why in found.items() if all(f.name != name for f in fields)}


def _with_lone_pressure(
    field: Field, fields: Sequence[Field], verticals: Sequence[Vertical]
) -> Field:
    """An unknown variable is on the scalar pressure of its file if no other variable is."""
    level = _level_of(verticals)
    pressure = level.coordinate if level else None
    if field.rank is not None or pressure is None or field.level is not None:
        return field
    owned = any(pressure == other.level for other in fields)
    return field if owned else replace(field, level=pressure)


def _axis_names(dataset: xr.Dataset, rename: Mapping[str, str]) -> dict[str, str]:
    """New names of coordinates and dimensions; vertical ones that nobody renames keep theirs."""
    names, known = {}, {*COORDINATES.values()} - {"level"}
    for axis in map(str, dict.fromkeys((*dataset.coords, *dataset.dims))):
        if axis in rename:
            names[axis] = COORDINATES.get(rename[axis], rename[axis])
            continue
        short = axis if axis in COORDINATES else axis.lower()
        name = short if short in known else COORDINATES.get(short)
        if name in known and name != axis and name not in (*dataset.variables, *dataset.dims):
            names[axis] = name
    return names


def _assemble(
    dataset: xr.Dataset, fields: Sequence[Field], file: str, level_units: str
) -> xr.Dataset:
    """The dataset of the fields, those with levels along one axis."""
    dropped = [n for n in dataset.coords if n not in dataset.dims and n not in _KEPT]
    groups: dict[str | int | None, list[Field]] = {}
    for field in fields:
        groups.setdefault(field.level, []).append(field)
    parts = []
    for level, group in groups.items():
        part = dataset[[field.stored for field in group]]
        if level is not None:
            part = _with_level_axis(part, level)
        part = part.drop_vars([n for n in dropped if n in part.coords and n not in part.dims])
        part = part.rename({f.stored: f.name for f in group if f.stored != f.name})
        stated = "hPa" if isinstance(level, int) else level_units
        parts.append(part if level is None else with_integer_levels(part, file, stated))
    if not parts:
        return dataset.drop_vars(dropped)
    return with_all_reasons(joined_along_levels(parts).assign_attrs(dataset.attrs), parts)


def _with_level_axis(part: xr.Dataset, level: str | int) -> xr.Dataset:
    """The variables with the axis ``level``, from an axis, a scalar or a number in hPa."""
    others = [n for n in part.coords if n in LEVEL_NAMES and n != level and n not in part.dims]
    part = part.drop_vars(others)
    if isinstance(level, int):
        return part.expand_dims(level=[level])
    if level not in part.dims:
        part = part.expand_dims(level)
    return part.rename({level: "level"} if level != "level" else {})

"""Units of variables: compared with those that the canonical names stand for."""

from collections.abc import Mapping

import xarray as xr

from data_pipeline.errors import InputError
from data_pipeline.sources.convert import conversion_between, with_geopotential
from data_pipeline.sources.left_out import leave_out
from data_pipeline.sources.names import UNITS, normalize_units


def with_checked_units(
    dataset: xr.Dataset,
    stated_units: Mapping[str, str],
    name: str,
    *,
    planar: bool,
    convert: bool = False,
) -> xr.Dataset:
    """Spell the units of all variables canonically.

    Args:
        dataset: Variables under canonical names.
        stated_units: Units by variable, in place of those in the file.
        name: File, for messages.
        planar: Whether the fields are on a plane, where any units are right, and none are 1.
        convert: Whether to convert what ``convert`` knows.

    Raises:
        InputError: If units are not those of the variable's name; the error lists all.
    """
    wrong, remedy, converted = [], "convert the data, or correct data.source.units", {}
    for variable, array in dataset.data_vars.items():
        stated = stated_units.get(str(variable), str(array.attrs.get("units", "")))
        units = normalize_units(stated)
        expected = units if planar else UNITS.get(str(variable), units)
        array.attrs["units"] = units or ("1" if planar else "")
        if units == expected or not units:
            continue
        conversion = conversion_between(units, expected, str(variable))
        if conversion and convert:
            converted[variable] = conversion.apply(array, expected)
            continue
        wrong.append(f"{variable} in {stated!r}, expected {expected!r}")
        if conversion and not convert:
            remedy = "set data.source.convert=true to convert it, or correct data.source.units"
    if wrong:
        message = f"{name} has {'; '.join(wrong)}; {remedy}"
        raise InputError(message, code="units-mismatch")
    dataset = dataset.assign(converted) if converted else dataset
    if planar or "geopotential_height" not in dataset or "geopotential" in dataset:
        return dataset
    if convert:
        return with_geopotential(dataset)
    reason = f"{name} has geopotential_height in its place; set data.source.convert=true to "
    return leave_out(dataset, {"geopotential": reason + "multiply it by 9.80665 m s-2"})


def require_units(dataset: xr.Dataset, names: list[str]) -> None:
    """Reject variables whose attribute ``units`` is missing or empty; the error names them all."""
    missing = [name for name in names if not dataset[name].attrs.get("units")]
    if missing:
        usual = ", ".join(f"{name}: {UNITS.get(name, '?')}" for name in missing)
        message = f"{missing} state no units; set data.source.units={{{usual}}} if that is right"
        raise InputError(message, code="missing-units")

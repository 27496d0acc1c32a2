"""Units of variables: compared with those that the canonical names stand for."""

from collections.abc import Mapping

import xarray as xr

from data_pipeline.errors import InputError
from data_pipeline.sources.names import UNITS, normalize_units


def with_checked_units(
    dataset: xr.Dataset, stated_units: Mapping[str, str], name: str, *, planar: bool
) -> xr.Dataset:
    """Spell the units of all variables canonically.

    Args:
        dataset: Variables under canonical names.
        stated_units: Units by variable, in place of those in the file.
        name: File, for messages.
        planar: Whether the fields are on a plane, where any units are right, and none are 1.

    Raises:
        InputError: If units are not those of the variable's name; the error lists all.
    """
    wrong = []
    for variable, array in dataset.data_vars.items():
        stated = stated_units.get(str(variable), str(array.attrs.get("units", "")))
        units = normalize_units(stated)
        expected = units if planar else UNITS.get(str(variable), units)
        if units != expected and units:
            wrong.append(f"{variable} in {stated!r}, expected {expected!r}")
        array.attrs["units"] = units or ("1" if planar else "")
    if wrong:
        message = f"{name} has {'; '.join(wrong)}; convert the data, or correct data.source.units"
        raise InputError(message, code="units-mismatch")
    return dataset


def require_units(dataset: xr.Dataset, names: list[str]) -> None:
    """Reject variables whose attribute ``units`` is missing or empty; the error names them all."""
    missing = [name for name in names if not dataset[name].attrs.get("units")]
    if missing:
        usual = ", ".join(f"{name}: {UNITS.get(name, '?')}" for name in missing)
        message = f"{missing} state no units; set data.source.units={{{usual}}} if that is right"
        raise InputError(message, code="missing-units")

"""Numbers that stand for times: dates by the units of a file, or by those that the user states.

xarray decodes the units of CF. Here are those that it does not decode: another spelling, whole
months, and dates written as numbers (``day as %Y%m%d.%f``); and files of which one variable cannot
be decoded, such as times since a year 0, which the standard calendar lacks.
"""

from collections.abc import Callable, Mapping

import numpy as np
import xarray as xr

from data_pipeline.errors import InputError
from data_pipeline.sources.config import SourceConfig

_NAMES = ("time", "valid_time", "forecast_reference_time", "init_time", "initial_time")
_MOST_MONTHS = 10**5
_FIRST_DATE, _LAST_DATE = 16780101, 22620101
_STANDARD_NAMES = ("time", "forecast_reference_time")


def open_with_dates(open_dataset: Callable[[bool], xr.Dataset]) -> xr.Dataset:
    """Open a dataset with all times as dates that can be decoded, others as numbers.

    Args:
        open_dataset: Opens it, with times decoded or as numbers.
    """
    try:
        return open_dataset(True)
    except ValueError as error:
        if "decode time" not in str(error):
            raise
    dataset = open_dataset(False)
    for name, variable in dataset.variables.items():
        if " since " in str(variable.attrs.get("units", "")):
            dates = _decoded(dataset[name])
            dataset = dataset if dates is None else dataset.assign({name: dates})
    return dataset


def with_dates(dataset: xr.Dataset, rename: Mapping[str, str], config: SourceConfig) -> xr.Dataset:
    """Turn times that are numbers into dates, by their own units or else by ``time_units``.

    Raises:
        InputError: If ``time_units`` and ``time_calendar`` cannot be read ("bad-setting").
    """
    for name in map(str, dataset.variables):
        array = dataset[name]
        standard = str(array.attrs.get("standard_name", ""))
        is_time = rename.get(name, name) in _NAMES or standard in _STANDARD_NAMES
        if not is_time or array.dtype.kind not in "iuf" or array.ndim > 2:
            continue
        dates = _decoded(array)
        if dates is None and (config.time_units or config.time_calendar):
            stated = {"units": config.time_units, "calendar": config.time_calendar}
            own = {key: array.attrs.get(key) for key in stated}
            attrs = {key: value or own[key] for key, value in stated.items()}
            dates = _decoded(array.assign_attrs(attrs))
            if dates is None:
                message = f"data.source.time_units={attrs['units']!r} with time_calendar="
                message += f"{attrs['calendar']!r} give no dates, expected such as 'hours since "
                message += "1900-01-01' and a calendar of CF"
                raise InputError(message, code="bad-setting")
        if dates is not None:
            dataset = dataset.assign_coords({name: dates})
    return dataset


def describe_numbers(array: xr.DataArray) -> str:
    """Reason why times are not dates, with the settings that give them units and origin."""
    units, calendar = (str(array.attrs.get(key, "")) for key in ("units", "calendar"))
    found = f"numbers of type {array.dtype} in {units!r}" if units else "numbers without units"
    found += f" of the calendar {calendar!r}" if calendar else ""
    remedy = "set data.source.time_units, such as 'hours since 1900-01-01'"
    origin = units.partition(" since ")[2].strip().split("-")[0]
    if origin.isdigit() and int(origin) == 0:
        found += ", whose origin is in a year 0 that the standard calendar lacks"
        remedy = "set data.source.time_calendar, such as proleptic_gregorian or noleap, by which "
        remedy += "they were written, or data.source.time_units with another origin"
    return f"{found}; {remedy}"


def _decoded(array: xr.DataArray) -> xr.DataArray | None:
    """Dates of a variable by its attributes, or ``None``."""
    units = str(array.attrs.get("units") or "").strip()
    unit, since, origin = units.partition(" since ")
    if units.lower().startswith("day as %y%m%d"):
        return _from_digits(array)
    if not since:
        since_in_capitals = units.lower().partition(" since ")
        unit, since, origin = since_in_capitals[0], since_in_capitals[1], since_in_capitals[2]
    if not since:
        return None
    attrs = {key: value for key, value in array.attrs.items() if value is not None}
    plain = xr.Variable(array.dims, array.values, {**attrs, "units": unit.lower() + since + origin})
    try:
        return xr.decode_cf(xr.Dataset({"dates": plain}), decode_coords=False)["dates"]
    except (ValueError, OverflowError):
        return _from_months(plain, unit, origin)


def _from_months(array: xr.Variable, unit: str, origin: str) -> xr.DataArray | None:
    """Calendar months and years from the origin's day, where numbers are integers."""
    months = {"month": 1, "year": 12}.get(unit.strip().lower().removesuffix("s"))
    values = np.asarray(array.values, float)
    if not (np.abs(values) < _MOST_MONTHS).all():  # nor missing
        return None
    standard = ("standard", "gregorian", "proleptic_gregorian", "")
    if months is None or str(array.attrs.get("calendar", "")) not in standard:
        return None
    if (values != np.round(values)).any():
        return None
    try:
        start = np.datetime64(origin.strip()[:10], "D")
    except ValueError:
        return None
    month = start.astype("datetime64[M]")
    within = start - month.astype("datetime64[D]")
    dates = (month + months * values.astype(int)).astype("datetime64[D]") + within
    years = dates.astype("datetime64[Y]").astype(int) + 1970
    if (years < _FIRST_DATE // 10**4).any() or (years >= _LAST_DATE // 10**4).any():
        return None
    return xr.DataArray(dates.astype("datetime64[ns]"), dims=array.dims)


def _from_digits(array: xr.DataArray) -> xr.DataArray | None:
    """Dates written as YYYYMMDD and a fraction of the day, as CDO's absolute times, or None."""
    values = np.asarray(array.values, float)
    if not ((values >= _FIRST_DATE) & (values < _LAST_DATE)).all():
        return None
    digits = np.floor(values).astype(int)
    years, months, days = digits // 10000, digits // 100 % 100, digits % 100
    if (months < 1).any() or (months > 12).any() or (days < 1).any() or (days > 31).any():
        return None
    month = (12 * (years - 1970) + months - 1).astype("datetime64[M]")
    fraction = np.round((values - digits) * 86400).astype("timedelta64[s]")
    dates = month.astype("datetime64[D]") + (days - 1).astype("timedelta64[D]") + fraction
    return xr.DataArray(dates.astype("datetime64[ns]"), dims=array.dims)

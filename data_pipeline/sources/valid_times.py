"""Valid times of sources that also have the starts and the steps of forecasts.

Files of forecasts and accumulations have up to three kinds of times: the start of a forecast, the
step from it, and the time at which it is valid. A source is a series in valid time. The kind of a
coordinate is told by its CF standard name and by its name: ``time`` is the valid time, unless there
are steps to add to it, or its standard name is that of a start.

References:
    CF Conventions 1.11, standard names time, forecast_reference_time and forecast_period,
    https://cfconventions.org/standard-names.html
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr

from data_pipeline.errors import InputError
from data_pipeline.sources.time_axis import as_durations, snap_times

STARTS = ("init_time", "forecast_reference_time", "reference_time", "initial_time", "reftime")
STARTS += ("initialization_time", "init", "issue_time", "base_time", "analysis_time", "start_time")
"""Names of the times at which forecasts start."""
STEPS = ("lead_time", "prediction_timedelta", "step", "leadtime", "forecast_period", "lead")
STEPS += ("forecast_lead_time", "forecast_hour")
"""Names of the times since a forecast's start."""
_KINDS = {"time": "valid", "forecast_reference_time": "start", "forecast_period": "step"}
AGREEMENT = np.timedelta64(1, "m")
"""How far a stated valid time may be from the start and the step, in sources and forecasts."""


@dataclass(frozen=True, kw_only=True)
class _Times:
    """Names of the coordinates of each kind in a file; "" where it has none."""

    valid: str = ""
    start: str = ""
    step: str = ""

    @property
    def names(self) -> list[str]:
        return [name for name in (self.valid, self.start, self.step) if name]


def with_valid_times(dataset: xr.Dataset, rename: Mapping[str, str], name: str) -> xr.Dataset:
    """Give a dataset its valid times alone, as the coordinate ``time``.

    Several steps of each start are stacked into one axis where no valid time occurs twice, as in
    ERA5's accumulations: hours 1 to 12 from 06 and 18 UTC.

    Args:
        dataset: As opened; lazy arrays stay lazy.
        rename: Names by those in the file, of which ``{time: valid_time}`` and
            ``{time: forecast_reference_time}`` tell the kind of a time.
        name: File, for messages.

    Raises:
        InputError: If the valid times cannot be told, or occur more than once ("ambiguous-times").
    """
    times = _find(dataset, rename, name)
    if not times.start and not times.step and times.valid in ("", "time"):
        return dataset
    single = [d for n in times.names for d in dataset[n].dims if dataset.sizes[d] == 1]
    dataset = dataset.squeeze(list(dict.fromkeys(single)))
    valid = _valid_times(dataset, times, name)
    obsolete = [n for n in (*times.names, "time") if n in dataset.variables]
    if valid.ndim == 2:
        return _stacked(dataset.drop_vars(obsolete), valid, times, name)
    if valid.ndim > 2 or (valid.ndim and {"time", *valid.dims} <= {*dataset.dims} - {"time"}):
        raise _ambiguous(f"{name} has times along {', '.join(map(str, valid.dims))}", times)
    dataset = dataset.drop_vars(obsolete)
    if valid.ndim and valid.dims[0] != "time":
        dataset = dataset.rename({valid.dims[0]: "time"})
    return dataset.assign_coords(time=xr.Variable(("time",) * valid.ndim, valid.values))


def _find(dataset: xr.Dataset, rename: Mapping[str, str], file: str) -> _Times:
    found: dict[str, str] = {}
    time_is = ""
    for variable in map(str, dataset.variables):
        called = rename.get(variable, variable)
        standard = "" if variable in rename else dataset[variable].attrs.get("standard_name", "")
        kind = _KINDS.get(str(standard), "")
        if called == "time" == variable:
            time_is = kind
            continue
        kind = "valid" if called in ("time", "valid_time") else kind
        kind = "start" if called in STARTS else "step" if called in STEPS else kind
        is_coordinate = variable in dataset.coords or kind == "valid"
        if kind and is_coordinate and dataset[variable].dtype.kind in "mMiufO":
            preferred = called in ("time", "valid_time", *STARTS, *STEPS)
            found[kind] = variable if preferred else found.get(kind, variable)
    times = _Times(**found)
    if "time" in times.names or "time" not in dataset.variables:
        return times
    return _with_time(dataset, times, time_is, file)


def _with_time(dataset: xr.Dataset, times: _Times, stated: str, file: str) -> _Times:
    """Kinds of times, with that of the coordinate ``time``, which may be stated."""
    if times.valid and (times.start or not times.step):
        return times
    if times.valid or (times.step and not times.start and stated != "valid"):
        return _Times(valid=times.valid, start="time", step=times.step)
    if times.start or not times.step:
        if stated != "start" or times.start:
            return _Times(valid="time", start=times.start, step=times.step)
        message = f"{file} has the times time, which are starts of forecasts by their standard "
        raise _ambiguous(message + "name, and no steps", times)
    steps = as_durations(dataset[times.step], file)
    if dataset[times.step].ndim and (steps != np.timedelta64(0)).any():
        message = f"{file} has time, whose standard name is that of valid times, and steps along "
        raise _ambiguous(message + times.step, times)
    return _Times(valid="time", step=times.step)


def _valid_times(dataset: xr.Dataset, times: _Times, file: str) -> xr.DataArray:
    """Valid times of all dimensions that they depend on; they agree with starts and steps."""
    valid = _snapped(dataset[times.valid]) if times.valid else None
    if not times.start or not times.step:
        if valid is None:
            kinds = "starts of forecasts but no steps" if times.start else "steps but no starts"
            raise _ambiguous(f"{file} has {kinds} ({', '.join(times.names)})", times)
        return valid
    start = _snapped(dataset[times.start])
    steps = xr.DataArray(as_durations(dataset[times.step], file), dims=dataset[times.step].dims)
    total = _added(start.drop_vars(start.coords), steps)
    if valid is None or start.dtype != valid.dtype or start.dtype.kind != "M":
        return total if valid is None else valid
    apart = np.abs((valid.drop_vars(valid.coords) - total).values)
    if (apart[~np.isnat(apart)] > AGREEMENT).any():
        message = f"{file} has {times.valid} that are not {times.start} + {times.step}, up to "
        raise _ambiguous(f"{message}{apart.max().astype('timedelta64[m]')} apart", times)
    return valid


def _added(start: xr.DataArray, steps: xr.DataArray) -> xr.DataArray:
    """Starts plus steps, of all dimensions of both."""
    starts, offsets = xr.broadcast(start, steps)
    values = np.asarray(offsets.values)
    if start.dtype == object:  # dates of cftime
        values = values.astype("timedelta64[us]").astype(object)
    return xr.DataArray(np.asarray(starts.values) + values, dims=starts.dims)


def _snapped(times: xr.DataArray) -> xr.DataArray:
    is_decoded = times.dtype.kind == "M"
    return times.copy(data=snap_times(np.asarray(times.values), times)) if is_decoded else times


def _stacked(dataset: xr.Dataset, valid: xr.DataArray, times: _Times, file: str) -> xr.Dataset:
    """One axis of the starts and steps, in the order of valid times."""
    values = valid.values.ravel()
    known = np.flatnonzero(~(np.isnat(values) if values.dtype.kind == "M" else values == None))  # noqa: E711
    if len(np.unique(values[known])) < len(known):
        counts = " and ".join(f"{size} along {dim}" for dim, size in valid.sizes.items())
        message = f"{file} has forecasts ({counts}), several of which are valid at one time"
        raise _ambiguous(message, times)
    order = known[np.argsort(values[known], kind="stable")]
    renamed = {dim: f"_{dim}" for dim in valid.dims}  # free the name "time"
    stacked = dataset.rename(renamed).stack(time=list(renamed.values()), create_index=False)
    if not np.array_equal(order, np.arange(len(values))):
        stacked = stacked.isel(time=order)
    return stacked.assign_coords(time=values[order])


def _ambiguous(found: str, times: _Times) -> InputError:
    step = times.step or "step"
    message = f"{found}; data is read at one valid time each: take one step of all starts with "
    message += f"data.source.select={{{step}: 6}}, or tell the kind of a time with "
    message += "data.source.rename={time: valid_time} or {time: forecast_reference_time}"
    return InputError(message, code="ambiguous-times")

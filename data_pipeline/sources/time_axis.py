"""Time axes of sources: valid times of the standard calendar."""

from contextlib import suppress

import numpy as np
import xarray as xr

from data_pipeline.errors import InputError


def with_valid_times(dataset: xr.Dataset) -> xr.Dataset:
    """Keep the valid time alone, where GRIB and CDS add the start of a forecast."""
    if "valid_time" not in dataset.variables or "time" not in dataset.variables:
        return dataset
    if "valid_time" in dataset.dims:
        return dataset.drop_vars("time")
    if dataset["valid_time"].dims == ("time",):
        dataset = dataset.assign_coords(time=dataset["valid_time"].values)
    return dataset.drop_vars("valid_time")


def with_standard_times(dataset: xr.Dataset, name: str) -> xr.Dataset:
    """Give a dataset the dimension time, in nanoseconds of the standard calendar.

    Raises:
        InputError: If the times of the file ``name`` have no units.
    """
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

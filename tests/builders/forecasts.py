"""Small truths and forecasts for tests of the evaluation."""

import numpy as np
import xarray as xr

from data_pipeline.channels import Channels
from data_pipeline.grids.grid import LatLonGrid

GRID = LatLonGrid.equiangular(6, 8)
HOUR = np.timedelta64(1, "h").astype("timedelta64[ns]")
LEADS = np.arange(1, 5) * 6 * HOUR
START = np.datetime64("2001-01-01", "ns")
NAMES = ("geopotential", "u_component_of_wind", "v_component_of_wind", "2m_temperature")
_UNITS = ("m2 s-2", "m s-1", "m s-1", "K")
_LEVELS = (500, 850)


def make_truth(num_times: int = 60, grid: LatLonGrid = GRID, seed: int = 0) -> xr.Dataset:
    """Noise every 6 hours: three variables on two levels and one without levels."""
    rng = np.random.default_rng(seed)
    times = START + np.arange(num_times) * 6 * HOUR
    dims = ("time", "latitude", "longitude")
    data = {}
    for name, units in zip(NAMES, _UNITS, strict=True):
        has_levels = name != "2m_temperature"
        shape = (num_times, *((len(_LEVELS),) if has_levels else ()), *grid.shape)
        values = 10 * rng.standard_normal(shape) + (280 if units == "K" else 5)
        own = ("time", "level", *dims[1:]) if has_levels else dims
        data[name] = (own, values.astype("f4"), {"units": units})
    return xr.Dataset(data, coords={"time": times, "level": list(_LEVELS), **grid.coords})


def make_forecast(
    truth: xr.Dataset,
    num_inits: int = 12,
    leads: np.ndarray = LEADS,
    *,
    members: int = 0,
    noise: float = 3.0,
    seed: int = 1,
) -> xr.Dataset:
    """Truth at the valid times plus noise that grows with the lead time."""
    rng = np.random.default_rng(seed)
    inits = truth["time"].values[: 2 * num_inits : 2]
    valid = xr.DataArray(inits[:, None] + leads[None, :], dims=("init_time", "lead_time"))
    fields = truth.sel(time=valid).drop_vars("time")
    fields = fields.assign_coords(init_time=inits, lead_time=leads)
    if members:
        fields = fields.expand_dims(realization=np.arange(members), axis=2)
    growth = np.sqrt(np.arange(1, len(leads) + 1))
    result = fields.copy()
    for name, array in fields.data_vars.items():
        scale = noise * growth.reshape(-1, *([1] * (array.ndim - 2)))
        values = array.values + scale * rng.standard_normal(array.shape)
        result[name] = (array.dims, values.astype("f4"), truth[name].attrs)
    return result


def make_climatology(truth: xr.Dataset) -> xr.Dataset:
    """Means for each hour of day, as coefficients."""
    groups = [truth.isel(time=slice(i, None, 4)).mean("time", keep_attrs=True) for i in range(4)]
    joined = xr.concat(groups, "hour").assign_coords(hour=[0, 6, 12, 18])
    return joined.expand_dims(harmonic=[0], axis=1)


def stacked(dataset: xr.Dataset) -> np.ndarray:
    """All channels in the order of ``NAMES`` as float64."""
    return Channels.from_dataset(dataset, NAMES).stack(dataset).values.astype(np.float64)


def truth_at(truth: xr.Dataset, forecast: xr.Dataset) -> np.ndarray:
    """Truth at the valid times, (init_time, lead_time, channel, latitude, longitude)."""
    valid = forecast["init_time"].values[:, None] + forecast["lead_time"].values
    fields = truth.sel(time=xr.DataArray(valid, dims=("init_time", "lead_time")))
    return stacked(fields.transpose("init_time", "lead_time", ...))


def to_weatherbench(forecast: xr.Dataset) -> xr.Dataset:
    """WeatherBench 2's layout: its names, longitude before latitude, latitude from the south."""
    renamed = forecast.rename(init_time="time", lead_time="prediction_timedelta")
    return renamed.isel(latitude=slice(None, None, -1)).transpose(..., "longitude", "latitude")

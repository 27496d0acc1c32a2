"""Small forecasts for tests of scores."""

import numpy as np
import xarray as xr

from data_pipeline.grids.grid import LatLonGrid

DAY = np.timedelta64(1, "D").astype("timedelta64[ns]")
LEADS = DAY * np.arange(1, 4)
GRID = LatLonGrid.equiangular(6, 12)


def make_truth(num_times: int = 40, grid: LatLonGrid = GRID, seed: int = 0) -> xr.Dataset:
    """Red noise in time, white in space, at two levels and the surface."""
    rng = np.random.default_rng(seed)
    shocks = rng.standard_normal((num_times, 3, *grid.shape))
    for step in range(1, num_times):
        shocks[step] += 0.7 * shocks[step - 1]
    times = np.datetime64("2001-01-01", "ns") + np.arange(num_times) * DAY
    upper = ("time", "level", "latitude", "longitude")
    dataset = xr.Dataset(
        {
            "temperature": (upper, 250 + 5 * shocks[:, :2], {"units": "K"}),
            "2m_temperature": (("time", *upper[2:]), 280 + shocks[:, 2], {"units": "K"}),
        },
        coords={"time": times, "level": [500, 850], **grid.coords},
    )
    return dataset.astype(np.float64)


def make_coefficients(truth: xr.Dataset) -> xr.Dataset:
    """The mean over time, as a climatology without annual cycle, in float32 as in stores."""
    mean = truth.mean("time", keep_attrs=True).astype(np.float32)
    return mean.expand_dims(hour=[0], harmonic=[0])


def make_table(num_days: int = 366, grid: LatLonGrid = GRID) -> xr.Dataset:
    """A climatology by hour and day of the year: the day plus the hour over 100, in K."""
    days, hours = np.arange(1, num_days + 1), np.array([0, 12])
    values = days[None, :, None, None] + hours[:, None, None, None] / 100
    dims = ("hour", "dayofyear", "latitude", "longitude")
    return xr.Dataset(
        {"2m_temperature": (dims, values * np.ones((1, 1, *grid.shape)), {"units": "K"})},
        coords={"hour": hours, "dayofyear": days, **grid.coords},
    )


def make_forecast(truth: xr.Dataset, *, num_members: int = 1, seed: int = 1) -> xr.Dataset:
    """Truth with errors that grow with lead time, from 20 initial times."""
    rng = np.random.default_rng(seed)
    inits = truth["time"].values[5:25]
    valid = xr.DataArray(
        inits[:, None] + LEADS,
        dims=("init_time", "lead_time"),
        coords={"init_time": inits, "lead_time": LEADS},
    )
    result = truth.sel(time=valid).drop_vars("time")
    if num_members > 1:
        result = result.expand_dims(realization=np.arange(num_members), axis=2)
    growth = xr.DataArray(np.sqrt(np.arange(1.0, 4.0)), dims="lead_time")
    for name, array in result.data_vars.items():
        noise = growth * xr.DataArray(rng.standard_normal(array.shape), dims=array.dims)
        result[name] = (array + 0.3 + noise).transpose(*array.dims).assign_attrs(array.attrs)
    return result

"""Stores of given states, as the benchmarks read them."""

from pathlib import Path

import numpy as np
import xarray as xr

from data_pipeline.channels import Channel, Channels
from data_pipeline.grids.grid import LatLonGrid
from data_pipeline.preprocessing.statistics import Statistics
from data_pipeline.store.packing import Packing, StorageConfig
from data_pipeline.store.reader import PreparedStore
from data_pipeline.store.writer import StoreWriter

_START = np.datetime64("2001-01-01", "ns")


def write_store(
    path: Path, states: np.ndarray, grid: LatLonGrid, storage: StorageConfig | None = None
) -> PreparedStore:
    """Write a prepared store of ``states`` every 6 hours."""
    storage = storage or StorageConfig()
    channels = Channels(tuple(Channel(name=f"v{i}", units="1") for i in range(states.shape[1])))
    times = _START + np.arange(len(states)) * np.timedelta64(6, "h")
    packing = Packing.fit(storage.dtype, states[:4])
    shard_length = max(1, int(storage.shard_mib * 2**20) // states[0].nbytes)
    filled = Channels(())
    writer = StoreWriter(path, channels, grid, times, packing, storage, shard_length, filled)
    writer.create()
    checksums = []
    for start in range(0, len(states), shard_length):
        block = packing.pack(states[start : start + shard_length], channels.labels)
        checksums += [int(each, 16) for each in writer.write(start, block)]
    writer.create_climatology(np.zeros(1, int), 1)
    ones = np.ones(len(channels))
    contents = {
        **dict.fromkeys(Statistics._fields, ones),
        "rounding": ones,
        "checksum": np.array(checksums, np.uint64),
        "static": np.zeros((0, *grid.shape), np.float32),
        "hour": np.zeros(1, int),
    }
    roles = {"prognostic": list(channels.labels), "diagnostic": []}
    attrs = {"static_channels": [], "timestep_hours": 6, "roles": roles, "settings": {}}
    writer.finish(contents, attrs)
    return PreparedStore(path)


def write_weatherbench2(path: Path, states: np.ndarray, grid: LatLonGrid) -> None:
    """Write WeatherBench 2's layout: a variable a channel, longitude first, a chunk a time."""
    dims = ("time", "longitude", "latitude")
    data = {f"v{i}": (dims, states[:, i].swapaxes(1, 2)) for i in range(states.shape[1])}
    times = _START + np.arange(len(states)) * np.timedelta64(6, "h")
    dataset = xr.Dataset(data, coords={"time": times, **grid.coords}).chunk(time=1)
    dataset.to_zarr(path, zarr_format=2, consolidated=True)

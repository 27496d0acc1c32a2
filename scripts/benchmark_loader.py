"""Samples per second of the loader beside the limit of copying memory and beside common readers.

    python -m scripts.benchmark_loader

Pairs of consecutive states at random times, in batches, interleaved repeats in one process, all
files in the page cache. The limit copies the same states from a mapped file of plain float32 into
one buffer that is used again, with one thread. The loader starts anew in every turn, so that
nothing is read ahead while others are measured. The common readers give the same batch in new
memory, as they do in training: ``zarr`` and ``h5py`` from the same bytes, ``xarray`` from the
prepared store and from the layout in which WeatherBench 2 is published (a variable each, a time
step a chunk, blosc).
"""

import tempfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import h5py
import numpy as np
import xarray as xr
import zarr
from jsonargparse import auto_cli
from rich.console import Console
from rich.table import Table

from benchmarks.timing import describe, median_seconds
from data_pipeline.channels import Channel, Channels
from data_pipeline.dataset import WindowDataset
from data_pipeline.grid import LatLonGrid
from data_pipeline.loader import Loader
from data_pipeline.packing import Packing, StorageConfig
from data_pipeline.prepare import Period
from data_pipeline.statistics import Statistics
from data_pipeline.store import Layout, PreparedStore

_BATCHES = 8  # in a turn
_START = np.datetime64("2001-01-01", "ns")


def benchmark(
    num_channels: int = 20,
    num_latitudes: int = 181,
    num_longitudes: int = 360,
    num_times: int = 240,
    batch_size: int = 16,
    repeats: int = 5,
    folder: Path | None = None,
) -> None:
    """Measure and print.

    Args:
        num_channels: Channels of a state.
        num_latitudes: Rows of the grid.
        num_longitudes: Columns of the grid.
        num_times: States in each store.
        batch_size: Pairs in a batch.
        repeats: Interleaved repeats of 8 batches; the median counts.
        folder: Where the stores are written; a temporary folder by default.
    """
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        grid = LatLonGrid.equiangular(num_latitudes, num_longitudes, poles=True)
        readers = build_readers(Path(temporary), num_channels, grid, num_times, batch_size)
        times = median_seconds(readers, repeats)
    table = Table("reader", "samples/s", "MB/s", "of the limit")
    pair_bytes = 2 * 4 * num_channels * num_latitudes * num_longitudes
    for name, seconds in times.items():
        rate = _BATCHES * batch_size / seconds
        share = times["limit"] / seconds
        table.add_row(name, f"{rate:.0f}", f"{rate * pair_bytes / 1e6:.0f}", f"{share:.3f}")
    console = Console(soft_wrap=True)
    console.print(describe())
    console.print(f"{num_channels} x {num_latitudes} x {num_longitudes}, batches of {batch_size}")
    console.print(table)


def build_readers(
    folder: Path, num_channels: int, grid: LatLonGrid, num_times: int, batch_size: int
) -> dict[str, Callable[[], object]]:
    """Functions that read ``_BATCHES`` random batches each, by name."""
    states = np.random.default_rng(0).standard_normal(
        (num_times, num_channels, *grid.shape), dtype=np.float32
    )
    store = write_store(folder / "ours.zarr", states, grid)
    states.tofile(folder / "plain.bin")
    with h5py.File(folder / "plain.h5", "w") as file:
        file["fields"] = states
    write_weatherbench2(folder / "published.zarr", states, grid)
    mapped = np.memmap(folder / "plain.bin", np.float32, "r", shape=states.shape)
    buffer = np.empty((batch_size, 2, *states.shape[1:]), np.float32)
    draws = random_starts(num_times, batch_size)
    hdf5, group = h5py.File(folder / "plain.h5"), zarr.open_group(folder / "ours.zarr", mode="r")
    ours = xr.open_zarr(folder / "ours.zarr", chunks=None, consolidated=False)["fields"]
    published = xr.open_zarr(folder / "published.zarr", chunks=None)
    windows = WindowDataset(store, Period(start="2001-01-01", end="2100-01-01"), 1, 1)
    loader = Loader(windows, batch_size, seed=0, shuffle=True)

    def limit() -> None:
        for starts in islice(draws, _BATCHES):
            for target, start in zip(buffer, starts, strict=True):
                np.copyto(target, mapped[start : start + 2])

    def load() -> None:
        assert sum(1 for _ in islice(loader.epoch(0), _BATCHES)) == _BATCHES

    def stacked(read: Callable[[int], np.ndarray]) -> Callable[[], object]:
        def call() -> None:
            for starts in islice(draws, _BATCHES):
                np.stack([read(start) for start in starts])

        return call

    def read_published(start: int) -> np.ndarray:
        pair = published.isel(time=slice(start, start + 2)).load()
        return np.stack([pair[name].values for name in pair.data_vars], axis=1)

    return {
        "limit": limit,
        "this loader": load,
        "h5py": stacked(lambda start: hdf5["fields"][start : start + 2]),  # type: ignore[index]
        "zarr": stacked(lambda start: group["fields"][start : start + 2]),  # type: ignore[index]
        "xarray, prepared store": stacked(lambda start: ours[start : start + 2].values),
        "xarray, WeatherBench 2 layout": stacked(read_published),
    }


def random_starts(num_times: int, batch_size: int) -> Iterator[list[int]]:
    """Starts of random pairs."""
    generator = np.random.default_rng(1)
    while True:
        yield generator.integers(0, num_times - 1, batch_size).tolist()


def write_store(
    path: Path, states: np.ndarray, grid: LatLonGrid, storage: StorageConfig | None = None
) -> PreparedStore:
    """A prepared store of ``states`` every 6 hours."""
    storage = storage or StorageConfig()
    channels = Channels(tuple(Channel(name=f"v{i}", units="1") for i in range(states.shape[1])))
    times = _START + np.arange(len(states)) * np.timedelta64(6, "h")
    packing = Packing.fit(storage.dtype, states[:4])
    shard_length = max(1, 64 * 2**20 // states[0].nbytes)
    layout = Layout(path, channels, grid, times, packing, storage, shard_length)
    layout.create()
    checksums = []
    for start in range(0, len(states), shard_length):
        block = packing.pack(states[start : start + shard_length], channels.labels)
        checksums += [int(each, 16) for each in layout.write(start, block)]
    ones = np.ones(len(channels))
    contents = {
        **dict.fromkeys(Statistics._fields, ones),
        "rounding": ones,
        "checksum": np.array(checksums, np.uint64),
        "static": np.zeros((0, *grid.shape), np.float32),
        "hour": np.zeros(1, int),
    }
    layout.finish(contents, {"static_channels": [], "timestep_hours": 6})
    return PreparedStore(path)


def write_weatherbench2(path: Path, states: np.ndarray, grid: LatLonGrid) -> None:
    """The same states as a variable each, longitude first, a time step a chunk, compressed."""
    dims = ("time", "longitude", "latitude")
    data = {f"v{i}": (dims, states[:, i].swapaxes(1, 2)) for i in range(states.shape[1])}
    times = _START + np.arange(len(states)) * np.timedelta64(6, "h")
    dataset = xr.Dataset(data, coords={"time": times, **grid.coords}).chunk(time=1)
    dataset.to_zarr(path, zarr_format=2, consolidated=True)


if __name__ == "__main__":
    auto_cli(benchmark)

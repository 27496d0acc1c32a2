"""Samples per second of the loader, compared with copying memory and with common readers.

    python -m benchmarks.benchmark_loader                 # rates
    python -m benchmarks.benchmark_loader --steady true   # memory over 20,000 batches
    python -m benchmarks.benchmark_loader --first true    # the first batch of a store of 60 years

Every reader gives batches of pairs of consecutive states at random times. The readers take turns in
one process, with all files in the page cache; an untimed turn precedes every timed one.

- The limit copies the same states with one thread from a mapped file of uncompressed float32 into
  one buffer that is used again.
- A turn of the loader is an epoch, from the start of its threads to their end, so that it reads
  nothing ahead while other readers are measured. "packed" leaves 16-bit values for the device to
  unpack.
- The common readers return each batch in new memory, as they do in training: zarr, zarrs (its
  pipeline in Rust) and h5py read the same bytes, xarray and xbatcher the prepared store, and xarray
  the layout in which WeatherBench 2 is published (a variable for each field, a chunk for each time,
  compressed by blosc).
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count, islice
from pathlib import Path

import h5py
import numpy as np
import xarray as xr
import xbatcher
import zarr
from jsonargparse import auto_cli
from rich.console import Console
from rich.table import Table

from benchmarks.stores import write_store, write_weatherbench2
from benchmarks.timing import describe, median_seconds
from data_pipeline.grids.grid import LatLonGrid
from data_pipeline.loading.loader import Loader
from data_pipeline.loading.windows import WindowDataset
from data_pipeline.periods import Period
from data_pipeline.store.packing import StorageConfig
from data_pipeline.store.reader import PreparedStore

_BATCHES = 8  # of a turn
_SLOWEST = "xbatcher, prepared store"  # a turn has one batch


def benchmark(
    num_channels: int = 20,
    num_latitudes: int = 181,
    num_longitudes: int = 360,
    num_times: int = 240,
    batch_size: int = 16,
    repeats: int = 5,
    folder: Path | None = None,
    steady: bool = False,
    first: bool = False,
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
        steady: Measure memory over 20,000 batches of a small grid instead.
        first: Measure the time to the first batch of 60 years of a small grid instead.
    """
    console = Console(soft_wrap=True)
    console.print(describe())
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        if steady:
            console.print(growth(Path(temporary)))
            return
        if first:
            console.print(first_batch(Path(temporary)))
            return
        grid = LatLonGrid.equiangular(num_latitudes, num_longitudes, poles=True)
        readers = build_readers(Path(temporary), num_channels, grid, num_times, batch_size)
        times = median_seconds(readers, repeats, warm=True)
    table = Table("reader", "samples/s", "MB/s of float32", "of the limit")
    pair_bytes = 2 * 4 * num_channels * num_latitudes * num_longitudes
    for name, seconds in times.items():
        batches = _BATCHES if name != _SLOWEST else 1
        rate = batches * batch_size / seconds
        share = times["limit"] / seconds * batches / _BATCHES
        table.add_row(name, f"{rate:.0f}", f"{rate * pair_bytes / 1e6:.0f}", f"{share:.3f}")
    console.print(f"{num_channels} x {num_latitudes} x {num_longitudes}, batches of {batch_size}")
    console.print(table)


def growth(folder: Path, num_batches: int = 20_000, every: int = 2_000) -> str:
    """Describe the anonymous memory of this process while it reads batches."""
    grid = LatLonGrid.equiangular(32, 64)
    states = np.random.default_rng(0).standard_normal((1000, 20, *grid.shape), dtype=np.float32)
    loader = make_loader(write_store(folder / "steady.zarr", states, grid), 16)
    del states
    sizes, num_read = [], 0
    for epoch in count():
        for _ in loader.epoch(epoch):
            num_read += 1
            if num_read % every == 0:
                sizes.append(anonymous_bytes())
            if num_read == num_batches:
                change = sizes[-1] / sizes[0] - 1
                listed = ", ".join(f"{size / 2**20:.1f}" for size in sizes)
                return f"MiB every {every} batches: {listed}; change {100 * change:+.2f} %"
    raise AssertionError("unreachable")


def first_batch(folder: Path, num_years: int = 60) -> str:
    """Describe the time from opening a store to its first batch of pairs."""
    grid, num_times = LatLonGrid.equiangular(16, 32), num_years * 1461
    states = np.zeros((num_times, 20, *grid.shape), np.float32)
    path = write_store(folder / "long.zarr", states, grid, StorageConfig(shard_mib=1.0)).path
    files = sum(1 for file in path.rglob("c/*/0/0/0"))
    started = time.perf_counter()
    next(make_loader(PreparedStore(path), 16).epoch(0))
    seconds = time.perf_counter() - started
    return f"{num_times} states in {files} files: first batch after {seconds:.2f} s"


def anonymous_bytes() -> int:
    """Resident memory of this process without mapped files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 2**10 for line in lines if line.startswith("RssAnon"))


def make_loader(
    store: PreparedStore, batch_size: int, *, unpack: bool = True, num_batches: int | None = None
) -> Loader:
    """A loader of pairs at all times, or at random times for ``num_batches``, in random order."""
    windows = WindowDataset(store, Period(start="2001-01-01", end="2100-01-01"), 1, 1)
    if num_batches is not None:
        shuffled = np.random.default_rng(2).permutation(windows.starts)
        windows.starts = shuffled[: num_batches * batch_size]
    return Loader(windows, batch_size, seed=0, shuffle=True, unpack=unpack)


def build_readers(
    folder: Path, num_channels: int, grid: LatLonGrid, num_times: int, batch_size: int
) -> dict[str, Callable[[], object]]:
    """Functions that read ``_BATCHES`` random batches each, by name."""
    states = np.random.default_rng(0).standard_normal(
        (num_times, num_channels, *grid.shape), dtype=np.float32
    )
    make = partial(make_loader, batch_size=batch_size, num_batches=_BATCHES)
    loaders = {"this loader, float32": make(write_store(folder / "ours.zarr", states, grid))}
    for dtype in ("float16", "int16", "bfloat16"):
        storage = StorageConfig(dtype=dtype)
        store = write_store(folder / f"{dtype}.zarr", states, grid, storage)
        loaders[f"this loader, {dtype}"] = make(store)
        loaders[f"this loader, {dtype} packed"] = make(store, unpack=False)
    zstd = write_store(folder / "zstd.zarr", states, grid, StorageConfig(compression="zstd"))
    loaders["this loader, zstd"] = make(zstd)
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
    pairs = xbatcher.BatchGenerator(
        ours.to_dataset(), {"time": 2}, input_overlap={"time": 1}, preload_batch=False
    )
    with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
        rust = zarr.open_group(folder / "ours.zarr", mode="r")["fields"]

    def limit() -> None:
        for starts in islice(draws, _BATCHES):
            for target, start in zip(buffer, starts, strict=True):
                np.copyto(target, mapped[start : start + 2])

    def reader(read: Callable[[int], np.ndarray], batches: int = _BATCHES) -> Callable[[], object]:
        def call() -> None:
            for starts in islice(draws, batches):
                np.stack([read(start) for start in starts])

        return call

    def read_published(start: int) -> np.ndarray:
        pair = published.isel(time=slice(start, start + 2)).load()
        return np.stack([pair[name].values for name in pair.data_vars], axis=1)

    return {
        "limit": limit,
        **{name: partial(read_batches, loader) for name, loader in loaders.items()},
        "h5py": reader(lambda start: hdf5["fields"][start : start + 2]),  # type: ignore[index]
        "zarr": reader(lambda start: group["fields"][start : start + 2]),  # type: ignore[index]
        "zarr with zarrs": reader(lambda start: rust[start : start + 2]),  # type: ignore[index]
        "xarray, prepared store": reader(lambda start: ours[start : start + 2].values),
        _SLOWEST: reader(lambda start: pairs[start]["fields"].values, 1),
        "xarray, WeatherBench 2 layout": reader(read_published),
    }


def read_batches(loader: Loader) -> None:
    """Read an epoch and drop it."""
    assert sum(1 for _ in loader.epoch(0)) == _BATCHES


def random_starts(num_times: int, batch_size: int) -> Iterator[list[int]]:
    """Endless batches of starts of random pairs."""
    generator = np.random.default_rng(1)
    while True:
        yield generator.integers(0, num_times - 1, batch_size).tolist()


if __name__ == "__main__":
    auto_cli(benchmark)

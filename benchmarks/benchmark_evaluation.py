"""Speed of the evaluation beside numpy's reading of the same data, and beside plain xarray.

    python -m benchmarks.benchmark_evaluation

A forecast and truth of random numbers are written as zarr in WeatherBench 2's layout, without
compression, and scored for RMSE, ACC, bias and zonal spectra. The limit reads the forecast's files
into one buffer and sums the squares of the numbers in float64, on one thread as numpy does. The
runs take turns in one process of their own each, with the files in the page cache. Each does the
same with a few initial times first, untimed, for what Python imports and looks up on the first
call; ``warm_up=false`` leaves this out. Plain xarray scores the first initial times and twice as
many: its time for all is extrapolated from both, so that what it costs once is not scaled up.
"""

import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import xarray as xr
from jsonargparse import auto_cli
from rich.console import Console
from rich.table import Table

from benchmarks.timing import describe
from data_pipeline.grids.grid import LatLonGrid
from fourcastnet_afno.evaluation.config import EvaluationConfig
from fourcastnet_afno.evaluation.evaluate import evaluate
from fourcastnet_afno.evaluation.inputs.climatologies import from_coefficients

_HOUR = np.timedelta64(1, "h").astype("timedelta64[ns]")
_START = np.datetime64("2020-01-01", "ns")
_INIT_HOURS, _LEAD_HOURS = 12, 6
_FEW = 4  # initial times of the warm-up
_ONCE, _TWICE = "plain xarray, once", "plain xarray, twice"


def benchmark(
    num_init_times: int = 730,
    num_lead_times: int = 40,
    num_levels: int = 20,
    num_latitudes: int = 32,
    num_longitudes: int = 64,
    inits_in_chunk: int = 1,
    num_threads: int = 2,
    repeats: int = 3,
    xarray_init_times: int = 16,
    warm_up: bool = True,
    folder: Path | None = None,
) -> None:
    """Measure and print.

    Args:
        num_init_times: Initial times, 12 hours apart.
        num_lead_times: Lead times, 6 hours apart.
        num_levels: Levels of the one variable: the channels.
        num_latitudes: Rows.
        num_longitudes: Columns.
        inits_in_chunk: Initial times in a chunk of the forecast, with all lead times of a level.
        num_threads: Threads of the evaluation.
        repeats: Interleaved repeats; the median counts.
        xarray_init_times: Initial times that plain xarray scores, and then twice as many.
        warm_up: Whether each process does the same with a few initial times before.
        folder: Where the stores are written; a temporary folder by default.
    """
    grid = LatLonGrid.equiangular(num_latitudes, num_longitudes)
    console = Console(soft_wrap=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        path = Path(temporary)
        shape = (num_init_times, num_lead_times, num_levels)
        few = path / "few"
        write_stores(path, shape, grid, inits_in_chunk)
        write_stores(few, (_FEW * inits_in_chunk, *shape[1:]), grid, inits_in_chunk)
        size = 4 * int(np.prod(shape)) * num_latitudes * num_longitudes
        count = min(xarray_init_times, num_init_times // 2)
        calls: dict[str, Callable[[Path], None]] = {
            "numpy reads and sums squares": read_and_sum,
            "evaluate": partial(score, num_threads=num_threads),
            _ONCE: partial(score_with_xarray, count=count),
            _TWICE: partial(score_with_xarray, count=2 * count),
        }
        runs: dict[str, list[tuple[float, float, float]]] = {name: [] for name in calls}
        for _ in range(repeats):
            for name, call in calls.items():
                runs[name].append(in_own_process(call, path, few if warm_up else None))
    medians = {
        name: (
            statistics.median(seconds for seconds, _, _ in values),
            statistics.median(used for _, used, _ in values),
            max(peak for _, _, peak in values),
        )
        for name, values in runs.items()
    }
    once, twice = medians.pop(_ONCE), medians.pop(_TWICE)
    all_of_them = once[0] + (twice[0] - once[0]) * (num_init_times - count) / count
    medians["plain xarray"] = (all_of_them, float("nan"), twice[2])
    console.print(describe())
    console.print(f"{shape} fields of {grid}, {size / 1e9:.2f} GB as float32")
    console.print(table_of(medians, size))
    faster = all_of_them / medians["evaluate"][0]
    console.print(f"evaluate is {faster:.1f} times as fast as plain xarray")


def table_of(medians: Mapping[str, tuple[float, float, float]], size: int) -> Table:
    """Seconds, seconds of all cores and memory of each way to read so many bytes."""
    table = Table("", "s", "s of all cores", "GB/s", "of numpy's speed", "peak memory [GiB]")
    limit = next(iter(medians.values()))[0]
    for name, (seconds, used, peak) in medians.items():
        numbers = (seconds, used, size / seconds / 1e9, limit / seconds, peak)
        table.add_row(name, *(f"{number:.2f}" for number in numbers))
    return table


def write_stores(
    folder: Path, shape: tuple[int, int, int], grid: LatLonGrid, inits_in_chunk: int
) -> None:
    """Truth, climatology and a forecast: ``geopotential`` on levels."""
    generator = np.random.default_rng(0)
    num_inits, num_leads, num_levels = shape
    inits = _START + np.arange(num_inits) * _INIT_HOURS * _HOUR
    leads = np.arange(1, num_leads + 1) * _LEAD_HOURS * _HOUR
    times = np.arange(inits[0], inits[-1] + leads[-1] + _HOUR, _LEAD_HOURS * _HOUR)
    coords = {"level": np.arange(1, num_levels + 1) * 50, **grid.coords}
    space = ("level", "latitude", "longitude")

    def fields(count: int) -> np.ndarray:
        return generator.standard_normal((count, num_levels, *grid.shape), np.float32)

    def dataset(values: np.ndarray, dims: tuple[str, ...], further: dict) -> xr.Dataset:
        array = xr.DataArray(values, dims=dims, attrs={"units": "m2 s-2"})
        return xr.Dataset({"geopotential": array}, coords={**further, **coords})

    options = {"consolidated": False, "zarr_format": 3}
    plain = {"compressors": None}
    truth = dataset(fields(len(times)), ("time", *space), {"time": times})
    chunks = (1, num_levels, *grid.shape)
    encoding = {"geopotential": {**plain, "chunks": chunks}}
    truth.to_zarr(folder / "truth.zarr", encoding=encoding, **options)
    mean = dataset(fields(4)[:, None], ("hour", "harmonic", *space), {"hour": [0, 6, 12, 18]})
    mean.to_netcdf(folder / "climatology.nc")
    chunks = (inits_in_chunk, num_leads, 1, *grid.shape)
    for start in range(0, num_inits, inits_in_chunk):
        part = inits[start : start + inits_in_chunk]
        values = fields(len(part) * num_leads).reshape(
            len(part), num_leads, *chunks[:0], num_levels, *grid.shape
        )
        dims = ("time", "prediction_timedelta", *space)
        forecast = dataset(values, dims, {"time": part, "prediction_timedelta": leads})
        target = folder / "forecast.zarr"
        if start == 0:
            encoding = {"geopotential": {**plain, "chunks": chunks}}
            encoding["time"] = {"units": "hours since 1970-01-01", "dtype": "int64"}
            forecast.to_zarr(target, encoding=encoding, **options)
        else:
            forecast.to_zarr(target, append_dim="time", **options)


def read_and_sum(folder: Path) -> None:
    """Read every chunk of the forecast into one buffer and sum its squares in float64."""
    files = [p for p in (folder / "forecast.zarr/geopotential/c").rglob("*") if p.is_file()]
    buffer = np.empty(files[0].stat().st_size // 4, np.float32)
    squares = np.empty_like(buffer)
    total = 0.0
    for file in files:
        with file.open("rb", buffering=0) as stream:
            stream.readinto(buffer)  # type: ignore[arg-type]
        total += np.square(buffer, out=squares).sum(dtype=np.float64)
    assert np.isfinite(total)


def score(folder: Path, num_threads: int) -> None:
    """Score with this package."""
    config = EvaluationConfig(
        metrics=["rmse", "acc", "bias"],
        baselines=[],
        maps=False,
        num_resamples=0,
        num_threads=num_threads,
    )
    with xr.open_dataset(folder / "climatology.nc") as coefficients:
        climatology = from_coefficients(coefficients.load())
    forecasts = {"forecast": str(folder / "forecast.zarr")}
    evaluate(forecasts, str(folder / "truth.zarr"), climatology, config)


def score_with_xarray(folder: Path, count: int) -> None:
    """The same scores as one would write them with xarray and dask."""
    forecast = xr.open_zarr(folder / "forecast.zarr", consolidated=False, decode_timedelta=True)
    forecast = forecast["geopotential"].isel(time=slice(count))
    # In memory: to index it by valid time chunk by chunk costs xarray many times more.
    truth = xr.open_zarr(folder / "truth.zarr", consolidated=False)["geopotential"].load()
    climatology = xr.load_dataset(folder / "climatology.nc")["geopotential"].isel(harmonic=0)
    weights = xr.DataArray(
        LatLonGrid.from_dataset(truth).area_weights()[:, 0], dims="latitude"
    ).assign_coords(latitude=truth["latitude"])
    valid = forecast["time"] + forecast["prediction_timedelta"]
    actual = truth.sel(time=valid).drop_vars("time")
    normal = climatology.sel(hour=valid.dt.hour).drop_vars("hour")
    space = ["latitude", "longitude"]

    def mean(array: xr.DataArray) -> xr.DataArray:
        return array.weighted(weights).mean(space)

    error, ours, theirs = forecast - actual, forecast - normal, actual - normal
    correlation = mean(ours * theirs) / np.sqrt(mean(ours**2) * mean(theirs**2))
    power = xr.apply_ufunc(
        lambda values: np.abs(np.fft.rfft(values)) ** 2,
        forecast,
        input_core_dims=[["longitude"]],
        output_core_dims=[["wavenumber"]],
        dask="parallelized",
        dask_gufunc_kwargs={"output_sizes": {"wavenumber": forecast.sizes["longitude"] // 2 + 1}},
        output_dtypes=[np.float64],
    )
    xr.Dataset(
        {
            "rmse": np.sqrt(mean(error**2).mean("time")),
            "acc": correlation.mean("time"),
            "bias": mean(error).mean("time"),
            "spectrum": power.weighted(weights).mean("latitude").mean("time"),
        }
    ).compute()


def in_own_process(
    call: Callable[[Path], None], folder: Path, few: Path | None
) -> tuple[float, float, float]:
    """Seconds, seconds of all cores and peak memory in GiB of a call, after the imports.

    Args:
        call: What is measured.
        folder: Its argument.
        few: Its argument in a call before; none without one.
    """
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_measured, (call, folder, few))


def _measured(
    call: Callable[[Path], None], folder: Path, few: Path | None
) -> tuple[float, float, float]:
    if few is not None:
        call(few)
    started, used = time.perf_counter(), time.process_time()
    call(folder)
    taken, used = time.perf_counter() - started, time.process_time() - used
    return taken, used, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    auto_cli(benchmark, as_positional=False)

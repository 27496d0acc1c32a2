"""Time and memory of forecasts that are written to disk, against a plain loop.

    python -m benchmarks.benchmark_rollout rollouts
    python -m benchmarks.benchmark_rollout rollouts --device cuda --bfloat16 true --rows 721 \
        --columns 1440 --patch 8 --embed_dim 768 --depth 12 --num_steps 28 --num_forecasts 1
    python -m benchmarks.benchmark_rollout large
    python -m benchmarks.benchmark_rollout climate runs/quickstart

"this package" is all of ``write_forecast``: initial states, steps in batches, statistics of every
step, compression and the store. "plain loop" works as FourCastNet's inference script does: its
formulation of the network (``benchmarks.fourcastnet``) makes one forecast at a time; states stay in
memory until the end and are then written at once, uncompressed and without statistics. Both have
the same weights and modes, so that they compute the same. "plain loop, our network" separates the
effect of the network from that of the loop. Times are medians of interleaved repeats in one
process; the peak memory of each is measured in a process of its own.
"""

import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.queues import SimpleQueue
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from jsonargparse import auto_cli
from rich.console import Console
from rich.table import Table

from benchmarks.fourcastnet import as_fourcastnet
from benchmarks.timing import describe, median_seconds, waiting_for
from data_pipeline.channels import Channel, Channels
from data_pipeline.grids.grid import LatLonGrid
from data_pipeline.store.reader import PreparedStore
from data_pipeline.timestep import Timestep
from fourcastnet_afno.forecaster.checkpoint import load_forecaster, save_checkpoint
from fourcastnet_afno.forecaster.config import DampingPower, ModelConfig
from fourcastnet_afno.forecaster.forecaster import FieldSpec, Forecaster
from fourcastnet_afno.inference import write as forecasting
from fourcastnet_afno.inference.background_writer import BackgroundWriter
from fourcastnet_afno.inference.config import (
    EnsembleConfig,
    ForecastConfig,
    StabilityConfig,
    StoreConfig,
)
from fourcastnet_afno.inference.initial_states import InitialStates, parse_init_times
from fourcastnet_afno.inference.rollout import forcings_from, rollout
from fourcastnet_afno.inference.write import write_forecast
from fourcastnet_afno.models.config import AFNONetConfig

console = Console()
_GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Case:
    """Sizes of a forecaster and of its forecasts: the arguments of ``rollouts``."""

    rows: int
    columns: int
    num_channels: int
    patch: int
    embed_dim: int
    depth: int
    num_forecasts: int
    num_steps: int
    batch_size: int
    device: str
    bfloat16: bool
    members: bool
    statistics: bool


def rollouts(
    rows: int = 64,
    columns: int = 128,
    num_channels: int = 20,
    patch: int = 4,
    embed_dim: int = 256,
    depth: int = 4,
    num_forecasts: int = 8,
    num_steps: int = 40,
    batch_size: int = 8,
    repeats: int = 3,
    device: str = "cpu",
    bfloat16: bool = False,
    members: bool = False,
    statistics: bool = False,
    memory: bool = True,
) -> None:
    """Forecasts of 6-hour steps, from this package and from a plain loop.

    Args:
        rows: Latitudes.
        columns: Longitudes.
        num_channels: Channels.
        patch: Rows and columns of a patch.
        embed_dim: Channels of a token.
        depth: Blocks.
        num_forecasts: Initial times, or members of one.
        num_steps: Steps of each.
        batch_size: Forecasts that run together; the plain loop has one.
        repeats: Interleaved repeats; the median counts.
        device: Torch device.
        bfloat16: Whether networks run under autocast to bfloat16.
        members: Whether forecasts are members of an ensemble from one initial time.
        statistics: Whether this package writes mean and spread instead of members.
        memory: Whether to measure peak memory too, in further processes.
    """
    case = Case(
        rows=rows,
        columns=columns,
        num_channels=num_channels,
        patch=patch,
        embed_dim=embed_dim,
        depth=depth,
        num_forecasts=num_forecasts,
        num_steps=num_steps,
        batch_size=batch_size,
        device=device,
        bfloat16=bfloat16,
        members=members or statistics,
        statistics=statistics,
    )
    with tempfile.TemporaryDirectory() as folder:
        runs = build_runs(case, Path(folder))
        seconds = median_seconds({name: run.call for name, run in runs.items()}, repeats, device)
    peaks = {name: peak_memory(case, name) if memory else 0 for name in runs}
    table = Table(title=f"{num_forecasts} forecasts of {num_steps} steps, {rows} x {columns}")
    for column in ("", "steps/s", "member-days/min", "in the network", "waiting", "peak memory"):
        table.add_column(column, justify="left" if not column else "right")
    steps = num_forecasts * num_steps
    for name, run in runs.items():
        table.add_row(
            name,
            f"{steps / seconds[name]:.1f}",
            f"{steps / 4 / seconds[name] * 60:.0f}",
            f"{run.clock.in_network / run.clock.total:.0%}",
            f"{run.clock.waiting / run.clock.total:.1%}",
            f"{peaks[name] / _GIB:.2f} GiB" if memory else "",
        )
    console.print(table)
    ratio = seconds["plain loop"] / seconds["this package"]
    console.print(f"this package is {ratio:.2f} times as fast as the plain loop")
    console.print(describe(device))


def large(num_channels: int = 26, embed_dim: int = 768, depth: int = 12) -> None:
    """Load a 0.25-degree forecaster on the CPU, make one step and write it to a store.

    Args:
        num_channels: Channels.
        embed_dim: Channels of a token.
        depth: Blocks; a patch has 8 x 8 cells, and 721 rows are padded.
    """
    sizes = {"rows": 721, "columns": 1440, "num_channels": num_channels, "patch": 8}
    case = Case(
        **sizes,
        embed_dim=embed_dim,
        depth=depth,
        num_forecasts=1,
        num_steps=1,
        batch_size=1,
        device="cpu",
        bfloat16=False,
        members=False,
        statistics=False,
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "forecaster.safetensors"
        save_checkpoint(path, build_forecaster(case), {}, {})
        started = time.perf_counter()
        forecaster = load_forecaster(path)
        loaded = time.perf_counter()
        data = build_data(case)
        before = time.perf_counter()
        write(case, forecaster, data, Path(folder))
        finished = time.perf_counter()
    parameters = sum(p.numel() for p in forecaster.parameters())
    console.print(
        f"{parameters / 1e6:.0f} million parameters: loaded in {loaded - started:.1f} s, one step "
        f"and its store in {finished - before:.1f} s, peak memory {_peak() / _GIB:.1f} GiB"
    )
    console.print(describe())


def climate(
    run: Path,
    store: Path | None = None,
    init_times: str = "2008-01-02..2008-10-01/39D",
    num_months: int = 12,
    damping_power: DampingPower | None = 2,
) -> None:
    """Sizes of anomalies in forecasts of years over those of training, by month and channel.

    A month has 30 days. Sizes are roots of mean squares over forecasts, steps and area; shifts are
    means over them, in units of the size of training.

    Args:
        run: Folder of a run with ``model.damping_days``.
        store: Prepared data; that of the run if null.
        init_times: As ``forecast.init_times``; all forecasts run together.
        num_months: Months of each.
        damping_power: As ``forecast.stability.damping_power``.
    """
    forecaster = load_forecaster(run / "checkpoints" / "best.safetensors")
    if damping_power is not None:
        forecaster = forecaster.with_damping_power(damping_power)
    spec, mean, variance = forecaster.spec, forecaster.mean_state, forecaster.anomaly_variance
    assert mean is not None
    assert variance is not None
    data = PreparedStore(store or run / "data.zarr").prognostic.dataset()
    times = parse_init_times(init_times)
    history = InitialStates(data, spec, forecaster.num_history, mean.device).read(times)
    weights = torch.from_numpy(spec.grid.area_weights()).to(mean)
    per_month = round(Timestep.parse("30D").mean_nanoseconds / spec.step.mean_nanoseconds)
    sums = torch.zeros(num_months, 2, len(spec.channels))
    with torch.inference_mode():
        forcings = forcings_from(forecaster, times)
        forecasts = rollout(forecaster, history, forcings, num_months * per_month)
        for number, state in enumerate(forecasts):
            anomaly = (state - mean) / variance.sqrt()
            moments = [(weights * x).mean(dim=(0, 2, 3)) for x in (anomaly**2, anomaly)]
            sums[number // per_month] += torch.stack(moments) / per_month
    table = Table(title=f"{len(times)} forecasts of {num_months} months from {run}")
    for column in ("month", *(f"{name}, size, shift" for name in spec.channels.labels)):
        table.add_column(column, justify="right")
    for month, (squares, shifts) in enumerate(sums.tolist(), start=1):
        cells = (f"{v**0.5:.2f} {w:+.3f}" for v, w in zip(squares, shifts, strict=True))
        table.add_row(str(month), *cells)
    console.print(table)
    console.print(describe())


class Clock:
    """Seconds of all calls, of the networks in them, and of waiting for the disk."""

    def __init__(self) -> None:
        self.total = self.in_network = self.waiting = 0.0
        self._started = 0.0

    def watch(self, network: torch.nn.Module, device: str) -> None:
        """Add the seconds of every call of ``network``."""
        synchronize = waiting_for(device)

        def before(*_: object) -> None:
            synchronize()
            self._started = time.perf_counter()

        def after(*_: object) -> None:
            synchronize()
            self.in_network += time.perf_counter() - self._started

        network.register_forward_pre_hook(before)
        network.register_forward_hook(after)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Add the seconds of the block."""
        started = time.perf_counter()
        yield
        self.total += time.perf_counter() - started


@dataclass(frozen=True)
class Run:
    """A function that makes the forecasts, and its clock."""

    call: Callable[[], object]
    clock: Clock


def build_runs(case: Case, folder: Path) -> dict[str, Run]:
    """This package and the plain loops by name, with the same weights."""
    data = build_data(case)
    ours = build_forecaster(case)
    theirs = build_forecaster(case)
    theirs.network = as_fourcastnet(theirs.network)
    loops = {"plain loop": theirs, "plain loop, our network": build_forecaster(case)}
    runs = {"this package": _run(case, ours, lambda: write(case, ours, data, folder))}
    for name, forecaster in loops.items():
        runs[name] = _run(
            case, forecaster, lambda f=forecaster: plain_loop(case, f, data, folder / "plain.npy")
        )
    return runs


def _run(case: Case, forecaster: Forecaster, call: Callable[[], float]) -> Run:
    clock = Clock()
    clock.watch(forecaster.network, case.device)

    def timed_call() -> None:
        with clock.running():
            waited = call()
        clock.waiting += waited

    return Run(timed_call, clock)


def write(case: Case, forecaster: Forecaster, data: xr.Dataset, folder: Path) -> float:
    """Make the forecasts with this package; returns the seconds of waiting for the writer."""
    ensemble = EnsembleConfig()
    if case.members:
        ensemble = EnsembleConfig(
            num_members=case.num_forecasts,
            perturbation="gaussian",
            output="statistics" if case.statistics else "members",
        )
    path = Path(tempfile.mkdtemp(dir=folder)) / "forecast.zarr"  # a new one, not deleted
    config = ForecastConfig(
        num_steps=case.num_steps,
        batch_size=case.batch_size,
        precision="bfloat16" if case.bfloat16 else "float32",
        ensemble=ensemble,
        stability=StabilityConfig(limit=1e30),
        store=StoreConfig(),
    )
    writers: list[BackgroundWriter] = []

    def writer() -> BackgroundWriter:
        writers.append(BackgroundWriter())
        return writers[-1]

    original, forecasting.BackgroundWriter = forecasting.BackgroundWriter, writer  # type: ignore[assignment,misc]
    try:
        write_forecast(forecaster, data, data["time"].values, config, path, {}, environment={})
    finally:
        forecasting.BackgroundWriter = original  # type: ignore[misc]
    return sum(writer.seconds_waited for writer in writers)


def plain_loop(case: Case, forecaster: Forecaster, data: xr.Dataset, path: Path) -> float:
    """Make the forecasts one after the other and write them at the end; nothing waits."""
    states = forecaster.spec.channels.stack(data).values
    results = []
    with torch.inference_mode(), torch.autocast(case.device, torch.bfloat16, case.bfloat16):
        for index in range(case.num_forecasts):
            state = torch.from_numpy(states[0 if case.members else index])[None].to(case.device)
            steps = []
            for _ in range(case.num_steps):
                forcing = torch.zeros(1, 0, *state.shape[2:], device=case.device)
                state = forecaster(state[:, None], forcing)
                steps.append(state.cpu().numpy())
            results.append(np.concatenate(steps))
    np.save(path, np.stack(results))
    return 0.0


def build_forecaster(case: Case) -> Forecaster:
    """A forecaster with random weights, small enough to stay bounded."""
    torch.manual_seed(0)
    channels = _channels(case)
    grid = _grid(case)
    spec = FieldSpec(
        channels=channels,
        static_channels=Channels(()),
        forcings=(),
        grid=grid,
        step=Timestep.parse("6h"),
    )
    network = AFNONetConfig(
        patch_size=(case.patch, case.patch),
        embed_dim=case.embed_dim,
        depth=case.depth,
        mode_selection="fourcastnet",
    )
    one = torch.ones(len(channels))
    forecaster = Forecaster(
        ModelConfig(network=network),
        spec,
        mean=0 * one,
        std=one,
        diff_std=0.1 * one,
        static=torch.zeros(0, *grid.shape),
    )
    return forecaster.to(case.device).eval()


def build_data(case: Case) -> xr.Dataset:
    """Random states: one for each forecast, or one for all members."""
    grid, channels = _grid(case), _channels(case)
    count = 1 if case.members else case.num_forecasts
    shape = (count, len(channels), *grid.shape)
    fields = np.random.default_rng(0).standard_normal(shape, np.float32)
    times = np.datetime64("2020-01-01", "ns") + np.arange(count) * np.timedelta64(6, "h")
    return channels.unstack(fields, {"time": times, **grid.coords})


def _channels(case: Case) -> Channels:
    return Channels(tuple(Channel(name=f"v{i}", units="1") for i in range(case.num_channels)))


def _grid(case: Case) -> LatLonGrid:
    return LatLonGrid.equiangular(case.rows, case.columns, poles=case.rows % 2 == 1)


def peak_memory(case: Case, name: str) -> int:
    """Peak resident memory in bytes of a process that makes the forecasts once."""
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    process = context.Process(target=_measure, args=(case, name, queue))
    process.start()
    result = queue.get()
    process.join()
    return result


def _measure(case: Case, name: str, queue: "SimpleQueue[int]") -> None:
    with tempfile.TemporaryDirectory() as folder:
        build_runs(case, Path(folder))[name].call()
    queue.put(_peak())


def _peak() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    auto_cli([rollouts, large, climate])

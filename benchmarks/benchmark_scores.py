"""Cost of scores that are made with the forecasts, against a plain rollout of the same network.

    python -m benchmarks.benchmark_scores --num_members 1000 --num_steps 5 --num_inits 1
    python -m benchmarks.benchmark_scores --num_members 1000 --network false --repeats 0

"plain rollout" steps all members, in the same batches, and drops the fields. "scored" is all of
``write_forecast`` that keeps nothing but the scores: initial states, perturbations, statistics of
every step, every metric of ``evaluate``. Times are medians of interleaved repeats in one process.
The time of the processor adds up that of all threads, and other programs hardly change it: it is
that of a machine whose cores are all busy. The peak memory is that of a process of its own, and the
disk the largest size of the folder while it runs. The network has the quickstart's shape and random
weights; ``network`` false replaces it by persistence, to measure memory and disk of many steps in
short time.
"""

import multiprocessing
import os
import resource
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.queues import SimpleQueue
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from jsonargparse import auto_cli
from rich.console import Console
from rich.table import Table

from benchmarks.timing import describe, median_seconds_by_clock
from data_pipeline.channels import Channel, Channels
from data_pipeline.grids.grid import LatLonGrid
from data_pipeline.sources.names import UNITS
from data_pipeline.timestep import Timestep
from data_pipeline.yaml_text import read_yaml
from fourcastnet_afno.cli.freed_memory import keep_freed_memory
from fourcastnet_afno.evaluation.config import EvaluationConfig
from fourcastnet_afno.forecaster.config_text import parse_config
from fourcastnet_afno.forecaster.forecaster import FieldSpec, Forecaster
from fourcastnet_afno.inference.config import EnsembleConfig, ForecastConfig, StabilityConfig
from fourcastnet_afno.inference.initial_states import InitialStates
from fourcastnet_afno.inference.rollout import Stepper, forcings_from, rollout
from fourcastnet_afno.inference.steppers import Persistence
from fourcastnet_afno.inference.write import write_forecast
from fourcastnet_afno.live_scores.scorer import LiveScoring
from fourcastnet_afno.workflows.config import ExperimentConfig

console = Console()
_STATIC = "geopotential_at_surface"
_CONFIG = Path(__file__).parents[1] / "configs" / "quickstart.yaml"


@dataclass(frozen=True, kw_only=True)
class Case:
    """Numbers of forecasts, the network and its batches: the arguments of ``main``."""

    num_members: int
    num_steps: int
    num_inits: int
    batch_size: int
    network: bool
    threads: int


def main(
    num_members: int = 1000,
    num_steps: int = 40,
    num_inits: int = 8,
    batch_size: int = 16,
    network: bool = True,
    threads: int = 2,
    repeats: int = 1,
) -> None:
    """Time scores while forecasting, and measure their memory and disk.

    Args:
        num_members: Members of each initial time.
        num_steps: Steps of each.
        num_inits: Initial times.
        batch_size: Forecasts that the network steps together.
        network: Whether to run the quickstart's network, or persistence.
        threads: Of torch.
        repeats: Interleaved repeats, after one that is not counted; 0 for memory and disk alone.
    """
    torch.set_num_threads(threads)
    keep_freed_memory()
    case = Case(
        num_members=num_members, num_steps=num_steps, num_inits=num_inits, batch_size=batch_size,
        network=network, threads=threads,
    )  # fmt: skip
    if repeats:
        stepper, data = build(case)
        calls = {
            "plain rollout": lambda: plain(case, stepper, data),
            "scored": lambda: scored(case, stepper, data),
        }
        clocks = {"processor": time.process_time, "wall": time.perf_counter}
        seconds = median_seconds_by_clock(calls, repeats, clocks)
        table = Table(title=f"{num_inits} x {num_members} forecasts of {num_steps} steps")
        for column in ("", "time of", "member-steps/s", "of the plain rollout's"):
            table.add_column(column, justify="right")
        count = num_inits * num_members * num_steps
        for (name, clock), value in seconds.items():
            share = seconds["plain rollout", clock] / value
            table.add_row(name, clock, f"{count / value:.0f}", f"{share:.1%}")
        console.print(table)
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    process = context.Process(target=_measure, args=(case, queue))
    process.start()
    memory, before, disk = queue.get()
    process.join()
    console.print(
        f"peak memory {memory / 2**30:.2f} GiB, {before / 2**30:.2f} GiB of it before the first "
        f"step; peak disk {disk / 1e6:.1f} MB"
    )
    console.print(describe())


def build(case: Case) -> tuple[Stepper, xr.Dataset]:
    """The quickstart's network with random weights, and random data that is start and truth."""
    config = parse_config(ExperimentConfig, read_yaml(_CONFIG.read_text(), str(_CONFIG)))
    grid = LatLonGrid.equiangular(32, 64)
    channels = Channels(tuple(Channel(name=n, units=UNITS[n]) for n in config.data.prognostic))
    spec = FieldSpec(
        channels=channels,
        static_channels=Channels((Channel(name=_STATIC, units=UNITS[_STATIC]),)),
        forcings=(),
        grid=grid,
        step=Timestep.parse("6h"),
    )
    generator = np.random.default_rng(0)
    count = case.num_inits * 4 + case.num_steps + 2
    fields = generator.standard_normal((count, len(channels), *grid.shape), np.float32)
    times = np.datetime64("2020-01-01", "ns") + np.arange(count) * np.timedelta64(6, "h")
    data = channels.unstack(fields, {"time": times, **grid.coords})
    torch.manual_seed(0)
    one = torch.ones(len(channels))
    forecaster = Forecaster(
        config.model, spec, mean=0 * one, std=one, diff_std=0.1 * one,
        static=torch.zeros(1, *grid.shape), mean_state=torch.zeros(len(channels), *grid.shape),
    ).eval()  # fmt: skip
    return (forecaster if case.network else Persistence(spec, forecaster.scales)), data


def plain(case: Case, stepper: Stepper, data: xr.Dataset) -> None:
    """Step all members of each initial time in batches, and drop the fields."""
    states = InitialStates(data, stepper.spec, stepper.num_history, torch.device("cpu"))
    with torch.inference_mode():
        for init in _init_times(case, data):
            for start in range(0, case.num_members, case.batch_size):
                size = min(case.batch_size, case.num_members - start)
                times = np.repeat(init, size)
                history, forcings = states.read(times), forcings_from(stepper, times)
                for _ in rollout(stepper, history, forcings, case.num_steps):
                    pass


def scored(case: Case, stepper: Stepper, data: xr.Dataset) -> int:
    """Make the forecasts and keep their scores alone; returns the largest size on the disk."""
    ensemble = EnsembleConfig(num_members=case.num_members, perturbation="gaussian")
    config = ForecastConfig(
        num_steps=case.num_steps,
        batch_size=case.batch_size,
        ensemble=ensemble,
        stability=StabilityConfig(limit=1e30),
    )
    means = [data.isel(time=[i]).mean("time", keep_attrs=True) for i in range(4)]
    climatology = xr.concat(means, "hour").assign_coords(hour=[0, 6, 12, 18])
    climatology = climatology.expand_dims(harmonic=[0], axis=1)
    with tempfile.TemporaryDirectory() as name:
        folder, sizes, stopped = Path(name), [0], threading.Event()
        scoring = LiveScoring(
            path=folder / "scores.nc",
            config=EvaluationConfig(num_threads=1),
            truth=data,
            climatology=climatology,
            training=data,
        )

        def watch() -> None:
            while not stopped.wait(0.05):
                sizes.append(_size(folder))

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            write_forecast(
                stepper, data, _init_times(case, data), config, None, {}, scoring=scoring,
                environment={},
            )  # fmt: skip
        finally:
            stopped.set()
            watcher.join()
        return max(*sizes, _size(folder))


def _init_times(case: Case, data: xr.Dataset) -> np.ndarray:
    return data["time"].values[1 : 1 + 4 * case.num_inits : 4]


def _size(folder: Path) -> int:
    """Bytes of all files that are there."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):  # it was temporary
                total += os.stat(os.path.join(parent, name)).st_size
    return total


def _measure(case: Case, queue: "SimpleQueue[tuple[int, int, int]]") -> None:
    torch.set_num_threads(case.threads)
    keep_freed_memory()
    stepper, data = build(case)
    before = _peak()
    started = time.perf_counter()
    disk = scored(case, stepper, data)
    console.print(f"scored in {time.perf_counter() - started:.0f} s")
    queue.put((_peak(), before, disk))


def _peak() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    auto_cli(main)

"""Parts of the time of a training step, and the cost of training with several processes.

    python -m benchmarks.benchmark_training steps
    python -m benchmarks.benchmark_training scaling
    python -m benchmarks.benchmark_training steps --case.device cuda --case.precision bfloat16 \
        --case.num_rows 720 --case.num_columns 1440 --case.patch 8 --case.embed_dim 768 \
        --case.depth 12 --case.batch_size 2

``steps`` trains an epoch from a prepared store with the complete trainer: reading ahead, clipping,
log and live view. It times the network's forward and backward pass, the optimizer and the waiting
for data; the rest is the trainer's own time. "Plain loop" repeats forward, backward and optimizer
on one batch in memory. The limit is the time of the step's matrix products at the rate of a large
product in the same process.

``scaling`` keeps the batch of each process (weak scaling): it compares processes that train
together with as many that train side by side without communication, each with one thread on a CPU.
The prediction adds the time of an exchange of all gradients to the step, without any overlap.
"""

import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from io import StringIO
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from socket import socket
from typing import Literal, NamedTuple
from unittest.mock import patch as replacing_attribute

import numpy as np
import torch
from jsonargparse import auto_cli
from rich.console import Console
from rich.table import Table

from benchmarks.stores import write_store
from benchmarks.timing import (
    count_operations,
    describe,
    large_product,
    median_seconds,
    rate_of,
    waiting_for,
)
from data_pipeline.channels import Channels
from data_pipeline.files.atomic import write_text
from data_pipeline.files.outputs import Output, check_outputs, read_json
from data_pipeline.grids.grid import LatLonGrid
from data_pipeline.loading.loader import Loader
from data_pipeline.loading.windows import Sample, WindowDataset
from data_pipeline.periods import Period
from data_pipeline.store.reader import PreparedStore
from data_pipeline.timestep import Timestep
from fourcastnet_afno.forecaster.config import ModelConfig
from fourcastnet_afno.forecaster.forecaster import FieldSpec, Forecaster
from fourcastnet_afno.models.config import AFNONetConfig
from fourcastnet_afno.parallel.environment import select_device
from fourcastnet_afno.parallel.launch import process_group
from fourcastnet_afno.parallel.process import Process
from fourcastnet_afno.training.build_loss import build_loss
from fourcastnet_afno.training.config import Precision, Stage, TrainingConfig
from fourcastnet_afno.training.monitoring.record import StepRecord
from fourcastnet_afno.training.objectives import Objective, RolloutLoss
from fourcastnet_afno.training.trainer import Trainer

_NUM_VALIDATION = 3  # states after those that are trained on
_DEVICES = Literal["cpu", "cuda"]


@dataclass(frozen=True, kw_only=True)
class Case:
    """Sizes of the data, the network and the run.

    Args:
        num_rows: Latitudes.
        num_columns: Longitudes.
        num_channels: Channels.
        patch: Rows and columns of a patch.
        embed_dim: Channels of a token.
        depth: Blocks.
        batch_size: Windows in a batch.
        num_batches: Steps of a run.
        device: Torch device.
        precision: As of a training.
        compile: Whether the network is compiled.
    """

    num_rows: int = 64
    num_columns: int = 128
    num_channels: int = 20
    patch: int = 4
    embed_dim: int = 256
    depth: int = 4
    batch_size: int = 8
    num_batches: int = 40
    device: _DEVICES = "cpu"
    precision: Precision = "float32"
    compile: bool = False


class Stopwatch:
    """Seconds of a training by name, and of all steps; the first step does not count.

    Args:
        device: Torch device of the training.
    """

    def __init__(self, device: str) -> None:
        self.seconds: dict[str, float] = {}
        self.total = 0.0
        self._synchronize = waiting_for(device)
        self._started, self._running = 0.0, dict[str, float]()

    def on_step(self, record: StepRecord) -> None:
        """Count the time since the first step; the validation after the last one has no part."""
        if record.step == 1:
            self._started, self._running = time.perf_counter(), dict.fromkeys(self._running, 0.0)
        self.total, self.seconds = time.perf_counter() - self._started, dict(self._running)

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Add the seconds of the block."""
        self._synchronize()
        started = time.perf_counter()
        yield
        self._synchronize()
        self._running[name] = self._running.get(name, 0.0) + time.perf_counter() - started

    def around(self, name: str, function: Callable) -> Callable:
        """A function whose calls are added."""

        def measured(*args: object, **options: object) -> object:
            with self.measure(name):
                return function(*args, **options)

        return measured


def fit(trainer: Trainer, watch: Stopwatch) -> None:
    """Train, and measure the parts of each step."""
    updater, samples_of = trainer.updater, Loader.epoch

    def epoch(loader: Loader, *arguments: int) -> Generator[Sample, None, None]:
        samples = samples_of(loader, *arguments)
        while True:
            with watch.measure("data") if loader.shuffle else nullcontext():
                sample = next(samples, None)
            if sample is None:
                return
            yield sample

    backward = watch.around("backward", torch.autograd.backward)
    forward = watch.around("forward", updater.module.forward)
    step = watch.around("optimizer", updater.optimizer.step)
    with (
        replacing_attribute.object(torch.autograd, "backward", backward),
        replacing_attribute.object(updater.module, "forward", forward),
        replacing_attribute.object(updater.optimizer, "step", step),
        replacing_attribute.object(Loader, "epoch", epoch),
    ):
        trainer.fit()


def steps(case: Case | None = None, repeats: int = 3, output: Path | None = None) -> None:
    """Measure the parts of a training step.

    Args:
        case: Sizes.
        repeats: Runs; the medians of their shares count.
        output: JSON file for the results.
    """
    case = case or Case()
    if output is not None:
        check_outputs([Output(output, "the parts of a training step", _is_record)], {})
    with tempfile.TemporaryDirectory() as folder:
        store = write_data(case, Path(folder), 1)
        watches = [run_alone(case, store, Path(folder) / f"run{i}") for i in range(repeats)]
        plain, product, operations = plain_loop(case, store)
    record = shares(watches)
    seconds = statistics.median(watch.total for watch in watches) / (case.num_batches - 1)
    record |= {
        "samples/s": case.batch_size / seconds,
        "samples/s of the plain loop": case.batch_size / plain,
        "of the limit": operations / rate_of(product, case.device) / seconds,
        "of the limit, plain loop": operations / rate_of(product, case.device) / plain,
    }
    _show(record, case, output)


def shares(watches: list[Stopwatch]) -> dict[str, float]:
    """Median share of each part of the steps; the rest is the trainer's own."""
    parts = {
        name: statistics.median(watch.seconds[name] / watch.total for watch in watches)
        for name in watches[0].seconds
    }
    left = [1 - sum(watch.seconds.values()) / watch.total for watch in watches]
    return {**parts, "trainer": statistics.median(left)}


def _show(record: Mapping[str, float], case: Case, output: Path | None) -> None:
    console = Console(soft_wrap=True)
    console.print(describe(case.device))
    console.print(case)
    table = Table("", "value")
    for name, value in record.items():
        table.add_row(name, f"{value:.1f}" if "/s" in name else f"{value:.2%}")
    console.print(table)
    if output is not None:
        write_text(output, json.dumps({**asdict(case), **record}, indent=1))


def _is_record(path: Path) -> bool:
    return read_json(path).keys() >= {"samples/s", "of the limit"}


def write_data(case: Case, folder: Path, num_ranks: int) -> PreparedStore:
    """A store of random states, with as many windows as make the batches of all ranks."""
    grid = LatLonGrid.equiangular(case.num_rows, case.num_columns)
    count = case.batch_size * case.num_batches * num_ranks + 1 + _NUM_VALIDATION
    shape = (count, case.num_channels, *grid.shape)
    states = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    return write_store(folder / "data.zarr", states, grid)


def windows_of(store: PreparedStore, num_steps: int = 1) -> tuple[WindowDataset, WindowDataset]:
    """Training windows, and a few for the validation."""
    days = store.times.astype("datetime64[s]")
    last = days[-1 - _NUM_VALIDATION]
    train = Period(start=str(days[0]), end=str(last))
    validation = Period(start=str(days[-_NUM_VALIDATION]), end=str(days[-1]))
    first, second = (WindowDataset(store, period, 1, num_steps) for period in (train, validation))
    return first, second


def build_trainer(
    case: Case, store: PreparedStore, folder: Path, process: Process, *watches: Stopwatch
) -> Trainer:
    """A trainer of one epoch of ``num_batches`` steps."""
    config = TrainingConfig(
        stages=[Stage(epochs=1, learning_rate=1e-4)],
        batch_size=case.batch_size * process.world_size,
        precision=case.precision,
        compile="default" if case.compile else "off",
        device=case.device,
    )
    forecaster = build_forecaster(case, store).to(process.device)
    loss = build_loss(config.loss, forecaster)
    return Trainer(
        RolloutLoss(forecaster, loss, config.rollout, config.precision),
        partial(windows_of, store),
        config,
        folder=folder / "checkpoints",
        metadata={},
        process=process,
        callbacks=watches,
        console=Console(file=StringIO(), force_terminal=True),
    )


def build_forecaster(case: Case, store: PreparedStore) -> Forecaster:
    """A forecaster with fresh weights."""
    torch.manual_seed(0)
    spec = FieldSpec(
        channels=store.channels,
        static_channels=Channels(()),
        forcings=(),
        grid=store.grid,
        step=Timestep.parse("6h"),
    )
    size = (case.patch, case.patch)
    network = AFNONetConfig(patch_size=size, embed_dim=case.embed_dim, depth=case.depth)
    one = torch.ones(case.num_channels)
    nothing = torch.zeros(0, *store.grid.shape)
    config = ModelConfig(network=network)
    return Forecaster(config, spec, mean=0 * one, std=one, diff_std=one, static=nothing)


def run_alone(case: Case, store: PreparedStore, folder: Path) -> Stopwatch:
    """Train in this process."""
    process, watch = Process(device=select_device(case.device)), Stopwatch(case.device)
    fit(build_trainer(case, store, folder, process, watch), watch)
    return watch


def plain_loop(case: Case, store: PreparedStore) -> tuple[float, float, float]:
    """Seconds of a plain step and of a large product, and the operations of the step."""
    process = Process(device=select_device(case.device))
    with tempfile.TemporaryDirectory() as folder:
        trainer = build_trainer(case, store, Path(folder), process)
    windows, _ = windows_of(store)
    sample = Sample(*(x.to(process.device) for x in windows.read(np.arange(case.batch_size))))
    loss, optimizer = trainer.objective, trainer.updater.optimizer

    def step() -> None:
        loss(sample.state, sample.forcing, sample.target).mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    dtype = torch.bfloat16 if case.precision == "bfloat16" else torch.float32
    calls = {"step": step, "product": large_product(case.device, dtype)}
    times = median_seconds(calls, 7, case.device)
    return times["step"], times["product"], count_operations(step)


def scaling(case: Case | None = None, ranks: tuple[int, ...] = (2,), repeats: int = 3) -> None:
    """Weak scaling: samples per second of ranks together and of as many processes side by side.

    Args:
        case: Sizes; the batch is that of each process.
        ranks: Numbers of processes.
        repeats: Interleaved repeats; the median counts.
    """
    case = case or Case(batch_size=4, num_batches=30)
    console = Console(soft_wrap=True)
    console.print(describe(case.device))
    console.print(case)
    table = Table("processes", "together", "side by side", "efficiency", "exchange", "as predicted")
    for count in ranks:
        runs = [(run(case, count, True), run(case, count, False)) for _ in range(repeats)]
        together, apart = (
            statistics.median(each.samples_per_second for each in way)
            for way in zip(*runs, strict=True)
        )
        exchange = statistics.median(first.exchange for first, _ in runs)
        step = count * case.batch_size / apart
        table.add_row(
            str(count),
            f"{together:.1f} samples/s",
            f"{apart:.1f} samples/s",
            f"{together / apart:.1%}",
            f"{1e3 * exchange:.1f} of {1e3 * step:.0f} ms",
            f"{step / (step + exchange):.1%}",
        )
    console.print(table)


class Rates(NamedTuple):
    """Rates of a run.

    Args:
        samples_per_second: Sum over all processes.
        exchange: Seconds of a sum over all processes of as many values as there are weights.
    """

    samples_per_second: float
    exchange: float


def run(case: Case, count: int, together: bool) -> Rates:
    """Train ``count`` processes."""
    context = multiprocessing.get_context("spawn")
    barrier, queue = context.Barrier(count), context.SimpleQueue()
    with socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        write_data(case, Path(folder), count if together else 1)
        ranks = [{"RANK": str(i), "LOCAL_RANK": str(i)} for i in range(count)]
        common = {"WORLD_SIZE": str(count), "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
        processes = [
            context.Process(
                target=_train,
                args=(case, Path(folder), {**common, **rank}, together, barrier, queue),
            )
            for rank in ranks
        ]
        for process in processes:
            process.start()
        rates, exchanges = zip(*(queue.get() for _ in processes), strict=True)
        for process in processes:
            process.join()
    return Rates(sum(rates), max(exchanges))


def _train(
    case: Case,
    folder: Path,
    environment: Mapping[str, str],
    together: bool,
    barrier: Barrier,
    queue: "SimpleQueue[tuple[float, float]]",
) -> None:
    """Train in a process of its own, from when all are ready, and give its samples per second."""
    if case.device == "cpu":
        torch.set_num_threads(1)
    run = folder / ("run" if together else f"run{environment['RANK']}")
    store, watch = PreparedStore(folder / "data.zarr"), Stopwatch(case.device)
    if together:
        os.environ |= environment
        with process_group(case.device) as process:
            trainer = build_trainer(case, store, run, process, watch)
            barrier.wait()
            fit(trainer, watch)
            exchange = seconds_of_exchange(trainer.objective, process)
    else:
        index = f":{environment['LOCAL_RANK']}" if case.device == "cuda" else ""
        process = Process(device=torch.device(f"{case.device}{index}"))
        trainer = build_trainer(case, store, run, process, watch)
        barrier.wait()
        fit(trainer, watch)
        exchange = 0.0
    rate = case.batch_size * (case.num_batches - 1) / watch.total
    queue.put((rate, exchange))


def seconds_of_exchange(objective: Objective, process: Process) -> float:
    """Median seconds of a sum over all processes of as many values as there are weights."""
    gradient = torch.zeros(sum(p.numel() for p in objective.parameters()), device=process.device)
    times = median_seconds({"sum": lambda: process.reduce_sum(gradient)}, 7, process.device.type)
    return times["sum"]


if __name__ == "__main__":
    auto_cli([steps, scaling])

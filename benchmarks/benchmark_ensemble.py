"""Speed of an ensemble's forecasts under settings of ``forecast``, interleaved in one process.

    python -m benchmarks.benchmark_ensemble runs/quickstart

"as written" has the settings of configs/quickstart.yaml, with which 20 members run in batches of 16
and 4. All write their members to stores. Seconds are medians of interleaved repeats; processor
seconds leave out other programs of a busy machine and count the writer's thread as well.
"""

import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jsonargparse import auto_cli
from rich.console import Console
from rich.table import Table

from benchmarks.timing import describe, median_seconds
from data_pipeline.store.reader import PreparedStore
from fourcastnet_afno.cli.freed_memory import keep_freed_memory
from fourcastnet_afno.forecaster.checkpoint import load_forecaster
from fourcastnet_afno.inference.config import EnsembleConfig, ForecastConfig
from fourcastnet_afno.inference.initial_states import parse_init_times
from fourcastnet_afno.inference.tuning.batch_size import settle_batch_size
from fourcastnet_afno.inference.write import write_forecast

console = Console()


def ensembles(
    run: Path,
    store: Path | None = None,
    init_times: str = "2008-01-02,2008-03-01",
    num_members: int = 20,
    num_steps: int = 40,
    repeats: int = 3,
    num_threads: int = 2,
    processor_time: bool = False,
    compile: bool = False,
) -> None:
    """Member-steps per second of a run's forecaster.

    Args:
        run: Folder of the run.
        store: Prepared data; that of the run if null.
        init_times: As ``forecast.init_times``.
        num_members: Members, by noise of the model or Gaussian perturbations.
        num_steps: Steps of each.
        repeats: Interleaved repeats; the median counts.
        num_threads: Of torch.
        processor_time: Whether seconds are those of the processor.
        compile: Whether to try compiled networks, which takes minutes.
    """
    torch.set_num_threads(num_threads)
    keep_freed_memory()
    dataset = PreparedStore(store or run / "data.zarr").prognostic.dataset()
    times = parse_init_times(init_times)
    forecasters = [load_forecaster(run / "checkpoints" / "best.safetensors") for _ in range(2)]
    perturbation = "gaussian" if forecasters[0].noise is None else "none"
    ensemble = EnsembleConfig(num_members=num_members, perturbation=perturbation)
    variants: dict[str, dict[str, Any]] = {
        "as written": {},
        "batch_size: auto": {"batch_size": "auto"},
        "batch_size: auto, precision: bfloat16": {"batch_size": "auto", "precision": "bfloat16"},
    }
    if compile:
        variants["compile: default"] = {"compile": "default"}
    calls, sizes = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, settings) in enumerate(variants.items()):
            config = ForecastConfig(num_steps=num_steps, ensemble=ensemble, **settings)
            forecaster = forecasters["compile" in settings]
            config, _ = settle_batch_size(config, forecaster, times, {})
            path, sizes[name] = Path(folder) / f"{number}.zarr", config.batch_size
            arguments = forecaster, dataset, times, config, path, {}
            calls[name] = partial(write_forecast, *arguments, environment={})
        clock = time.process_time if processor_time else time.perf_counter
        seconds = median_seconds(calls, repeats, clock=clock)
    table = Table(title=f"{len(times)} initial times, {num_members} members, {num_steps} steps")
    for column in ("", "batch", "member-steps/s", "ratio"):
        table.add_column(column, justify="left" if not column else "right")
    steps, first = len(times) * num_members * num_steps, seconds["as written"]
    for name, value in seconds.items():
        table.add_row(name, str(sizes[name]), f"{steps / value:.0f}", f"{first / value:.2f}")
    console.print(table)
    console.print(f"seconds of the {'processor' if processor_time else 'clock'}; {describe()}")


if __name__ == "__main__":
    auto_cli(ensembles)

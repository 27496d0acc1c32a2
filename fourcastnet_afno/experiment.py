"""One experiment in one folder: prepare, train, forecast, evaluate, or all of it.

RUN/config.yaml          the resolved configuration
RUN/data.zarr            the prepared data, unless ``data.store`` names a shared place
RUN/checkpoints/         best.safetensors (weights to use), last.safetensors (to go on from)
RUN/history.json         losses by epoch
RUN/forecast.zarr        forecasts: init_time, lead_time, [level], latitude, longitude
RUN/scores.json, .nc     scores of the model and the baselines
RUN/report.html          all of it for a person; its pictures are also in RUN/figures
"""

import json
import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
import yaml
from rich.console import Console

from data_pipeline.atomic import replacing
from data_pipeline.dataset import WindowDataset
from data_pipeline.errors import InputError
from data_pipeline.grid import LatLonGrid
from data_pipeline.prepare import DataConfig
from data_pipeline.prepare import prepare as prepare_store
from data_pipeline.sources import SourceConfig, open_source
from data_pipeline.store import PreparedStore
from fourcastnet_afno.autoregression import (
    ForecastConfig,
    check_source,
    open_forecast,
    select_init_times,
    write_forecast,
)
from fourcastnet_afno.checkpoint import load_forecaster, read_checkpoint, versions
from fourcastnet_afno.evaluation import baselines
from fourcastnet_afno.evaluation.evaluate import evaluate as evaluate_forecasts
from fourcastnet_afno.evaluation.tables import scores_table, write_scores
from fourcastnet_afno.forecaster import FieldSpec, Forecaster, ModelConfig
from fourcastnet_afno.report import write_report
from fourcastnet_afno.training import Trainer, TrainingConfig, select_device

console = Console()


@dataclass(frozen=True, kw_only=True)
class ExperimentConfig:
    """Everything that an experiment depends on.

    Args:
        data: Where the data comes from, its channels, timestep and splits.
        model: What the forecaster sees and predicts, and its network.
        training: How it is trained.
        forecast: Which forecasts of the test period are made.
    """

    data: DataConfig
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    forecast: ForecastConfig = field(default_factory=ForecastConfig)

    def to_yaml(self) -> str:
        """The configuration as text that every verb accepts as ``--config``."""
        return yaml.safe_dump(asdict(self), sort_keys=False)


def prepare(config: ExperimentConfig, output: Path, verify: bool = False) -> PreparedStore:
    """Read or simulate the data, check it, and write the training store with its statistics.

    Args:
        config: Its ``data`` part says what and where.
        output: Run folder.
        verify: Whether to compare every file of the store with its checksum.
    """
    path = Path(config.data.store) if config.data.store else output / "data.zarr"
    store = prepare_store(config.data, path)
    if verify:
        store.verify()
        console.print(f"{path} is as it was written (fingerprint {store.fingerprint})")
    with replacing(output / "config.yaml") as temporary:
        temporary.write_text(config.to_yaml())
    return store


def train(config: ExperimentConfig, output: Path) -> Forecaster:
    """Train a forecaster, or go on with an interrupted run in ``output``."""
    folder = output / "checkpoints"
    _check_resumable(config, folder / "last.safetensors")
    store = prepare(config, output)
    folder.mkdir(exist_ok=True)
    with torch.random.fork_rng():
        torch.manual_seed(config.training.seed)
        forecaster = build_forecaster(config, store)
    parameters = sum(p.numel() for p in forecaster.parameters())
    console.print(f"Training {parameters:,} parameters on {select_device(config.training.device)}")
    history = config.model.num_history

    def windows(num_steps: int) -> tuple[WindowDataset, WindowDataset]:
        training, validation = (
            WindowDataset(store, period, history, num_steps, config.data.forcings)
            for period in (config.data.train, config.data.validation)
        )
        return training, validation

    metadata = {"config": config.to_yaml(), "fingerprint": store.fingerprint}
    Trainer(forecaster, windows, config.training, folder=folder, metadata=metadata).fit()
    return load_forecaster(folder / "best.safetensors")


def build_forecaster(config: ExperimentConfig, store: PreparedStore) -> Forecaster:
    """A forecaster with fresh weights for prepared data."""
    spec = FieldSpec(
        channels=store.channels,
        static_channels=store.static_channels,
        forcings=tuple(config.data.forcings),
        grid=store.grid,
        timestep_hours=config.data.timestep_hours,
    )
    mean, std, diff_std = (
        torch.from_numpy(np.asarray(values, np.float32)) for values in store.statistics
    )
    static = torch.from_numpy(store.normalized_static())
    return Forecaster(config.model, spec, mean=mean, std=std, diff_std=diff_std, static=static)


def forecast(
    config: ExperimentConfig,
    output: Path,
    checkpoint: Path | None = None,
    source: SourceConfig | None = None,
) -> xr.Dataset:
    """Roll out from the initial times of the test period, or of another source.

    Args:
        config: Its ``forecast`` part says how many steps from which times.
        output: Run folder.
        checkpoint: Forecaster to use instead of the run's best.
        source: Data to start from instead of the run's test period.
    """
    path = checkpoint or output / "checkpoints" / "best.safetensors"
    device = select_device(config.training.device)
    forecaster = load_forecaster(path, str(device))
    dataset, times = _initial_data(config, output, forecaster, source)
    if config.forecast.regrid:
        forecaster = forecaster.on_grid(LatLonGrid.from_dataset(dataset))
    check_source(dataset, forecaster.spec, f"checkpoint {path}")
    init_times = select_init_times(times, forecaster, config.forecast, with_truth=source is None)
    attrs = {"checkpoint": str(path), "versions": json.dumps(versions())}
    return write_forecast(
        forecaster, dataset, init_times, config.forecast, output / "forecast.zarr", attrs
    )


def _initial_data(
    config: ExperimentConfig, output: Path, forecaster: Forecaster, source: SourceConfig | None
) -> tuple[xr.Dataset, np.ndarray]:
    if source is not None:
        dataset = open_source(source)
        return dataset, dataset["time"].values
    dataset = prepare(config, output).dataset()
    return dataset, dataset["time"].values[config.data.test.contains(dataset["time"].values)]


def evaluate(
    config: ExperimentConfig, output: Path, seconds: Mapping[str, float] | None = None
) -> xr.Dataset:
    """Score the run's forecasts beside persistence and climatology, and write the report."""
    store = prepare(config, output)
    predictions = open_forecast(output / "forecast.zarr")
    truth, coefficients = store.dataset(), store.climatology()
    inits, leads = predictions["init_time"].values, predictions["lead_time"].values
    forecasts = {
        "model": predictions,
        "persistence": baselines.persistence(truth, inits, leads),
        "climatology": baselines.climatology(coefficients, inits, leads),
    }
    scores = evaluate_forecasts(forecasts, truth, coefficients)
    scores.attrs["climatology"] = _describe_climatology(config.data)
    write_scores(scores, output / "scores.json", output / "scores.nc")
    console.print(scores_table(scores))
    report = _report(config, output, store, scores, predictions, seconds or {})
    console.print(f"Report: {report.resolve()}")
    return scores


def _report(
    config: ExperimentConfig,
    output: Path,
    store: PreparedStore,
    scores: xr.Dataset,
    predictions: xr.Dataset,
    seconds: Mapping[str, float],
) -> Path:
    history = output / "history.json"
    facts = {f"seconds of {verb}": f"{value:.0f}" for verb, value in seconds.items()}
    facts |= {
        "peak memory": f"{peak_memory_gib():.2f} GiB",
        "data fingerprint": store.fingerprint,
        "checkpoint": predictions.attrs.get("checkpoint", ""),
        "versions": ", ".join(f"{name} {value}" for name, value in versions().items()),
    }
    return write_report(
        output / "report.html",
        scores=scores,
        history=json.loads(history.read_text()) if history.exists() else [],
        truth=store.dataset(),
        predictions=predictions,
        config_text=config.to_yaml(),
        facts=facts,
    )


def _describe_climatology(data: DataConfig) -> str:
    return (
        f"mean and {data.climatology_harmonics} harmonics of the day of year for each hour of day, "
        f"fitted to the training period {data.train.start} to {data.train.end}"
    )


def quickstart(config: ExperimentConfig, output: Path) -> xr.Dataset:
    """Prepare, train, forecast, evaluate and report, in one go."""
    seconds: dict[str, float] = {}
    for verb in (prepare, train, forecast):
        started = time.monotonic()
        verb(config, output)
        seconds[verb.__name__] = time.monotonic() - started
    return evaluate(config, output, seconds)


def _check_resumable(config: ExperimentConfig, last: Path) -> None:
    """Refuse to go on with a run whose data, model or training was configured otherwise."""
    if not last.exists():
        return
    _, metadata = read_checkpoint(last, "none")
    before, now = yaml.safe_load(metadata["config"]), yaml.safe_load(config.to_yaml())
    keys = [
        key
        for part in ("data", "model", "training")
        for key in differing_keys(before[part], now[part], part)
    ]
    if keys:
        raise InputError(
            f"{last.parent.parent.resolve()} holds a run with another configuration, differing in "
            f"{', '.join(keys)}; give another --output, or delete that folder to start over"
        )


def differing_keys(before: Any, now: Any, prefix: str) -> list[str]:  # noqa: ANN401
    """Dotted names of the values that differ between two nested mappings."""
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return [] if before == now else [prefix]
    return [
        key
        for name in sorted(before.keys() | now.keys())
        for key in differing_keys(before.get(name), now.get(name), f"{prefix}.{name}")
    ]


def peak_memory_gib() -> float:
    """Largest resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2 ** (30 if sys.platform == "darwin" else 20)

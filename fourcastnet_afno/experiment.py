"""One experiment in one folder: prepare, train, forecast, evaluate, or all of it.

RUN/config.yaml          the resolved configuration
RUN/data.zarr            the prepared data, unless ``data.store`` names a shared place
RUN/checkpoints/         best.safetensors (weights to use), last.safetensors (to go on from)
RUN/history.json         losses by epoch
RUN/logs                 losses, rates and validation scores by step: CSV and TensorBoard
RUN/forecast.zarr        forecasts: init_time, lead_time, [level], latitude, longitude
RUN/scores.json,nc,csv   scores of the model and the baselines
RUN/report.html          all of it for a person; its pictures are also in RUN/figures
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
import yaml
from rich.console import Console
from torch import Tensor, nn

from data_pipeline.atomic import replacing
from data_pipeline.climatology import climatology_at
from data_pipeline.dataset import WindowDataset
from data_pipeline.errors import InputError
from data_pipeline.execution import ExecutionConfig
from data_pipeline.prepare import DataConfig, open_store, plan_preparation
from data_pipeline.prepare import prepare as prepare_store
from data_pipeline.sources import SourceConfig
from data_pipeline.store import PreparedStore
from fourcastnet_afno import plots
from fourcastnet_afno.autoregression import (
    ForecastConfig,
    open_forecast,
    select_init_times,
)
from fourcastnet_afno.autoregression.work import Existing
from fourcastnet_afno.bands import Band
from fourcastnet_afno.checkpoint import load_forecaster, parse_config, read_checkpoint, versions
from fourcastnet_afno.diagnostic import DiagnosticConfig
from fourcastnet_afno.distributed import Process, launched
from fourcastnet_afno.evaluation.climatologies import from_coefficients
from fourcastnet_afno.evaluation.config import EvaluationConfig
from fourcastnet_afno.evaluation.evaluate import evaluate as evaluate_forecasts
from fourcastnet_afno.evaluation.tables import scores_table, write_scores
from fourcastnet_afno.evaluation_run import truth_of
from fourcastnet_afno.forecast_run import forecast_from
from fourcastnet_afno.forecaster import FieldSpec, Forecaster, ModelConfig
from fourcastnet_afno.live_view import peak_memory_gib
from fourcastnet_afno.placement import select_device
from fourcastnet_afno.report import write_report
from fourcastnet_afno.runs import find_runs, runs_table
from fourcastnet_afno.spatial import share_fields
from fourcastnet_afno.training import OPERATIONAL_SETTINGS, Trainer, TrainingConfig
from fourcastnet_afno.training_log import LogFunction, connect
from fourcastnet_afno.validation import RolloutValidation
from fourcastnet_afno.warm_start import start_from

console = Console()


@dataclass(frozen=True, kw_only=True)
class ExperimentConfig:
    """Everything that an experiment depends on.

    Args:
        data: Where the data comes from, its channels, timestep and splits.
        model: What the forecaster sees and predicts, and its network.
        training: How it is trained; for ``train-diagnostic``, how the head is.
        diagnostic: A head that predicts the diagnostic channels from the forecaster's state.
        forecast: Which forecasts of the test period are made.
        evaluation: How they are scored.
    """

    data: DataConfig
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    diagnostic: DiagnosticConfig = field(default_factory=DiagnosticConfig)
    forecast: ForecastConfig = field(default_factory=ForecastConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    def to_yaml(self) -> str:
        """The configuration as text that every verb accepts as ``--config``."""
        return yaml.safe_dump(asdict(self), sort_keys=False)


def prepare(
    config: ExperimentConfig,
    output: Path,
    verify: bool = False,
    plan: bool = False,
    execution: ExecutionConfig | None = None,
) -> PreparedStore | None:
    """Read or simulate the data, check it, and write the training store with its statistics.

    Args:
        config: Its ``data`` part says what and where.
        output: Run folder.
        verify: Whether to compare every file of the store with its checksum.
        plan: Whether to say what would be done, and stop.
        execution: Where the work is done.
    """
    location = store_location(config, output)
    if plan and "://" not in location:
        console.print(plan_preparation(config.data, Path(location)).describe())
        return None
    store = _open_or_prepare(config, output, execution)
    if verify:
        store.verify()
        console.print(f"{location} is as it was written (fingerprint {store.fingerprint})")
    return store


def _open_or_prepare(
    config: ExperimentConfig, output: Path, execution: ExecutionConfig | None = None
) -> PreparedStore:
    location = store_location(config, output)
    if "://" in location:
        store = open_store(location, config.data)
    else:
        store = prepare_store(config.data, Path(location), execution, console.print)
    with replacing(output / "config.yaml") as temporary:
        temporary.write_text(config.to_yaml())
    return store


def store_location(config: ExperimentConfig, output: Path) -> str:
    """Folder or URL of the training store."""
    return config.data.store or str(output / "data.zarr")


def train(
    config: ExperimentConfig, output: Path, functions: Sequence[LogFunction] = ()
) -> Forecaster:
    """Train a forecaster, or go on with an interrupted run in ``output``.

    On several processes, started by ``torchrun`` or ``srun``, all must call.

    Args:
        config: Its ``training`` part says how.
        output: Run folder.
        functions: Called with the step and the values of each row of the log.
    """
    settings, folder = config.training, output / "checkpoints"
    with launched(
        settings.device,
        timeout_minutes=settings.timeout_minutes,
        spatial_ranks=settings.spatial_ranks,
    ) as process:
        prepared = process.main_first("prepared", partial(prepared_once, config, output, process))
        store = prepared.prognostic
        with torch.random.fork_rng([]):
            torch.manual_seed(settings.seed)
            forecaster = build_forecaster(config, store)
        if settings.start_from is not None:
            match = start_from(forecaster, Path(settings.start_from))
            if process.is_main:
                console.print(f"From {settings.start_from}: {match}")
        share_fields(forecaster, process)
        band, weights = forecaster.band, field_weights(store)
        describe_training(forecaster, process)
        functions = [*functions, *loggers(config, output, process)]
        Trainer(
            forecaster,
            partial(_windows, config, store if band is None else store.band(band.rows)),
            settings,
            folder=folder,
            metadata={"config": config.to_yaml(), "fingerprint": store.fingerprint},
            process=process,
            validation=_rollout_validation(config, store, process, band, weights),
            functions=functions,
            console=console,
            field_weights=weights,
        ).fit()
        return process.main_first("trained", lambda: load_forecaster(folder / "best.safetensors"))


def loggers(config: ExperimentConfig, output: Path, process: Process) -> list[LogFunction]:
    """Further places for the log that the configuration asks for, in the main process."""
    names = config.training.loggers if process.is_main else []
    return [connect(name, output, asdict(config)) for name in names]


def prepared_once(
    config: ExperimentConfig, output: Path, process: Process, backbone: str | None = None
) -> PreparedStore:
    """The data, which the main process alone prepares.

    Args:
        config: Says what is trained.
        output: Run folder.
        process: One of those that train.
        backbone: Fingerprint of the forecaster behind a diagnostic head, if one is trained.

    Raises:
        InputError: If the folder holds another run.
    """
    if not process.is_main:
        return open_store(config.data.store or str(output / "data.zarr"), config.data)
    folder = output / "checkpoints"
    _check_resumable(config, folder / "last.safetensors", backbone)
    store = _open_or_prepare(config, output)
    folder.mkdir(exist_ok=True)
    return store


def _windows(
    config: ExperimentConfig, store: PreparedStore, num_steps: int
) -> tuple[WindowDataset, WindowDataset]:
    history, forcings = config.model.num_history, config.data.forcings
    return split_windows(config.data, store, num_steps, num_history=history, forcings=forcings)


def split_windows(
    data: DataConfig,
    store: PreparedStore,
    num_steps: int,
    **options: Any,  # noqa: ANN401
) -> tuple[WindowDataset, WindowDataset]:
    """Windows of the training period, those of its subset, and all of the validation period.

    Args:
        data: Says the periods.
        store: Prepared data.
        num_steps: States that follow.
        options: Further arguments of ``WindowDataset``.
    """
    training, validation = (
        WindowDataset(store, period, num_steps=num_steps, subset=subset, **options)
        for period, subset in ((data.train, data.subset), (data.validation, None))
    )
    return training, validation


def describe_training(module: nn.Module, process: Process) -> None:
    """Say how much is trained where."""
    if process.is_main:
        parameters = sum(p.numel() for p in module.parameters())
        places = f"{process.world_size} processes, each on " if process.world_size > 1 else ""
        if process.spatial is not None:
            places = f"{process.data_size} x {process.spatial.size} processes, each on "
        console.print(f"Training {parameters:,} parameters on {places}{process.device}")


def _rollout_validation(
    config: ExperimentConfig,
    store: PreparedStore,
    process: Process,
    band: Band | None = None,
    weights: Tensor | None = None,
) -> RolloutValidation | None:
    settings = config.training.validation
    if settings.num_steps == 0:
        return None
    read = store if band is None else store.band(band.rows)
    coefficients = read.climatology()

    def climatology(times: np.ndarray) -> np.ndarray:
        return store.channels.stack(climatology_at(coefficients, times)).values

    return RolloutValidation(
        _windows(config, read, settings.num_steps)[1],
        climatology,
        settings,
        area_weights=torch.from_numpy(store.grid.area_weights()),
        process=process,
        band=band,
        precision=config.training.precision,
        field_weights=weights,
    )


def field_weights(store: PreparedStore) -> Tensor | None:
    """Weights of the points by channel, which leave out filled values; None if there are none."""
    weights = store.point_weights()
    return None if weights is None else torch.from_numpy(weights)


def build_forecaster(config: ExperimentConfig, store: PreparedStore) -> Forecaster:
    """A forecaster with fresh weights for the prognostic channels of prepared data."""
    store = store.prognostic
    spec = FieldSpec(
        channels=store.channels,
        static_channels=store.static_channels,
        forcings=tuple(config.data.forcings),
        grid=store.grid,
        timestep_hours=config.data.timestep_hours,
    )
    statistics = store.statistics
    mean, std, diff_std = (
        torch.from_numpy(np.asarray(values, np.float32))
        for values in (statistics.mean, statistics.std, statistics.diff_std)
    )
    static = torch.from_numpy(store.normalized_static())
    return Forecaster(config.model, spec, mean=mean, std=std, diff_std=diff_std, static=static)


def forecast(
    config: ExperimentConfig,
    output: Path,
    checkpoint: Path | None = None,
    source: SourceConfig | None = None,
    existing: Existing | None = None,
) -> xr.Dataset | None:
    """Roll out from the initial times of the test period, or of another source.

    Args:
        config: Its ``forecast`` part says how many steps from which times.
        output: Run folder, or a file that ends in .zarr or .nc.
        checkpoint: Forecaster to use instead of the run's best.
        source: Data to start from instead of the run's test period.
        existing: What to do with a forecast that is there; by default one in a run folder is
            replaced and a file is refused.
    """
    device = str(select_device(config.training.device))
    if output.suffix in (".zarr", ".nc"):
        return forecast_from(
            config.forecast, checkpoint, source, output, device, existing or "refuse"
        )
    path, existing = output / "forecast.zarr", existing or "overwrite"
    checkpoint = checkpoint or output / "checkpoints" / "best.safetensors"
    if source is not None:
        return forecast_from(config.forecast, checkpoint, source, path, device, existing)
    dataset, init_times = _open_or_prepare(config, output).prognostic.dataset(), None
    if config.forecast.init_times is None:
        times, forecaster = dataset["time"].values, load_forecaster(checkpoint, device)
        init_times = select_init_times(
            times[config.data.test.contains(times)],
            forecaster.spec,
            forecaster.num_history,
            interval_hours=config.forecast.init_interval_hours,
            num_following=config.forecast.num_steps,
        )
    return forecast_from(
        config.forecast, checkpoint, dataset, path, device, existing, init_times=init_times
    )


def evaluate(
    config: ExperimentConfig,
    output: Path,
    seconds: Mapping[str, float] | None = None,
    execution: ExecutionConfig | None = None,
) -> xr.Dataset:
    """Score the run's forecasts beside the baselines, and write the report."""
    store = _open_or_prepare(config, output)
    predictions = open_forecast(output / "forecast.zarr")
    if not any(channel.name in predictions for channel in store.diagnostic.channels):
        store = store.prognostic  # nothing else is read
    truth, train = truth_of(store), config.data.train
    times = truth["time"].values
    training = truth.sel(time=times[train.contains(times)])
    climatology = from_coefficients(
        store.climatology(),
        _describe_climatology(config.data),
        (training["time"].values[0], training["time"].values[-1]),
    )
    scores = evaluate_forecasts(
        {"model": str(output / "forecast.zarr")},
        truth,
        climatology,
        config.evaluation,
        training=training,
        state=output / ".evaluation.npz",
        execution=execution,
    )
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
        truth=truth_of(store),
        forecasts={"model": predictions},
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


def compare_runs(folder: Path) -> None:
    """Print the runs in ``folder`` as a table, and draw their losses to ``runs.png`` there."""
    runs = find_runs(folder)
    console.print(runs_table(runs))
    losses = {run.name: run.losses for run in runs if run.losses}
    if losses:
        path = folder / "runs.png"
        with replacing(path) as temporary:
            temporary.write_bytes(plots.png(plots.run_losses(losses)))
        console.print(f"Validation losses: {path.resolve()}")


def _check_resumable(config: ExperimentConfig, last: Path, backbone: str | None) -> None:
    """Refuse to go on with a run whose data, model or training was configured otherwise."""
    if not last.exists():
        return
    _, metadata = read_checkpoint(last, "none")
    _check_backbone(last, metadata.get("diagnostic"), backbone)
    before, now = (  # as it is read now, with the defaults of what did not exist then
        yaml.safe_load(experiment.to_yaml())
        for experiment in (
            parse_config(ExperimentConfig, yaml.safe_load(metadata["config"])),
            config,
        )
    )
    keys = [
        key
        for part in ("data", "diagnostic" if backbone else "model", "training")
        for key in differing_keys(before[part], now[part], part)
        if key.removeprefix("training.").split(".")[0] not in OPERATIONAL_SETTINGS
    ]
    if keys:
        raise InputError(
            f"{last.parent.parent.resolve()} holds a run with another configuration, differing in "
            f"{', '.join(keys)}; give another --output, or delete that folder to start over"
        )


def _check_backbone(last: Path, found: Mapping[str, Any] | None, backbone: str | None) -> None:
    kept = found and found["backbone"]
    if kept == backbone:
        return
    run, head = last.parent.parent.resolve(), "a diagnostic head"
    what = "a forecaster" if kept is None else f"{head} behind the forecaster {kept}"
    wanted = "a forecaster" if backbone is None else f"{head} behind {backbone}"
    raise InputError(
        f"{run} holds the training of {what}, asked for is that of {wanted}; give another --output"
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

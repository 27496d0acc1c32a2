"""The verb ``train``: a forecaster from the training store of a run."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from data_pipeline.errors import InputError
from data_pipeline.files.atomic import make_folder
from data_pipeline.files.locks import only_process
from data_pipeline.loading.windows import WindowDataset
from data_pipeline.memory import require_memory
from data_pipeline.preparation.config import DataConfig
from data_pipeline.preprocessing.climatology import climatology_at
from data_pipeline.redaction import redacted
from data_pipeline.sources.files import local_inputs
from data_pipeline.store.reader import PreparedStore
from data_pipeline.terminal import print_line
from fourcastnet_afno.fine_tuning.adapters import adapt
from fourcastnet_afno.fine_tuning.kept_statistics import kept_statistics
from fourcastnet_afno.fine_tuning.warm_start import start_from
from fourcastnet_afno.forecaster.checkpoint import load_forecaster, read_checkpoint
from fourcastnet_afno.forecaster.forecaster import FieldSpec, Forecaster
from fourcastnet_afno.parallel.environment import memory_of
from fourcastnet_afno.parallel.launch import process_group
from fourcastnet_afno.parallel.process import Process
from fourcastnet_afno.parallel.row_sharding import ALL_ROWS, Rows
from fourcastnet_afno.training.build_loss import build_loss, build_stage_losses
from fourcastnet_afno.training.config import Precision, TrainingConfig
from fourcastnet_afno.training.fastest import settle, threads_kept
from fourcastnet_afno.training.monitoring.log import LogFunction, connect
from fourcastnet_afno.training.monitoring.record import TrainingCallback
from fourcastnet_afno.training.objectives import RolloutLoss
from fourcastnet_afno.training.optimizers.build import freeze
from fourcastnet_afno.training.shard_rows import shard_rows
from fourcastnet_afno.training.trainer import Trainer
from fourcastnet_afno.training.validation import RolloutValidation
from fourcastnet_afno.workflows import console
from fourcastnet_afno.workflows.config import ExperimentConfig
from fourcastnet_afno.workflows.prepare import open_prepared_store


def train_run(
    config: ExperimentConfig,
    output: Path,
    functions: Sequence[LogFunction] = (),
    *,
    callbacks: Sequence[TrainingCallback] = (),
    join: Callable[..., AbstractContextManager[Process]] = process_group,
) -> Forecaster:
    """Train a forecaster, or resume an interrupted run in ``output``.

    On several processes, started by ``torchrun`` or ``srun``, all must call; ``join`` joins them,
    see ``process_group``. ``functions`` get the step and the values of each row of the log, and
    ``callbacks`` are called after every step, in all processes.
    """
    settings, folder = config.training, output / "checkpoints"
    joined = join(
        settings.device,
        timeout_minutes=settings.timeout_minutes,
        spatial_ranks=settings.spatial_ranks,
        member_ranks=settings.member_ranks,
    )
    with joined as process, only_training(output, process), threads_kept():
        read = {"training.start_from": local_inputs(*filter(None, [settings.start_from]))}
        opening = partial(open_prepared_store, config, output, process, inputs=read)
        store = process.main_first("prepared", opening).prognostic
        with torch.random.fork_rng([]):
            torch.manual_seed(settings.seed)
            forecaster = build_forecaster(config, store)
        if settings.start_from is not None:
            folded = settings.statistics == "folded"
            match = start_from(forecaster, Path(settings.start_from), folded=folded)
            if process.is_main:
                print_line(console, f"From {settings.start_from}: {match}")
        with torch.random.fork_rng([]):
            torch.manual_seed(settings.seed)
            adapt(forecaster, settings.adapters)
        freeze(forecaster, settings.optimizer.frozen)  # they need no gradients nor moments
        check_training_memory(forecaster, settings, process)
        shard_rows(forecaster, process)
        forecaster = forecaster.to(process.device)
        rows, weights = forecaster.rows, field_weights(store)
        build = partial(build_loss, forecaster=forecaster, field_weights=weights)
        losses = build_stage_losses(settings, build)
        first = settings.rollout_of(settings.stages[0])
        objective = RolloutLoss(forecaster, losses[0], first, settings.precision)
        if process.is_main:
            _describe_other_data(folder / "last.safetensors", store)
        for stage in settings.stages:  # not after hours, when a stage starts
            _windows(config, store, stage.num_steps)
        windows = partial(_windows, config, store.select_rows(rows.field_slice))
        settled, reasons = settle(objective, windows, settings, folder, process)
        describe_training(forecaster, process, reasons)
        Trainer(
            objective,
            windows,
            settings,
            folder=folder,
            metadata={"config": config.to_yaml(), "fingerprint": store.fingerprint, **settled},
            losses=losses,
            process=process,
            validation=rollout_validation(
                config, store, replace(process, members=None), rows, weights, objective.precision
            ),
            functions=[*functions, *loggers(config, output, process)],
            callbacks=callbacks,
            console=console,
        ).fit()
        return process.main_first("trained", lambda: load_forecaster(folder / "best.safetensors"))


def _describe_other_data(last: Path, store: PreparedStore) -> None:
    """Tell that the data is not that on which the run has been trained so far."""
    with suppress(InputError):  # there is none, or resuming tells what is wrong with it
        known = read_checkpoint(last, "none")[1].get("fingerprint")
        if known not in (None, store.fingerprint):
            message = f"{store.path} is not the data on which {last} was trained; where that is "
            message += "not meant, train in another --output"
            print_line(console, message, style="yellow")


@contextmanager
def only_training(output: Path, process: Process) -> Iterator[None]:
    """Keep other commands from training in the folder of a run while the block runs.

    Raises:
        InputError: If another one does already ("busy").
    """
    if not process.is_main:
        yield
        return
    make_folder(output)
    with only_process(output / ".train.lock", f"trains in {output.resolve()}"):
        yield


def loggers(config: ExperimentConfig, output: Path, process: Process) -> list[LogFunction]:
    """Further places for the log that the configuration asks for, in the main process."""
    names = config.training.loggers if process.is_main else []
    return [connect(name, output, redacted(asdict(config))) for name in names]


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
    """Windows of the training period (or of its subset), and of the validation period.

    Each is followed by ``num_steps`` states; the options are those of ``WindowDataset``.
    """
    options |= {"num_steps": num_steps, "is_driven": data.boundary is not None}
    training = WindowDataset(store, data.train, subset=data.subset, **options)
    return training, WindowDataset(store, data.validation, **options)


def check_training_memory(module: nn.Module, settings: TrainingConfig, process: Process) -> None:
    """Check that weights, gradients and the optimizer's moments fit the memory of the device.

    Raises:
        InputError: If they do not; their size is named.
    """
    if settings.parallel == "fsdp":
        return  # each process has a share
    averaged = settings.ema_decay > 0
    sizes = [(p.numel() * p.element_size(), p.requires_grad) for p in module.parameters()]
    require_memory(
        sum((4 if is_trained else 1) * size + averaged * size for size, is_trained in sizes),
        "weights, gradients and moments of the optimizer in training",
        "choose a smaller model.network, or share it by training.parallel=fsdp",
        memory_of(process.device),
    )


def describe_training(module: nn.Module, process: Process, settled: Sequence[str]) -> None:
    """Say how much is trained where, and what was ``settled`` for it."""
    if process.is_main:
        trained, every = (
            sum(p.numel() for p in module.parameters() if p.requires_grad or frozen)
            for frozen in (False, True)
        )
        parameters = f"{every:,}" if trained == every else f"{trained:,} of {every:,}"
        places = f"{process.world_size} processes, each on " if process.world_size > 1 else ""
        if shared := process.spatial or process.members:
            places = f"{process.data_size} x {shared.size} processes, each on "
        device = str(process.device)
        if process.device.type == "cpu":
            count = torch.get_num_threads()
            device += f" in {count} thread{'s' if count > 1 else ''}"
        message = f"Training {parameters} parameters on {places}{device}"
        print_line(console, "; ".join([message, *settled]))


def rollout_validation(
    config: ExperimentConfig,
    store: PreparedStore,
    process: Process,
    rows: Rows = ALL_ROWS,
    weights: Tensor | None = None,
    precision: Precision = "float32",
) -> RolloutValidation | None:
    """Scores of rollouts from the validation period; None where the configuration has none."""
    settings = config.training.validation
    if settings.num_steps == 0:
        return None
    shard = store.select_rows(rows.field_slice)
    coefficients = shard.climatology()

    def climatology(times: np.ndarray) -> np.ndarray:
        return store.channels.stack(climatology_at(coefficients, times)).values

    return RolloutValidation(
        _windows(config, shard, settings.num_steps)[1],
        climatology,
        settings,
        area_weights=torch.from_numpy(store.grid.area_weights()),
        process=process,
        rows=rows,
        precision=precision,
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
        step=store.step,
        boundary_width=0 if config.data.boundary is None else config.data.boundary.width,
    )
    own = {
        name: torch.from_numpy(np.asarray(getattr(store.statistics, name), np.float32))
        for name in ("mean", "std", "diff_std")
    }
    static, filled = torch.from_numpy(store.normalized_static()), store.filled_values()
    if config.model.damping_days is not None:
        climatology = store.climatology().isel(harmonic=0).mean("hour")
        own["mean_state"] = torch.from_numpy(store.channels.stack(climatology).values)
    if config.training.start_from is not None and config.training.statistics == "kept":
        own = kept_statistics(own, spec, Path(config.training.start_from))
    return Forecaster(
        config.model,
        spec,
        static=static,
        filled=None if filled is None else torch.from_numpy(filled),
        **own,
    )

"""``fourcastnet-afno train-diagnostic``: a diagnostic head behind a frozen forecaster.

The run folder is that of any training, see ``workflows.run``. ``checkpoints/best.safetensors``
holds head and forecaster, so that forecasts need nothing else.

References:
    Pathak et al., 2022, https://arxiv.org/abs/2202.11214, section 3 and appendix B.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from data_pipeline.errors import InputError
from data_pipeline.preparation.prepare import open_store
from data_pipeline.store.reader import PreparedStore
from fourcastnet_afno.forecaster.checkpoint import fingerprint_of, load_forecaster
from fourcastnet_afno.forecaster.diagnostic_head import (
    DiagnosticHead,
    describe_diagnostic,
    load_diagnostic,
)
from fourcastnet_afno.forecaster.forecaster import Forecaster
from fourcastnet_afno.parallel.launch import process_group
from fourcastnet_afno.training.build_loss import build_diagnostic_loss, build_stage_losses
from fourcastnet_afno.training.fastest import settle, threads_kept
from fourcastnet_afno.training.monitoring.log import LogFunction
from fourcastnet_afno.training.monitoring.record import TrainingCallback
from fourcastnet_afno.training.objectives import DiagnosticLoss
from fourcastnet_afno.training.trainer import Trainer
from fourcastnet_afno.workflows import console
from fourcastnet_afno.workflows.config import ExperimentConfig
from fourcastnet_afno.workflows.prepare import open_prepared_store
from fourcastnet_afno.workflows.train import (
    describe_training,
    field_weights,
    loggers,
    only_training,
    split_windows,
)


def train_diagnostic(
    config: ExperimentConfig,
    output: Path,
    checkpoint: Path,
    functions: Sequence[LogFunction] = (),
    *,
    callbacks: Sequence[TrainingCallback] = (),
) -> DiagnosticHead:
    """Train a head for ``data.diagnostic``, or resume an interrupted run in ``output``.

    On several processes, started by ``torchrun`` or ``srun``, all must call. A stage with several
    steps takes the mean loss over the steps of the forecaster's rollout. The weights are chosen by
    the validation loss; ``training.validation.num_steps`` has no effect. The forecaster of
    ``checkpoint`` stays as it is; the store of its run is used if it is of this configuration.
    ``functions`` and ``callbacks`` are those of ``train_run``.

    Raises:
        InputError: If the forecaster, the data or a setting does not suit the others.
    """
    _check_settings(config)
    settings, folder = config.training, output / "checkpoints"
    forecaster = load_forecaster(checkpoint)
    fingerprint = fingerprint_of(forecaster)
    shared = checkpoint.absolute().parent.parent / "data.zarr"
    has_own = config.data.store is not None or (output / "data.zarr").exists()
    if not has_own and (shared / "zarr.json").exists():
        with suppress(InputError):  # it is of another configuration
            open_store(str(shared), config.data)
            config = replace(config, data=replace(config.data, store=str(shared)))
    joined = process_group(settings.device, timeout_minutes=settings.timeout_minutes)
    with joined as process, only_training(output, process), threads_kept():
        read = {"--checkpoint": [checkpoint]}
        opening = partial(open_prepared_store, config, output, process, fingerprint, read)
        store = process.main_first("prepared", opening)
        forecaster = forecaster.to(process.device)
        _check_suits(forecaster, store, checkpoint)
        head = build_head(config, forecaster, store).to(process.device)
        count = len(forecaster.spec.channels)
        windows = partial(
            split_windows,
            config.data,
            store,
            num_history=forecaster.num_history,
            forcings=forecaster.spec.forcings,
            state_channels=slice(count),
            target_channels=slice(count, None),
        )
        weights = field_weights(store.diagnostic)
        build = partial(build_diagnostic_loss, head=head, field_weights=weights)
        losses = build_stage_losses(settings, build)
        metadata = {"config": config.to_yaml(), "fingerprint": store.fingerprint}
        objective = DiagnosticLoss(
            head, forecaster, losses[0], settings.rollout, settings.precision
        )
        settled, reasons = settle(objective, windows, settings, folder, process)
        describe_training(head, process, reasons)
        Trainer(
            objective,
            windows,
            settings,
            folder=folder,
            metadata=metadata | settled | {"diagnostic": describe_diagnostic(head, forecaster)},
            losses=losses,
            process=process,
            functions=[*functions, *loggers(config, output, process)],
            console=console,
            callbacks=callbacks,
        ).fit()
        best = folder / "best.safetensors"
        return process.main_first("trained", lambda: load_diagnostic(best)[0])


def build_head(
    config: ExperimentConfig, forecaster: Forecaster, store: PreparedStore
) -> DiagnosticHead:
    """A head with fresh weights for the diagnostic channels of prepared data."""
    channels, statistics = store.diagnostic.channels, store.diagnostic.statistics
    filled = store.diagnostic.filled_values()
    mean, std = (
        torch.from_numpy(np.asarray(values, np.float32))
        for values in (statistics.mean, statistics.std)
    )
    with torch.random.fork_rng([]):
        torch.manual_seed(config.training.seed)
        return DiagnosticHead(
            config.diagnostic,
            forecaster,
            channels,
            mean=mean,
            std=std,
            filled=None if filled is None else torch.from_numpy(filled),
        )


def _check_settings(config: ExperimentConfig) -> None:
    if not config.data.diagnostic:
        raise InputError(
            "data.diagnostic is empty; list what the head predicts, such as "
            "[total_precipitation_6hr]",
            code="bad-setting",
        )
    training, stages = config.training, config.training.stages
    for name, value, without in (
        ("parallel", training.parallel, "ddp"),
        ("spatial_ranks", training.spatial_ranks, 1),
        ("member_ranks", training.member_ranks, 1),
        ("start_from", training.start_from, None),
        ("adapters.rank", training.adapters.rank, 0),
        ("rollout.num_members", max(training.rollout_of(s).num_members for s in stages), 1),
        ("rollout.member_noise", training.rollout.member_noise, 0.0),
    ):
        if value != without:
            raise InputError(
                f"training.{name}={value} is for forecasters, a diagnostic head is trained without "
                f"it; set it to {without}",
                code="bad-setting",
            )


def _check_suits(forecaster: Forecaster, store: PreparedStore, checkpoint: Path) -> None:
    spec, channels = forecaster.spec, store.prognostic.channels
    pairs = {
        "data.prognostic": (channels.to_json(), spec.channels.to_json()),
        "the grid": (str(store.grid), str(spec.grid)),
        "data.timestep": (store.step.label, spec.step.label),
    }
    wrong = [f"{n} ({own}, there {theirs})" for n, (own, theirs) in pairs.items() if own != theirs]
    if wrong:
        raise InputError(
            f"{checkpoint} was trained with other data, which differs in {'; '.join(wrong)}; give "
            "the forecaster's own data with data.diagnostic added to it",
            code="other-configuration",
        )

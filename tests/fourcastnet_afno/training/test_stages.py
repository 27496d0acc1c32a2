"""Batches of a stage, how many there are, and what a stage changes."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from data_pipeline.store.reader import PreparedStore
from fourcastnet_afno.forecaster.checkpoint import load_forecaster
from fourcastnet_afno.losses.config import LossChanges
from fourcastnet_afno.models.config import NoiseConfig
from fourcastnet_afno.parallel.process import Process
from fourcastnet_afno.training.config import Stage, TrainingConfig, ValidationConfig
from fourcastnet_afno.training.schedules import Plateau, ScheduleConfig
from fourcastnet_afno.training.signals import TrainingInterruptedError
from fourcastnet_afno.training.stages import StagePlan
from fourcastnet_afno.workflows.config import ExperimentConfig
from fourcastnet_afno.workflows.train import split_windows, train_run
from tests.builders.processes import SignalAfter, on_ranks
from tests.builders.runs import assert_equal_runs, make_dropless_experiment, read_columns

DETERMINISTIC = Stage(epochs=1, loss=LossChanges(kind="l1"))
ENSEMBLE = Stage(epochs=1, num_steps=2, num_members=2, loss=LossChanges(kind="crps"))


def test_a_stage_counts_windows_and_batches(data: Path) -> None:
    """58 windows of one step, 57 of two: 4 batches of 16 an epoch, in microbatches of 8."""
    stages = [Stage(epochs=1), Stage(epochs=2, first_num_steps=1, num_steps=2), Stage(epochs=3)]
    schedule = ScheduleConfig(kind="constant", warmup_fraction=0.25)
    config = TrainingConfig(stages=stages, batch_size=16, accumulate=2, schedule=schedule)
    experiment = make_dropless_experiment(data)
    store = PreparedStore(data.parent / "run" / "data.zarr")
    windows = partial(split_windows, experiment.data, store, num_history=1, forcings=[])
    plan = StagePlan(1, windows, config, Process())
    first, second = plan.num_windows(0), plan.num_windows(1)
    assert first == second + 1
    assert (plan.num_batches(0), plan.num_updates) == (4, 8)
    assert plan.training(0).batch_size == 8
    assert plan.validation.batch_size == 16
    assert next(iter(plan.validation.epoch(0))).target.shape[1] == 2
    assert [plan.epoch_of_run(epoch) for epoch in range(2)] == [1, 2]
    # The rest of this epoch, the next one, and three of the stage that follows.
    assert plan.windows_left(0, 10) == first - 10 + second + 3 * first
    rates = [plan.learning_rate(step, Plateau()) for step in range(8)]
    assert rates == pytest.approx([5e-4, *[1e-3] * 7])


def make_plain_experiment(data: Path, *stages: Stage) -> ExperimentConfig:
    """Of two steps a stage."""
    validation = ValidationConfig(num_steps=0)
    return make_dropless_experiment(data, stages=list(stages), batch_size=32, validation=validation)


def make_noisy_experiment(data: Path, *stages: Stage) -> ExperimentConfig:
    experiment = make_plain_experiment(data, *stages)
    noise = NoiseConfig(length_scales=[8000.0], channels=2, memory_hours=24.0, width=4)
    return replace(experiment, model=replace(experiment.model, noise=noise))


def test_a_stage_of_one_member_trains_as_a_model_without_noise(data: Path, tmp_path: Path) -> None:
    """Then a stage of members that are all equal: their CRPS is the absolute error."""
    still = replace(ENSEMBLE, learning_rate=1e-30, num_steps=1)
    train_run(make_noisy_experiment(data, DETERMINISTIC, still), tmp_path / "noisy")
    plain = make_plain_experiment(data, DETERMINISTIC, replace(DETERMINISTIC, learning_rate=1e-30))
    train_run(plain, tmp_path / "plain")
    found, expected = (read_columns(tmp_path / run, "loss") for run in ("noisy", "plain"))
    np.testing.assert_array_equal(found[:2], expected[:2])
    np.testing.assert_allclose(found[2:], expected[2:], rtol=1e-6)
    ensemble, absolute = (
        json.loads((tmp_path / run / "history.json").read_text())[-1]["validation_loss"]
        for run in ("noisy", "plain")
    )
    assert ensemble == pytest.approx(absolute, rel=1e-6)


def test_stages_of_other_losses_and_members_resume_bit_for_bit(data: Path, tmp_path: Path) -> None:
    """Stopped at the end of each of two stages."""
    config = make_noisy_experiment(data, DETERMINISTIC, ENSEMBLE)
    forecaster = train_run(config, tmp_path / "unbroken")
    signals = SignalAfter([1, 3])
    for _ in range(2):
        with pytest.raises(TrainingInterruptedError):
            train_run(config, tmp_path / "resumed", callbacks=[signals])
    train_run(config, tmp_path / "resumed")
    assert_equal_runs(tmp_path / "unbroken", tmp_path / "resumed")
    weights = forecaster.state_dict()["network.blocks.0.modulation.weight"]
    assert torch.count_nonzero(weights) > 0


def train(config: ExperimentConfig, output: Path) -> None:
    """For other processes, which find it by name."""
    train_run(config, output)


def test_processes_that_share_members_or_rows_train_the_same(data: Path, tmp_path: Path) -> None:
    """One process, two that share each window, two such pairs, and two that share each field."""
    stages = DETERMINISTIC, replace(ENSEMBLE, epochs=3, num_members=4, learning_rate=0.01)
    config = make_noisy_experiment(data, *stages)
    train_run(config, tmp_path / "alone")
    names = ("loss", "gradient_norm")
    expected = read_columns(tmp_path / "alone", *names)
    cases = (4, {"member_ranks": 2}), (4, {"member_ranks": 4}), (2, {"spatial_ranks": 2})
    for number, (size, sharing) in enumerate(cases):
        output = tmp_path / f"shared{number}"
        shared = replace(config, training=replace(config.training, **sharing))
        on_ranks(size, train, shared, output, joined=False)
        found = read_columns(output, *names)
        np.testing.assert_allclose(found[:3], expected[:3], rtol=1e-5)
        np.testing.assert_allclose(found, expected, rtol=2e-3)
    weights = load_forecaster(tmp_path / "alone" / "checkpoints" / "best.safetensors").state_dict()
    assert weights["network.blocks.0.modulation.weight"].abs().mean() > 1e-3

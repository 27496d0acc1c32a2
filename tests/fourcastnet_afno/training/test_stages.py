"""Batches of a stage, and how many there are."""

from functools import partial
from pathlib import Path

import pytest

from data_pipeline.store.reader import PreparedStore
from fourcastnet_afno.parallel.process import Process
from fourcastnet_afno.training.config import Stage, TrainingConfig
from fourcastnet_afno.training.schedules import Plateau, ScheduleConfig
from fourcastnet_afno.training.stages import StagePlan
from fourcastnet_afno.workflows.train import split_windows
from tests.builders.runs import make_dropless_experiment


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

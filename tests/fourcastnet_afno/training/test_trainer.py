"""Training on several processes, and what a run does with values that are not finite."""

import csv
import json
import math
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from data_pipeline.loading.loader import Loader
from data_pipeline.loading.windows import Sample
from fourcastnet_afno.forecaster.checkpoint import read_checkpoint
from fourcastnet_afno.training.config import Stage, ValidationConfig
from fourcastnet_afno.workflows.config import ExperimentConfig
from fourcastnet_afno.workflows.train import train_run
from tests.builders.processes import (
    FailAfter,
    SignalAfter,
    fast_spawning,
    on_ranks,
    start_ranks,
)
from tests.builders.runs import (
    make_dropless_experiment,
    read_columns,
)


def train(config: ExperimentConfig, output: Path) -> None:
    """For other processes, which find it by name."""
    train_run(config, output)


@pytest.mark.parametrize(
    ("world_size", "changes"),
    [
        (2, {}),
        (3, {"accumulate": 2}),
        (2, {"parallel": "fsdp", "accumulate": 2}),
    ],
)
def test_any_number_of_processes_trains_the_same(
    world_size: int, changes: dict, data: Path, alone: Path, tmp_path: Path
) -> None:
    on_ranks(
        world_size, train, make_dropless_experiment(data, **changes), tmp_path / "run", joined=False
    )
    names = ("step", "stage", "epoch", "samples", "loss", "gradient_norm", "learning_rate")
    expected, found = read_columns(alone, *names), read_columns(tmp_path / "run", *names)
    assert len(expected) == 4 + 4
    np.testing.assert_array_equal(found[:, :4], expected[:, :4])
    np.testing.assert_allclose(found[:, 4:], expected[:, 4:], rtol=2e-3)
    np.testing.assert_allclose(found[0, 4:], expected[0, 4:], rtol=2e-6)
    scores = ("step", "model")
    expected, found = (
        read_columns(run, *scores, file="validation.csv") for run in (alone, tmp_path / "run")
    )
    np.testing.assert_allclose(found, expected, rtol=2e-3)


def test_a_run_resumes_with_another_number_of_processes(
    data: Path, alone: Path, tmp_path: Path
) -> None:
    for world_size, stop in ((2, 2), (3, 6), (1, None)):
        output = tmp_path / "run"
        processes, _ = start_ranks(
            world_size,
            train_until,
            make_dropless_experiment(data),
            output,
            stop,
            errors=tmp_path,
            joined=False,
        )
        for process in processes:
            process.join(300)
        _, metadata = read_checkpoint(output / "checkpoints" / "last.safetensors", "none")
        assert stop is None or metadata["position"]["step"] == stop
    names = ("step", "samples", "loss")
    np.testing.assert_allclose(read_columns(output, *names), read_columns(alone, *names), rtol=2e-3)


def train_until(config: ExperimentConfig, output: Path, step: int | None) -> None:
    """Only one of the processes is told to stop; all of them do, at the same step."""
    is_last = int(os.environ["RANK"]) == int(os.environ["WORLD_SIZE"]) - 1
    steps = () if step is None or not is_last else (step - 1,)
    train_run(config, output, callbacks=[SignalAfter(steps, signal.SIGUSR1)])


def fail_on_one(config: ExperimentConfig, output: Path) -> None:
    step = 2 if os.environ["RANK"] == "1" else 10**9
    train_run(config, output, callbacks=[FailAfter(step, "a defect of rank 1")])


def test_a_rank_that_fails_in_training_stops_all(data: Path, tmp_path: Path) -> None:
    processes, _ = start_ranks(
        2,
        fail_on_one,
        make_dropless_experiment(data),
        tmp_path / "run",
        errors=tmp_path,
        joined=False,
    )
    for process in processes:
        process.join(300)
        assert process.exitcode not in (None, 0)
    assert "a defect of rank 1" in (tmp_path / "rank0.txt").read_text()


def test_processes_that_read_change_nothing(data: Path, tmp_path: Path, alone: Path) -> None:
    stages = [Stage(epochs=1)]
    config = make_dropless_experiment(data, stages=stages, workers="processes", read_ahead=1)
    with fast_spawning():
        train(config, tmp_path)
    losses, expected = read_columns(tmp_path, "loss"), read_columns(alone, "loss")
    np.testing.assert_array_equal(losses, expected[: len(losses)])


def test_validation_without_progress_ends_a_stage(data: Path, tmp_path: Path) -> None:
    stages = [Stage(epochs=50, learning_rate=1e-30), Stage(epochs=1)]
    train(make_dropless_experiment(data, stages=stages, early_stopping=2, ema_decay=0.0), tmp_path)
    history = json.loads((tmp_path / "history.json").read_text())
    assert [record["stage"] for record in history] == [1, 1, 1, 2]
    # The third validation is the second without progress.
    losses = read_columns(tmp_path, "step", "model", file="validation.csv")
    assert np.unique(losses[:, 0]).tolist() == [4, 8, 12, 16]


def test_validation_by_steps_and_epochs(data: Path, tmp_path: Path) -> None:
    validation = ValidationConfig(every_steps=3, every_epochs=2, num_steps=2, num_init_times=3)
    train(make_dropless_experiment(data, stages=[Stage(epochs=3)], validation=validation), tmp_path)
    with (tmp_path / "logs" / "validation.csv").open() as text:
        rows = list(csv.DictReader(text))
    losses = [int(row["step"]) for row in rows if row["metric"] == "loss"]
    assert losses == [3, 6, 8, 9, 12]
    history = json.loads((tmp_path / "history.json").read_text())
    assert [record["validation_loss"] is None for record in history] == [True, False, False]
    scores = {(row["metric"], row["channel"], row["lead_hours"]) for row in rows}
    assert ("acc", "2m_temperature", "48") in scores
    assert all(row["persistence"] and row["climatology"] for row in rows if row["channel"])


def test_a_curriculum_grows_from_a_checkpoint(data: Path, alone: Path, tmp_path: Path) -> None:
    best = alone / "checkpoints" / "best.safetensors"
    stages = [Stage(epochs=3, first_num_steps=1, num_steps=3, learning_rate=1e-5)]
    config = make_dropless_experiment(data, stages=stages, start_from=str(best))
    train(config, tmp_path)
    history = json.loads((tmp_path / "history.json").read_text())
    assert [record["num_steps"] for record in history] == [1, 2, 3]
    # A step more needs a state more: 58, 57 and 56 windows.
    samples = read_columns(tmp_path, "samples")[:, 0].tolist()
    assert samples == [16, 32, 48, 58, 16, 32, 48, 57, 16, 32, 48, 56]
    rates = read_columns(tmp_path, "learning_rate")[:, 0]
    assert rates[0] == 1e-5
    assert rates[-1] == pytest.approx(0.5e-5 * (1 + math.cos(math.pi * 10 / 11)))
    first, fresh = (read_columns(run, "loss")[0, 0] for run in (tmp_path, alone))
    assert first < 0.9 * fresh


def test_a_spike_is_reported(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = Loader.epoch

    def epoch(self: Loader, *arguments: int, **keywords: int) -> Iterator[Sample]:
        for index, sample in enumerate(original(self, *arguments, **keywords)):
            if self.shuffle and arguments[0] == 3 and index == 1:
                sample.target[:] *= 1.5
            yield sample

    monkeypatch.setattr(Loader, "epoch", epoch)
    train(make_dropless_experiment(data, stages=[Stage(epochs=4)]), tmp_path)
    assert read_columns(tmp_path, "step", "spike")[13].tolist() == [14, 1]
    assert read_columns(tmp_path, "spike").sum() == 1
    assert "loss spike at step 14" in capsys.readouterr().out

"""Training on several processes, and what a run does with values that are not finite."""

import csv
import json
import math
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from data_pipeline.errors import InputError
from data_pipeline.loading.loader import Loader
from data_pipeline.loading.windows import Sample
from fourcastnet_afno.forecaster.checkpoint import read_checkpoint
from fourcastnet_afno.training.config import Stage, TrainingConfig, ValidationConfig
from fourcastnet_afno.training.ema import MovingAverage
from fourcastnet_afno.training.objectives import RolloutLoss
from fourcastnet_afno.training.updater import with_noise
from fourcastnet_afno.workflows.config import ExperimentConfig
from fourcastnet_afno.workflows.prepare import prepare_run
from fourcastnet_afno.workflows.train import train_run
from tests.builders.experiments import make_dataset, make_experiment
from tests.builders.processes import FailAfter, SignalAfter, on_ranks, start_ranks


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data that is prepared once for all runs of this module."""
    folder = tmp_path_factory.mktemp("data")
    make_dataset().to_netcdf(folder / "data.nc")
    prepare_run(make_config(folder / "data.nc"), folder / "run")
    return folder / "data.nc"


def make_config(data: Path, **training: object) -> ExperimentConfig:
    """Without dropout, whose random numbers belong to a process.

    58 windows in batches of 16: the last one holds 10, which three or four ranks do not divide.
    """
    training = {"stages": [Stage(epochs=1), Stage(epochs=1, num_steps=2)], **training}
    config = make_experiment(data, **{"batch_size": 16, **training})
    network = replace(config.model.network, drop_rate=0.0, drop_path_rate=0.0)
    return replace(
        config,
        model=replace(config.model, network=network),
        data=replace(config.data, store=str(data.parent / "run" / "data.zarr")),
    )


def train(config: ExperimentConfig, output: Path) -> None:
    """For other processes, which find it by name."""
    train_run(config, output)


def columns(run: Path, *names: str, file: str = "steps.csv") -> np.ndarray:
    with (run / "logs" / file).open(newline="") as text:
        return np.array([[float(row[name]) for name in names] for row in csv.DictReader(text)])


@pytest.fixture(scope="module")
def alone(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("runs") / "alone"
    train(make_config(data), output)
    return output


@pytest.mark.parametrize(
    ("world_size", "changes"),
    [
        (2, {}),
        (3, {"accumulate": 2}),
        (4, {}),
        (2, {"parallel": "fsdp", "accumulate": 2}),
    ],
)
def test_any_number_of_processes_trains_the_same(
    world_size: int, changes: dict, data: Path, alone: Path, tmp_path: Path
) -> None:
    on_ranks(world_size, train, make_config(data, **changes), tmp_path / "run", joined=False)
    names = ("step", "stage", "epoch", "samples", "loss", "gradient_norm", "learning_rate")
    expected, found = columns(alone, *names), columns(tmp_path / "run", *names)
    assert len(expected) == 4 + 4
    np.testing.assert_array_equal(found[:, :4], expected[:, :4])
    np.testing.assert_allclose(found[:, 4:], expected[:, 4:], rtol=2e-3)
    np.testing.assert_allclose(found[0, 4:], expected[0, 4:], rtol=2e-6)
    scores = ("step", "model")
    expected, found = (
        columns(run, *scores, file="validation.csv") for run in (alone, tmp_path / "run")
    )
    np.testing.assert_allclose(found, expected, rtol=2e-3)


def test_a_run_goes_on_with_another_number_of_processes(
    data: Path, alone: Path, tmp_path: Path
) -> None:
    for world_size, stop in ((2, 2), (3, 6), (1, None)):
        output = tmp_path / "run"
        processes, _ = start_ranks(
            world_size, train_until, make_config(data), output, stop, errors=tmp_path, joined=False
        )
        for process in processes:
            process.join(60)
        _, metadata = read_checkpoint(output / "checkpoints" / "last.safetensors", "none")
        assert stop is None or metadata["position"]["step"] == stop
    names = ("step", "samples", "loss")
    np.testing.assert_allclose(columns(output, *names), columns(alone, *names), rtol=2e-3)


def train_until(config: ExperimentConfig, output: Path, step: int | None) -> None:
    """Only one of the processes is told to stop; all of them do, at the same step."""
    is_last = int(os.environ["RANK"]) == int(os.environ["WORLD_SIZE"]) - 1
    steps = () if step is None or not is_last else (step - 1,)
    train_run(config, output, callbacks=[SignalAfter(steps, signal.SIGUSR1)])


def poisoned(monkeypatch: pytest.MonkeyPatch, batch: int, row: int, channel: int) -> list[str]:
    """NaN in one target of a training batch; the time of its window."""
    original, times = Loader.epoch, []

    def epoch(self: Loader, *arguments: int, **keywords: int) -> Iterator[Sample]:
        for index, sample in enumerate(original(self, *arguments, **keywords)):
            if self.shuffle and index == batch and not times:
                sample.target[row, 0, channel, 2, 3] = math.nan
                nanoseconds = sample.time[row].item()
                times.append(str(np.datetime64(nanoseconds, "ns").astype("datetime64[m]")))
            yield sample

    monkeypatch.setattr(Loader, "epoch", epoch)
    return times


def test_a_loss_that_is_not_finite_is_traced_to_its_place(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = poisoned(monkeypatch, batch=2, row=5, channel=1)
    with pytest.raises(InputError) as error:
        train(make_config(data), tmp_path)
    message = str(error.value)
    assert "the loss is nan at stage 1, epoch 1, batch 3 (step 3 of the run)" in message
    assert f"the targets of 2m_temperature from step 1 at row 5 ({times[0]})" in message
    assert "the initial states" not in message
    assert "mean_sea_level_pressure" not in message


def test_a_step_that_is_skipped_is_counted_and_leaves_the_weights(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    poisoned(monkeypatch, batch=2, row=0, channel=0)
    config = make_config(data, non_finite="skip", stages=[Stage(epochs=1)])
    train(config, tmp_path)
    skipped = columns(tmp_path, "skipped")[:, 0].tolist()
    assert skipped == [0, 0, 1, 0]
    tensors, metadata = read_checkpoint(tmp_path / "checkpoints" / "last.safetensors")
    assert metadata["position"]["num_skipped"] == 1
    assert all(value.isfinite().all() for value in tensors.values())
    said = " ".join(capsys.readouterr().out.split())
    assert "the targets of mean_sea_level_pressure from step 1 at row 0" in said
    assert np.isfinite(columns(tmp_path, "loss")[3:]).all()


def test_a_gradient_that_is_not_finite_is_traced_to_its_place(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = RolloutLoss.by_channel

    def steep(self: RolloutLoss, *arguments: torch.Tensor) -> torch.Tensor:
        losses = original(self, *arguments)  # type: ignore[arg-type]
        place = torch.zeros_like(losses)
        place[4, :, 1] = 1.0

        def blow_up(gradient: torch.Tensor) -> torch.Tensor:
            return torch.where(place * gradient != 0, math.inf, gradient)

        losses.register_hook(blow_up)
        return losses

    monkeypatch.setattr(RolloutLoss, "by_channel", steep)
    monkeypatch.setattr(
        RolloutLoss, "forward", lambda self, *fields: steep(self, *fields).mean(dim=(1, 2))
    )
    with pytest.raises(InputError) as error:
        train(make_config(data), tmp_path)
    message = str(error.value)
    assert "the gradient is not finite at stage 1, epoch 1, batch 1" in message
    assert "the gradient of 2m_temperature at row 4 (2001-" in message


def fail_on_one(config: ExperimentConfig, output: Path) -> None:
    step = 2 if os.environ["RANK"] == "1" else 10**9
    train_run(config, output, callbacks=[FailAfter(step, "a defect of rank 1")])


def test_a_rank_that_fails_in_training_stops_all(data: Path, tmp_path: Path) -> None:
    processes, _ = start_ranks(
        2, fail_on_one, make_config(data), tmp_path / "run", errors=tmp_path, joined=False
    )
    for process in processes:
        process.join(60)
        assert process.exitcode not in (None, 0)
    assert "a defect of rank 1" in (tmp_path / "rank0.txt").read_text()


def test_processes_that_read_change_nothing(data: Path, tmp_path: Path, alone: Path) -> None:
    train(make_config(data, workers="processes", read_ahead=1), tmp_path)
    np.testing.assert_array_equal(columns(tmp_path, "loss"), columns(alone, "loss"))


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_lower_precision_trains(precision: str, data: Path, tmp_path: Path, alone: Path) -> None:
    train(make_config(data, precision=precision), tmp_path)
    last = json.loads((tmp_path / "history.json").read_text())[-1]["validation_loss"]
    expected = json.loads((alone / "history.json").read_text())[-1]["validation_loss"]
    assert last == pytest.approx(expected, rel=0.1)
    _, metadata = read_checkpoint(tmp_path / "checkpoints" / "last.safetensors", "none")
    assert (metadata["scaler"] != {}) == (precision == "float16")


def test_validation_without_progress_ends_a_stage(data: Path, tmp_path: Path) -> None:
    stages = [Stage(epochs=50, learning_rate=1e-30), Stage(epochs=1)]
    train(make_config(data, stages=stages, early_stopping=2, ema_decay=0.0), tmp_path)
    history = json.loads((tmp_path / "history.json").read_text())
    assert [record["stage"] for record in history] == [1, 1, 1, 2]
    # The third validation is the second without progress.
    losses = columns(tmp_path, "step", "model", file="validation.csv")
    assert np.unique(losses[:, 0]).tolist() == [4, 8, 12, 16]


def test_validation_by_steps_and_epochs(data: Path, tmp_path: Path) -> None:
    validation = ValidationConfig(every_steps=3, every_epochs=2, num_steps=2, num_init_times=3)
    train(make_config(data, stages=[Stage(epochs=3)], validation=validation), tmp_path)
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
    config = make_config(data, stages=stages, start_from=str(best))
    train(config, tmp_path)
    history = json.loads((tmp_path / "history.json").read_text())
    assert [record["num_steps"] for record in history] == [1, 2, 3]
    # A step more needs a state more: 58, 57 and 56 windows.
    samples = columns(tmp_path, "samples")[:, 0].tolist()
    assert samples == [16, 32, 48, 58, 16, 32, 48, 57, 16, 32, 48, 56]
    rates = columns(tmp_path, "learning_rate")[:, 0]
    assert rates[0] == 1e-5
    assert rates[-1] == pytest.approx(0.5e-5 * (1 + math.cos(math.pi * 10 / 11)))
    first, fresh = (columns(run, "loss")[0, 0] for run in (tmp_path, alone))
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
    train(make_config(data, stages=[Stage(epochs=4)]), tmp_path)
    assert columns(tmp_path, "step", "spike")[13].tolist() == [14, 1]
    assert columns(tmp_path, "spike").sum() == 1
    assert "loss spike at step 14" in capsys.readouterr().out


def test_noise_belongs_to_the_window() -> None:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(4, 2, 3, 5, 6, generator=generator)
    empty = torch.zeros(4, 1, 3, 5, 6)
    sample = Sample(states, empty, empty, torch.arange(4) * 10**17, torch.ones(4))
    part = Sample(*(value[2:] for value in sample))
    scale = torch.tensor([1.0, 10.0, 0.0])[:, None, None]
    noisy = with_noise(sample, scale, 7).state
    assert torch.equal(with_noise(part, scale, 7).state, noisy[2:])
    assert not torch.equal(with_noise(sample, scale, 8).state, noisy)
    spread = (noisy - states).transpose(1, 2).flatten(2).std(dim=-1)
    torch.testing.assert_close(spread[:, 0], torch.ones(4), rtol=0, atol=0.3)
    torch.testing.assert_close(spread[:, 1], 10 * torch.ones(4), rtol=0, atol=3.0)
    assert torch.equal(noisy[:, :, 2], states[:, :, 2])


def test_moving_average_by_hand() -> None:
    module = torch.nn.Linear(1, 1, bias=False)
    (weight,) = module.parameters()
    with torch.no_grad():
        weight.fill_(1.0)
        average = MovingAverage(module, 0.25)
        weight.fill_(2.0)
        average.update(1)  # d = 2 / 11
        weight.fill_(3.0)
        average.update(100)  # d = 1 / 4
    expected = 0.25 * (2 / 11 + 2 * 9 / 11) + 0.75 * 3
    with average.applied():
        assert weight.item() == pytest.approx(expected, rel=1e-6)
    assert weight.item() == 3.0


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"batch_size": 8, "accumulate": 3}, "multiple of training.accumulate"),
        ({"parallel": "fsdp", "precision": "float16"}, "use bfloat16"),
        ({"keep_last": 0}, "training.keep_last must be at least 1"),
        ({"checkpoint_every_minutes": math.nan}, "training.checkpoint_every_minutes"),
        ({"spike_factor": 1.0}, "training.spike_factor"),
        ({"ema_decay": 1.0}, "training.ema_decay"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes: dict, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        TrainingConfig(**changes)

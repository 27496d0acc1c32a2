"""Values that are not finite are traced to their place."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from data_pipeline.loading.loader import Loader
from data_pipeline.loading.windows import Sample
from fourcastnet_afno.forecaster.checkpoint import read_checkpoint
from fourcastnet_afno.training.config import Stage
from fourcastnet_afno.training.objectives import RolloutLoss
from fourcastnet_afno.workflows.train import train_run
from tests.builders.errors import rejects
from tests.builders.runs import make_dropless_experiment, read_columns


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
    with rejects("not-finite", "the loss is nan", "stage 1, epoch 1, batch 3 (step 3") as error:
        train_run(make_dropless_experiment(data), tmp_path)
    message = str(error.value)
    assert f"the targets of 2m_temperature from step 1 at row 5 ({times[0]})" in message
    assert "the initial states" not in message
    assert "mean_sea_level_pressure" not in message


def test_a_step_that_is_skipped_is_counted_and_leaves_the_weights(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    poisoned(monkeypatch, batch=2, row=0, channel=0)
    config = make_dropless_experiment(data, non_finite="skip", stages=[Stage(epochs=1)])
    train_run(config, tmp_path)
    skipped = read_columns(tmp_path, "skipped")[:, 0].tolist()
    assert skipped == [0, 0, 1, 0]
    tensors, metadata = read_checkpoint(tmp_path / "checkpoints" / "last.safetensors")
    assert metadata["position"]["num_skipped"] == 1
    assert all(value.isfinite().all() for value in tensors.values())
    said = " ".join(capsys.readouterr().out.split())
    assert "the targets of mean_sea_level_pressure from step 1 at row 0" in said
    assert np.isfinite(read_columns(tmp_path, "loss")[3:]).all()


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
    named = ("stage 1, epoch 1, batch 1", "the gradient of 2m_temperature at row 4 (2001-")
    with rejects("not-finite", *named):
        train_run(make_dropless_experiment(data), tmp_path)

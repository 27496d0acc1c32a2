"""The log of a training."""

import csv
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from fourcastnet_afno.training.monitoring.log import TrainingLog, connect
from tests.builders.errors import rejects
from tests.builders.limits import small_files
from tests.builders.logs import make_step_record, read_events


def test_rows_after_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    log = TrainingLog(tmp_path, step=0, validated=0)
    for step in range(1, 6):
        log.step(make_step_record(step, loss=0.5 * step))
    log.validation(3, [{"step": 3, "metric": "loss", "model": 0.1}])
    log.close()
    steps = tmp_path / "steps.csv"
    whole = steps.read_text().splitlines(keepends=True)
    steps.write_text("".join(whole) + "6,1,1")  # A row that was cut off.
    log = TrainingLog(tmp_path, step=3, validated=0)
    log.step(make_step_record(4, loss=7.0))
    log.close()
    with steps.open() as file:
        assert [(row["step"], row["loss"]) for row in csv.DictReader(file)] == [
            ("1", "0.5"), ("2", "1.0"), ("3", "1.5"), ("4", "7.0"),
        ]  # fmt: skip
    assert len((tmp_path / "validation.csv").read_text().splitlines()) == 1


def test_tensorboard_drops_values_after_the_checkpoint(tmp_path: Path) -> None:
    TrainingLog(tmp_path, step=7, validated=0).close()
    starts = [event.step for event in read_events(tmp_path) if event.HasField("session_log")]
    assert starts == [8]


def test_a_full_disk_is_named_and_does_not_wait(tmp_path: Path) -> None:
    log = TrainingLog(tmp_path, step=0, validated=0)
    with small_files(), rejects("disk-full", str(tmp_path)):
        for step in range(1, 100):
            log.step(make_step_record(step))
    log.close()


@pytest.mark.parametrize("name", ["steps.csv", "validation.csv"])
def test_a_folder_in_place_of_a_table_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with rejects("not-a-file", str(tmp_path / name)):
        TrainingLog(tmp_path, step=0, validated=0)
    with rejects("not-a-folder", str(tmp_path / "file")):
        (tmp_path / "file").touch()
        TrainingLog(tmp_path / "file", step=0, validated=0)


def test_loggers_are_called_when_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list = []
    wandb = SimpleNamespace(
        init=lambda **options: SimpleNamespace(
            log=lambda values, step: said.append((step, values, options["id"]))
        )
    )
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    connect("wandb", tmp_path / "mine", {"seed": 1})(5, {"train/loss": 0.5})
    assert said == [(5, {"train/loss": 0.5}, f"{tmp_path.name}-mine")]
    mlflow = SimpleNamespace(
        start_run=lambda run_name: said.append(run_name),
        log_params=said.append,
        log_metrics=lambda values, step: said.append((step, values)),
    )
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    connect("mlflow", tmp_path / "mine", {"seed": 1})(6, {"train/loss": 0.25})
    assert said[1:] == ["mine", {"seed": "1"}, (6, {"train/loss": 0.25})]
    monkeypatch.setitem(sys.modules, "wandb", None)
    with rejects("missing-package", "training.loggers", "wandb"):
        connect("wandb", tmp_path, {})

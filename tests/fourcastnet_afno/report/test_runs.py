"""Summaries of run folders, from files written by hand."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from fourcastnet_afno.report.runs import differing_settings, find_runs, runs_table
from tests.builders.errors import rejects


def make_epoch(stage: int, epoch: int, loss: float | None) -> dict[str, Any]:
    record = {"stage": stage, "epoch": epoch, "num_steps": 1, "train_losses": [0.5]}
    return {**record, "validation_loss": loss}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A finished run, one that has a log of steps only, and folders that are no runs."""
    stages = [{"epochs": 2}, {"epochs": 1}]
    for name, seed in (("a", 0), ("b/c", 1)):
        run = tmp_path / name
        (run / "logs").mkdir(parents=True)
        settings = {"training": {"seed": seed, "stages": stages}, "paths": ["x", "y"]}
        (run / "config.yaml").write_text(yaml.safe_dump(settings))
    (tmp_path / "unstarted").mkdir()
    (tmp_path / "unstarted" / "config.yaml").write_text("")
    losses = [(1, 1, 0.5), (1, 2, None), (2, 3, 0.75)]
    history = [make_epoch(*each) for each in losses]
    (tmp_path / "a" / "history.json").write_text(json.dumps(history))
    (tmp_path / "a" / "logs" / "validation.csv").write_text(
        "step,metric,lead_hours,model,persistence,climatology\n"
        "4,loss,,0.5,,\n"
        "4,rmse,6,9,1,1\n"
        "8,loss,,0.75,,\n"
        "8,rmse,6,9,1,1\n"
        "8,rmse,12,1,2,4\n"
        "8,rmse,12,2,1,4\n"
        "9,rm"
    )
    (tmp_path / "b" / "c" / "logs" / "steps.csv").write_text(
        "step,samples_per_second\n1,10\n2,20.5\n"
    )
    return tmp_path


def test_runs_are_found_and_summarized(folder: Path) -> None:
    first, second = find_runs(folder)
    assert [first.name, second.name] == ["a", "b/c"]
    assert (first.best_loss, second.best_loss) == (0.75, None)
    assert (first.epochs, second.epochs) == ("3/3", "0/3")
    assert first.losses == [(4, 0.5), (8, 0.75)]
    assert first.skill == pytest.approx({"persistence": 1.0, "climatology": (1 / 8) ** 0.5})
    assert second.last_step == {"step": "2", "samples_per_second": "20.5"}
    assert (first.settings["paths"], second.skill) == (["x", "y"], {})


def test_a_run_folder_itself_can_be_given(folder: Path) -> None:
    (run,) = find_runs(folder / "a")
    assert run.name == "a"


def test_the_table_shows_the_settings_that_differ(folder: Path) -> None:
    runs = find_runs(folder)
    assert differing_settings(runs) == ["training.seed"]
    console = Console(width=200)
    with console.capture() as captured:
        console.print(runs_table(runs))
    header, *lines = [line.split() for line in captured.get().splitlines() if line.strip()]
    assert header[-1] == "training.seed"
    assert lines[1] == ["a", "3/3", "0.75", "1.000", "0.354", "0"]
    assert lines[2] == ["b/c", "0/3", "20.5", "1"]


def test_a_folder_without_runs_is_an_error(folder: Path) -> None:
    with rejects("missing-file", str(folder / "unstarted")):
        find_runs(folder / "unstarted")


def test_a_loss_that_is_not_finite_is_never_the_best(folder: Path) -> None:
    for name, losses in (("a", [0.75, math.nan]), ("b/c", [math.nan])):
        records = [make_epoch(1, 1, loss) for loss in losses]
        (folder / name / "history.json").write_text(json.dumps(records))
    runs = find_runs(folder)
    assert [run.best_loss for run in runs] == [0.75, None]
    log = folder / "a" / "logs" / "validation.csv"
    log.write_text(log.read_text().replace("8,rmse,12,1,", "8,rmse,12,nan,"))
    console = Console(width=200)
    with console.capture() as captured:
        console.print(runs_table(find_runs(folder)))
    assert captured.get().count("missing") == 2


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("history.json", "[{"),
        ("history.json", "[1, 2]"),
        ("history.json", '[{"stage": 1, "validation_loss": "low"}]'),
        ("history.json", "[" * 100_000),
        ("history.json", None),
        ("config.yaml", "training: {stages: 3}"),
        ("logs/validation.csv", "step,metric\n1,rmse\n"),
        ("logs/steps.csv", b"\xff\xfe\n"),
    ],
)
def test_a_record_that_no_run_writes_is_named(
    folder: Path, name: str, text: str | bytes | None
) -> None:
    broken = folder / "a" / name
    broken.unlink(missing_ok=True)
    if text is None:
        broken.mkdir()
    else:
        broken.write_bytes(text if isinstance(text, bytes) else text.encode())
    with rejects("unreadable-file", str(broken)):
        find_runs(folder)


@pytest.mark.parametrize("text", ["a: [b", "text", "seed: 1\nseed: 2"])
def test_a_configuration_that_is_no_yaml_of_settings_is_named(folder: Path, text: str) -> None:
    (folder / "a" / "config.yaml").write_text(text)
    with rejects("bad-yaml", str(folder / "a" / "config.yaml")):
        find_runs(folder)

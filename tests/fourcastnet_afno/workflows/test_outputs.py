"""Verbs lose neither their inputs nor files in a run folder that are not theirs."""

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from data_pipeline.files.outputs import check_outputs
from data_pipeline.sources.config import SourceConfig
from fourcastnet_afno.cli.main import main
from fourcastnet_afno.evaluation.config import EvaluationConfig
from fourcastnet_afno.forecaster.checkpoint import save_checkpoint
from fourcastnet_afno.forecaster.export import export_checkpoint
from fourcastnet_afno.inference.config import ForecastConfig
from fourcastnet_afno.workflows.config import ExperimentConfig
from fourcastnet_afno.workflows.outputs import (
    config_output,
    evaluation_outputs,
    prepared_inputs,
    prepared_outputs,
    save_config,
    training_outputs,
)
from fourcastnet_afno.workflows.score import evaluate_files
from fourcastnet_afno.workflows.train import train_run
from tests.builders.errors import rejects
from tests.builders.experiments import GRID, make_forecaster

FOREIGN = {
    "config.yaml": "data: mine\n",
    "history.json": '[{"epoch": 1}]',
    "logs/steps.csv": "a,b\n",
    "logs/validation.csv": "a,b\n",
    "scores.nc": "mine",
    "scores.json": "{}",
    "scores.csv": "a,b\n",
    "report.html": "<title>mine</title>",
    "figures/loss.png": "mine",
    ".evaluation.npz": "mine",
}


@pytest.mark.parametrize("name", FOREIGN)
def test_files_of_others_in_a_run_folder_are_kept(
    experiment: ExperimentConfig, tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(FOREIGN[name])
    outputs = [*prepared_outputs(experiment, tmp_path), *training_outputs(tmp_path)]
    with rejects("output-exists", str(path)):
        check_outputs([*outputs, *evaluation_outputs(experiment, tmp_path)], {})


def test_nothing_is_written_next_to_a_file_that_is_kept(
    experiment: ExperimentConfig, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "history.json").write_text("{}")
    with rejects("output-exists", "history.json"):
        train_run(experiment, run)
    assert [path.name for path in run.iterdir()] == ["history.json"]


def test_a_checkpoint_that_a_kill_has_left_under_two_names_is_one_output(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    save_checkpoint(folder / "last.safetensors", make_forecaster(GRID), {}, {})
    os.link(folder / "last.safetensors", folder / "step-00000005.safetensors")
    check_outputs(training_outputs(tmp_path), {})


def test_checkpoints_of_others_and_earlier_ones_without_the_last_are_kept(
    experiment: ExperimentConfig, tmp_path: Path
) -> None:
    last = tmp_path / "checkpoints" / "last.safetensors"
    earlier = last.with_name("step-00000003.safetensors")
    earlier.parent.mkdir()
    earlier.write_text("notes")
    with rejects("output-exists", str(earlier)):
        check_outputs(training_outputs(tmp_path), {})
    save_checkpoint(earlier, make_forecaster(GRID), {}, {"config": experiment.to_yaml()})
    check_outputs(training_outputs(tmp_path), {})
    before = earlier.read_bytes()
    with rejects("output-exists", earlier.name, last.name):
        train_run(experiment, tmp_path)
    assert earlier.read_bytes() == before
    assert [path.name for path in earlier.parent.iterdir()] == [earlier.name]


def test_a_configuration_by_hand_stays_or_is_an_error(
    experiment: ExperimentConfig, tmp_path: Path
) -> None:
    path = tmp_path / "config.yaml"
    save_config(experiment, tmp_path)
    assert path.read_text() == experiment.to_yaml()
    other = replace(experiment, forecast=ForecastConfig(num_steps=7))
    check_outputs([config_output(other, tmp_path)], {})  # what a verb has written is replaced
    by_hand = "# mine\n" + experiment.to_yaml()
    path.write_text(by_hand)
    check_outputs([config_output(experiment, tmp_path)], {})
    save_config(experiment, tmp_path)
    assert path.read_text() == by_hand
    with rejects("output-exists", str(path), "--config"):
        check_outputs([config_output(other, tmp_path)], {})
    path.write_text(re.sub(r"(?ms)^evaluation:.*", "evaluation:  # as by default\n", by_hand))
    check_outputs([config_output(replace(experiment, evaluation=EvaluationConfig()), tmp_path)], {})


def test_the_source_is_an_input_until_it_is_prepared(
    experiment: ExperimentConfig, tmp_path: Path
) -> None:
    assert prepared_inputs(experiment, tmp_path) == {"data.source.path": [tmp_path / "data.nc"]}
    (tmp_path / "data.zarr").mkdir()
    inputs = prepared_inputs(experiment, tmp_path)
    assert [list(paths) for paths in inputs.values()] == [[tmp_path / "data.zarr"]]
    assert len(prepared_outputs(experiment, tmp_path)) == 1


def test_training_does_not_replace_the_weights_it_starts_from(
    experiment: ExperimentConfig, tmp_path: Path
) -> None:
    best = tmp_path / "checkpoints" / "best.safetensors"
    best.parent.mkdir()
    training = replace(experiment.training, start_from=str(best))
    config = replace(experiment, training=training)
    save_checkpoint(best, make_forecaster(GRID), {}, {"config": config.to_yaml()})
    before = best.read_bytes()
    with rejects("output-is-input", "training.start_from", "best.safetensors"):
        train_run(config, tmp_path)
    with rejects("other-configuration", "training.start_from"):  # weights of another run
        train_run(experiment, tmp_path)
    assert best.read_bytes() == before


def test_an_export_replaces_exports_alone(tmp_path: Path) -> None:
    checkpoint, output = tmp_path / "best.safetensors", tmp_path / "model.pt2"
    save_checkpoint(checkpoint, make_forecaster(GRID), {}, {})
    (tmp_path / "model.pt2.json").write_text('{"mine": 1}')
    with rejects("output-exists", "model.pt2.json"):
        export_checkpoint(checkpoint, output, kind="torch_export")
    output.symlink_to(checkpoint)
    with rejects("output-is-input", "--checkpoint"):
        export_checkpoint(checkpoint, output, kind="torch_export")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "best.safetensors", "model.pt2", "model.pt2.json",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--output", "{folder}/truth.nc"),
        ("--output", "{folder}/sub/../truth.nc"),
        ("--report", "{folder}/truth.nc"),
        ("--state", "{folder}/truth.nc"),
        ("--state", "{folder}/scores.json"),
        ("--report", "{folder}/scores.csv"),
        ("--report", "{folder}/notes.html"),
    ],
)
def test_score_loses_no_file(
    tmp_path: Path, option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {name: f"content of {name}" for name in ("truth.nc", "f.nc", "notes.html", "c.nc")}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "sub").mkdir()
    words = {"--output": "{folder}/scores.nc", option: value}
    inputs = [f"--{name}={tmp_path}/{name[0]}*.nc" for name in ("forecast", "truth", "climatology")]
    inputs[1] = f"--truth=file://{tmp_path}/truth.nc"
    given = [f"{name}={text.format(folder=tmp_path)}" for name, text in words.items()]
    assert main(["score", *inputs, *given]) == 2
    assert value.rpartition("/")[2] in capsys.readouterr().err
    assert {p.name: p.read_text() for p in tmp_path.iterdir() if p.is_file()} == files


def test_scores_are_not_written_into_a_store_that_is_read(tmp_path: Path) -> None:
    store = tmp_path / "truth.zarr"
    store.mkdir()
    (store / "zarr.json").write_text("{}")
    source = SourceConfig(path=str(store / "group"))
    with rejects("output-is-input", "--truth", str(store)):
        evaluate_files(["f.nc"], source, source, store / "scores.nc")

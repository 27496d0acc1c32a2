from dataclasses import replace
from pathlib import Path

import pytest

from data_pipeline.errors import InputError
from data_pipeline.store.reader import PreparedStore
from fourcastnet_afno.cli.main import main
from fourcastnet_afno.forecaster.checkpoint import save_checkpoint
from fourcastnet_afno.workflows.config import ExperimentConfig
from fourcastnet_afno.workflows.prepare import (
    check_resumable,
    differing_keys,
    open_or_prepare,
    prepare_run,
    store_location,
)
from tests.builders.errors import rejects
from tests.builders.experiments import GRID, make_experiment, make_forecaster


def test_the_plan_writes_nothing(experiment: ExperimentConfig, tmp_path: Path) -> None:
    assert prepare_run(experiment, tmp_path / "run", plan=True) is None
    assert not (tmp_path / "run").exists()


def test_a_store_is_written_once_next_to_its_configuration(
    experiment: ExperimentConfig, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    store = open_or_prepare(experiment, run)
    written = (run / "data.zarr" / "zarr.json").stat().st_mtime_ns
    assert open_or_prepare(experiment, run).fingerprint == store.fingerprint
    assert (run / "data.zarr" / "zarr.json").stat().st_mtime_ns == written
    assert (run / "config.yaml").read_text() == experiment.to_yaml()
    assert store_location(experiment, run) == str(run / "data.zarr")


def test_prepare_verifies_the_store(
    experiment: ExperimentConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = prepare_run(experiment, tmp_path / "run", verify=True)
    assert isinstance(store, PreparedStore)
    assert store.fingerprint in capsys.readouterr().out
    shard = tmp_path / "run" / "data.zarr" / "fields" / "c/0/0/0/0"
    values = bytearray(shard.read_bytes())
    values[7] ^= 1
    shard.write_bytes(values)
    words = [f"--config={tmp_path / 'run' / 'config.yaml'}", f"--output={tmp_path / 'run'}"]
    assert main(["prepare", *words, "--verify"]) == 2


def test_names_of_values_that_differ() -> None:
    before = {"a": {"b": 1, "c": [1, 2]}, "d": None}
    assert differing_keys(before, before, "x") == []
    now = {"a": {"b": 2, "c": [1, 2], "new": 0}, "d": {}}
    assert differing_keys(before, now, "x") == ["x.a.b", "x.a.new", "x.d"]


@pytest.fixture
def last(tmp_path: Path) -> tuple[ExperimentConfig, Path]:
    """An experiment and the last checkpoint of its run."""
    experiment, path = make_experiment(tmp_path / "data.nc"), tmp_path / "last.safetensors"
    check_resumable(experiment, path, None)  # there is nothing to resume
    save_checkpoint(path, make_forecaster(GRID), {}, {"config": experiment.to_yaml()})
    return experiment, path


def test_a_run_resumes_with_other_operational_settings(last: tuple[ExperimentConfig, Path]) -> None:
    experiment, path = last
    check_resumable(experiment, path, None)
    training = replace(experiment.training, device="cpu", log_every=7, keep_last=3)
    check_resumable(replace(experiment, training=training), path, None)
    # What comes after the training may be anything.
    forecast = replace(experiment.forecast, num_steps=99)
    check_resumable(replace(experiment, forecast=forecast), path, None)


def test_another_configuration_is_named(last: tuple[ExperimentConfig, Path]) -> None:
    experiment, path = last
    model = replace(experiment.model, prediction="direct")
    training = replace(experiment.training, gradient_clip=0.5)
    changed = replace(experiment, model=model, training=training)
    with rejects("other-configuration", "model.prediction", "training.gradient_clip"):
        check_resumable(changed, path, None)
    with rejects("other-configuration", "a diagnostic head", "abc"):
        check_resumable(experiment, path, "abc")


@pytest.mark.parametrize("text", ["data: [", "data: {prognostic: 3}", ""])
def test_a_run_whose_configuration_cannot_be_read_is_named(
    last: tuple[ExperimentConfig, Path], text: str
) -> None:
    config, path = last
    save_checkpoint(path, make_forecaster(GRID), {}, {"config": text})
    with pytest.raises(InputError, match=r"last\.safetensors cannot resume.* --output"):
        check_resumable(config, path, None)

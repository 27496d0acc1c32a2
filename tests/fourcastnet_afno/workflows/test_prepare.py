from pathlib import Path

import pytest

from data_pipeline.store.reader import PreparedStore
from fourcastnet_afno.cli.main import main
from fourcastnet_afno.workflows.config import ExperimentConfig
from fourcastnet_afno.workflows.prepare import open_or_prepare, prepare_run, store_location
from tests.builders.experiments import make_dataset, make_experiment


@pytest.fixture
def experiment(tmp_path: Path) -> ExperimentConfig:
    make_dataset().to_netcdf(tmp_path / "data.nc")
    return make_experiment(tmp_path / "data.nc")


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

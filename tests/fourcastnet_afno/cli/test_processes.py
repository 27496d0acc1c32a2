"""Verbs and the number of processes."""

from pathlib import Path

import pytest

from fourcastnet_afno.cli.main import main
from tests.builders.experiments import make_experiment


def test_only_training_takes_several_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    config = tmp_path / "config.yaml"
    config.write_text(make_experiment(tmp_path / "data.nc").to_yaml())
    assert main(["evaluate", f"--config={config}", f"--output={tmp_path}"]) == 2
    assert "2 were started" in capsys.readouterr().err

import json
from pathlib import Path

import pytest

from fourcastnet_afno.cli import functions, main
from fourcastnet_afno.cli.parser import parse
from tests.builders.experiments import make_dataset, make_experiment


def test_a_function_is_called_with_what_is_parsed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_dataset().to_netcdf(tmp_path / "data.nc")
    experiment = make_experiment(tmp_path / "data.nc")
    (tmp_path / "e.yaml").write_text(experiment.to_yaml())
    words = [f"--config={tmp_path / 'e.yaml'}", f"--output={tmp_path / 'run'}"]
    arguments = parse("prepare", [*words, "--plan"])
    assert arguments["config"] == experiment
    functions.prepare_verb(**arguments)
    assert not (tmp_path / "run").exists()
    assert main(["prepare", *words]) == 0
    assert (tmp_path / "run" / "data.zarr").exists()
    capsys.readouterr()
    code = main(["doctor", *words, "--json", "--measure=false"])
    report = json.loads(capsys.readouterr().out)
    assert (code, report["ok"]) in ((0, True), (1, False))

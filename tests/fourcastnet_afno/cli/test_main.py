import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from jsonargparse import ArgumentParser

from fourcastnet_afno.cli.main import build_parser, main
from fourcastnet_afno.forecaster.checkpoint import load_forecaster
from fourcastnet_afno.training.config import Stage
from tests.builders.experiments import GRID, make_dataset, make_experiment

ROOT = Path(__file__).parents[3]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


@pytest.fixture(scope="module")
def parser() -> ArgumentParser:
    return build_parser()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_recipe_parses(path: Path, parser: ArgumentParser) -> None:
    parser.instantiate(parser.parse_args(["train", f"--config={path}"]))


def test_the_embedded_quickstart_is_the_recipe() -> None:
    embedded = ROOT / "fourcastnet_afno" / "quickstart.yaml"
    assert embedded.read_text() == (ROOT / "configs" / "quickstart.yaml").read_text()


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--training.sede=1"], "training.sede"),
        (["--training.batch_size=many"], "training.batch_size"),
        (["--model.network.embed_dim=30"], "num_blocks must divide embed_dim"),
        (["--data.train.end=2030-01-01"], "data.train must end before data.validation"),
    ],
)
def test_wrong_settings_are_refused_by_name(
    words: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["train", f"--config={CONFIGS[0]}", *words])
    assert stop.value.code == 2
    assert named in capsys.readouterr().err


def test_a_verb_without_config_says_what_it_needs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", f"--output={tmp_path}"]) == 2
    assert "needs --config FILE" in capsys.readouterr().err


@pytest.mark.parametrize(
    "verb", ["prepare", "train", "forecast", "evaluate", "quickstart", "doctor"]
)
def test_help_lists_the_settings(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert "--training.batch_size" in text
    assert "Windows in a batch" in text


def test_an_unwritable_output_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("in the way")
    words = [
        f"--config={ROOT / 'configs' / 'quickstart.yaml'}",
        f"--output={tmp_path / 'file/run'}",
    ]
    assert main(["prepare", *words]) == 2
    assert "choose another folder" in capsys.readouterr().err


def test_ctrl_c_leaves_a_usable_checkpoint_and_says_how_to_go_on(tmp_path: Path) -> None:
    make_dataset().to_netcdf(tmp_path / "data.nc")
    endless = make_experiment(tmp_path / "data.nc", stages=[Stage(epochs=100_000)])
    (tmp_path / "endless.yaml").write_text(endless.to_yaml())
    words = ["train", f"--config={tmp_path / 'endless.yaml'}", f"--output={tmp_path / 'run'}"]
    run = subprocess.Popen(
        [sys.executable, "-m", "fourcastnet_afno", *words], stderr=subprocess.PIPE, text=True
    )
    last = tmp_path / "run" / "checkpoints" / "last.safetensors"
    while not last.exists() and run.poll() is None:
        time.sleep(0.05)
    run.send_signal(signal.SIGINT)
    _, message = run.communicate(timeout=60)
    assert run.returncode == 130
    assert f"Go on with: fourcastnet-afno {' '.join(words)}" in message
    state = torch.zeros(1, 2, 2, *GRID.shape)
    assert load_forecaster(last)(state, torch.zeros(1, 1, *GRID.shape)).isfinite().all()

import os
import signal
import sys
import time
from pathlib import Path

import fsspec
import pytest
import torch

from data_pipeline.preparation.config import DataConfig
from data_pipeline.simulation.config import PDEConfig
from data_pipeline.simulation.trajectories import Splits
from data_pipeline.yaml_text import read_settings
from fourcastnet_afno.cli import main
from fourcastnet_afno.cli.run_verb import (
    complete,
    require_plain_config,
    with_local_checkpoints,
    with_long_names,
)
from fourcastnet_afno.forecaster.checkpoint import load_forecaster, save_checkpoint
from fourcastnet_afno.training.config import Stage
from fourcastnet_afno.workflows.config import ExperimentConfig
from tests.builders.errors import rejects
from tests.builders.experiments import GRID, make_dataset, make_experiment, make_forecaster
from tests.builders.processes import start

ROOT = Path(__file__).parents[3]
QUICKSTART = f"--config={ROOT / 'configs' / 'quickstart.yaml'}"


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["train", QUICKSTART, "--training.sede=1"], "training.seed"),
        (["train", "--config=nowhere.yaml"], "nowhere.yaml"),
        (["export"], "checkpoint"),
        (["train", "--output"], "--output needs a value"),
        (["forecast", "--output", "--config=a.yaml"], "--output needs a value"),
        (["train", QUICKSTART, "--training.seed"], "training.seed"),
        (["doctor", "--config"], "--config needs a value"),
        (["doctor", QUICKSTART, "--sample_mib=0"], "sample_mib"),
        (["runs", "nowhere"], "nowhere"),
        (["runs", "[/x][red]\x1b[31m"], r"[/x][red]\x1b[31m"),
    ],
)
def test_mistakes_are_one_red_line(
    words: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert named in line


def test_an_unwritable_output_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("in the way")
    assert main(["prepare", QUICKSTART, f"--output={tmp_path / 'file/run'}"]) == 2
    assert str(tmp_path / "file/run") in capsys.readouterr().err


def test_verbs_of_one_process_reject_a_launcher(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    launched = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost"}
    for name, value in (launched | {"MASTER_PORT": "1"}).items():
        monkeypatch.setenv(name, value)
    assert main(["prepare", QUICKSTART]) == 2
    assert "`prepare`" in capsys.readouterr().err


def main_with_errors_in(path: Path, words: list[str]) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with path.open("w") as sys.stderr:
        code = main(words)
    sys.exit(code)


def test_ctrl_c_leaves_a_usable_checkpoint_and_the_command_to_resume(tmp_path: Path) -> None:
    make_dataset().to_netcdf(tmp_path / "data.nc")
    endless = make_experiment(tmp_path / "data.nc", stages=[Stage(epochs=100_000)])
    (tmp_path / "endless.yaml").write_text(endless.to_yaml())
    words = ["train", f"--config={tmp_path / 'endless.yaml'}", f"--output={tmp_path / 'run'}"]
    run = start(main_with_errors_in, tmp_path / "errors.txt", words)
    last = tmp_path / "run" / "checkpoints" / "last.safetensors"
    while not last.exists() and run.is_alive():
        time.sleep(0.05)
    assert run.pid
    os.kill(run.pid, signal.SIGINT)
    run.join(300)
    assert run.exitcode == 130
    message = (tmp_path / "errors.txt").read_text()
    assert f"Resume with: fourcastnet-afno {' '.join(words)}" in message
    state = torch.zeros(1, 2, 2, *GRID.shape)
    assert load_forecaster(last)(state, torch.zeros(1, 1, *GRID.shape)).isfinite().all()


def test_secrets_of_urls_in_settings_that_are_paths_are_not_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_dataset().to_netcdf(tmp_path / "data.nc")
    config = make_experiment(tmp_path / "data.nc", stages=[Stage(epochs=1)])
    (tmp_path / "c.yaml").write_text(config.to_yaml())
    words = [f"--config={tmp_path / 'c.yaml'}", f"--output={tmp_path / 'run'}"]
    start = "--training.start_from=https://me:hidd3n-passw0rd@host/best.safetensors"
    assert main(["train", *words, start]) == 2
    text = capsys.readouterr().err
    assert "host/best.safetensors" in text
    assert "hidd3n" not in text


def test_short_options_stand_for_settings() -> None:
    words = ["--source=a=b", "--init-times", "2001", "--steps", "3", "--members=2"]
    assert with_long_names("forecast", words) == [
        "--source.path=a=b", "--forecast.init_times", "2001",
        "--forecast.num_steps", "3", "--forecast.ensemble.num_members=2",
    ]  # fmt: skip
    assert with_long_names("train", ["--steps=3"]) == ["--steps=3"]


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["my.yaml", "--json"], ["--config=my.yaml", "--json"]),
        (["--json", "my.yaml"], ["--json", "--config=my.yaml"]),
        (["--output", "run", "my.yaml"], ["--output", "run", "--config=my.yaml"]),
        (["--measure=false", "my.yaml"], ["--measure=false", "--config=my.yaml"]),
    ],
)
def test_the_doctor_takes_a_file_without_option(words: list[str], completed: list[str]) -> None:
    assert complete("doctor", words) == ("doctor", completed)


def test_evaluate_with_forecasts_is_score() -> None:
    words = ["--forecast=a.zarr", "--truth", "b.zarr"]
    assert complete("evaluate", words) == ("score", ["--forecast=a.zarr", "--truth.path", "b.zarr"])
    given = ["--config=c.yaml", "--forecast.num_steps=3"]
    assert complete("evaluate", given) == ("evaluate", given)


def test_a_run_folder_gives_its_configuration(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").touch()
    words = [f"--output={tmp_path}"]
    assert complete("train", words) == ("train", [f"--config={tmp_path}/config.yaml", *words])
    given = [*words, "--config", "other.yaml"]
    assert complete("train", given) == ("train", given)
    assert complete("train", [*words, "--help"]) == ("train", [*words, "--help"])


def test_the_quickstart_brings_its_experiment_and_others_need_one(tmp_path: Path) -> None:
    words = [f"--output={tmp_path}"]
    name, (config, *rest) = complete("quickstart", words)
    assert (name, Path(config).name, rest) == ("quickstart", "quickstart.yaml", words)
    with rejects("no-config", "--config FILE", str(tmp_path)):
        complete("train", words)


@pytest.mark.parametrize("place", ["none.safetensors", "to-nothing.safetensors", "."])
def test_a_checkpoint_that_is_no_file_is_named(tmp_path: Path, place: str) -> None:
    (tmp_path / "to-nothing.safetensors").symlink_to("none.safetensors")
    path = tmp_path / place
    with rejects("no-checkpoint", str(path)):
        complete("forecast", [f"--checkpoint={path}", f"--output={tmp_path}/f.zarr"])


EQUATION = "strange.py:Mine"


@pytest.fixture
def experiment_with_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ExperimentConfig:
    """An experiment whose equation is code in a file that notes that it ran."""
    monkeypatch.chdir(tmp_path)
    Path("strange.py").write_text(
        "import pathlib\nfrom data_pipeline.simulation.equations import GrayScott as Mine\n"
        "pathlib.Path('ran').touch()\n"
    )
    splits = Splits(train=2, validation=2, test=2)
    pde = PDEConfig(equation=EQUATION, resolution=[8, 8], num_steps=2, trajectories=splits)
    return ExperimentConfig(data=DataConfig.of_pde(pde, prognostic=["u"]))


def test_a_mistake_in_the_experiment_of_a_checkpoint_names_the_checkpoint(tmp_path: Path) -> None:
    config = "data: {source: {path: a.nc}, allow_gaps: -6}"
    save_checkpoint(tmp_path / "c.safetensors", make_forecaster(), {}, {"config": config})
    with rejects("bad-setting", "c.safetensors", "allow_gaps", "-6", "--config"):
        complete("forecast", [f"--checkpoint={tmp_path}/c.safetensors", f"--output={tmp_path}/f"])


@pytest.mark.parametrize("place", ["checkpoint", "config.yaml"])
def test_code_that_a_checkpoint_or_a_run_folder_names_is_not_run(
    place: str, experiment_with_code: ExperimentConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("ran").unlink()
    words = ["forecast", "--output=run", "--checkpoint=c.safetensors"]
    config = experiment_with_code.to_yaml()
    save_checkpoint(Path("c.safetensors"), make_forecaster(), {}, {"config": config})
    if place == "config.yaml":
        Path("run").mkdir()
        Path("run/config.yaml").write_text(config)
        words = ["prepare", "--output=run"]
    assert main(words) == 2
    message = capsys.readouterr().err
    assert EQUATION in message
    assert f"--data.pde.equation={EQUATION}" in message
    assert not Path("ran").exists()
    if place == "config.yaml":
        assert main([*words, f"--data.pde.equation={EQUATION}"]) == 0
        assert Path("ran").exists()


def test_code_in_a_file_of_the_user_is_run(experiment_with_code: ExperimentConfig) -> None:
    Path("ran").unlink()
    Path("mine.yaml").write_text(experiment_with_code.to_yaml())
    assert main(["prepare", "--config", "mine.yaml", "--output=run"]) == 0
    assert Path("ran").exists()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("model: {class_path: strange.Class}", "foreign-code"),
        ("model: strange.Class", "bad-setting"),
        ("/etc/hostname", "bad-yaml"),
        ("model: {depth: 1}\nmodel: {}", "bad-yaml"),
    ],
)
def test_an_experiment_of_others_holds_plain_settings(text: str, code: str) -> None:
    with rejects(code, "run/config.yaml"):
        require_plain_config(read_settings(text, "run/config.yaml"), "run/config.yaml")


def test_checkpoints_can_be_urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path, url = tmp_path / "best.safetensors", "memory://for-words/best.safetensors"
    save_checkpoint(path, make_forecaster(), {}, {})
    fsspec.filesystem("memory").put_file(str(path), "/for-words/best.safetensors")
    words = ["--checkpoint", url, "--source=https://host/a.zarr", f"--checkpoint={url}"]
    _, first, source, second = with_local_checkpoints(words)
    assert Path(first).read_bytes() == path.read_bytes()
    assert source == words[2]
    assert second == f"--checkpoint={first}"
    with rejects("missing-file", "memory://for-words/none.safetensors"):
        with_local_checkpoints(["--checkpoint=memory://for-words/none.safetensors"])

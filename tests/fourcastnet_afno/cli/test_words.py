from pathlib import Path

import pytest

from fourcastnet_afno.cli.words import complete, with_long_names
from tests.builders.errors import rejects


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

"""Secrets of a source: the config.yaml of the run has them, and nothing else does."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from data_pipeline.sources.config import SourceConfig
from fourcastnet_afno.cli import main
from fourcastnet_afno.evaluation.config import EvaluationConfig
from fourcastnet_afno.forecaster.checkpoint import read_checkpoint
from fourcastnet_afno.training.config import Stage
from fourcastnet_afno.workflows.config import ExperimentConfig
from tests.builders.experiments import make_dataset, make_experiment

SECRETS = ("hidd3n-key", "hidd3n-t0ken", "hidd3n-passw0rd")


def make_secret_experiment(key: str, token: str, password: str) -> ExperimentConfig:
    """A tiny experiment on data in memory, which takes any options."""
    source = SourceConfig(
        path="memory://data.zarr",
        storage_options={
            "key": key,
            "client_kwargs": {
                "headers": {"Authorization": f"Bearer {token}", "X-Ours": token},
                "endpoint_url": f"https://me:{password}@minio.example",
            },
        },
    )
    config = make_experiment(Path("unused"), stages=[Stage(epochs=1)])
    return replace(
        config,
        data=replace(config.data, source=source),
        evaluation=EvaluationConfig(spectra=False, maps=False, num_resamples=0),
    )


@pytest.fixture(autouse=True)
def data_in_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    make_dataset().to_zarr("memory://data.zarr", mode="w", zarr_format=2)


def run(words: str, config: ExperimentConfig | None = None) -> int:
    if config is not None:
        Path("mine.yaml").write_text(config.to_yaml(with_secrets=True))
        words += " --config=mine.yaml"
    return main(words.split())


def require_no_secret(text: str | bytes, place: object) -> None:
    content = text.encode() if isinstance(text, str) else text
    assert not [secret for secret in SECRETS if secret.encode() in content], place


def test_no_artifact_and_no_message_of_a_run_has_a_secret(
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = make_secret_experiment(*SECRETS)
    assert run("quickstart --output=run", config) == 0
    assert run("doctor --json --measure=false --output=run", config) in (0, 1)
    assert run("runs run") == 0
    assert run("train --output=run --training.seed=7") == 2
    files = [file for file in Path("run").rglob("*") if file.is_file()]
    assert len(files) > 20
    for file in files:
        if file != Path("run/config.yaml"):
            require_no_secret(file.read_bytes(), file)
    kept = Path("run/config.yaml")
    assert all(secret in kept.read_text() for secret in SECRETS)
    assert kept.stat().st_mode & 0o777 == 0o600
    require_no_secret("".join(capsys.readouterr()), "the terminal")
    metadata = read_checkpoint(Path("run/checkpoints/last.safetensors"), "none")[1]
    require_no_secret(json.dumps(metadata), "the checkpoint")


def test_a_secret_that_is_rotated_is_no_other_configuration() -> None:
    config = make_secret_experiment(*SECRETS)
    assert run("prepare --output=run", config) == 0
    Path("run/config.yaml").chmod(0o644)
    assert run("prepare --output=run", config) == 0
    assert Path("run/config.yaml").stat().st_mode & 0o777 == 0o600
    rotated = make_secret_experiment("an0ther-key", "an0ther-t0ken", "an0ther-passw0rd")
    assert run("prepare --output=run", rotated) == 0
    assert "an0ther-key" in Path("run/config.yaml").read_text()
    assert config.data.store_settings() == rotated.data.store_settings()


def test_a_secret_that_was_left_out_is_named_where_it_is_needed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("of_checkpoint.yaml").write_text(make_secret_experiment(*SECRETS).to_yaml())
    assert run("prepare --output=run --config=of_checkpoint.yaml") == 2
    assert "data.source.storage_options.key" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_resumes_with_a_rotated_secret() -> None:
    assert run("train --output=run", make_secret_experiment(*SECRETS)) == 0
    rotated = make_secret_experiment("an0ther-key", "an0ther-t0ken", "an0ther-passw0rd")
    before = Path("run/checkpoints/last.safetensors").read_bytes()
    assert run("train --output=run", rotated) == 0
    assert Path("run/checkpoints/last.safetensors").read_bytes() == before
    assert "an0ther-key" in Path("run/config.yaml").read_text()
    options = {"client_kwargs": {"endpoint_url": "https://minio.example", "headers": {}}}
    source = SourceConfig(path="memory://data.zarr", storage_options=options)
    without = replace(rotated, data=replace(rotated.data, source=source))
    assert run("train --output=run", without) == 0  # from the environment


@pytest.mark.parametrize(
    "words",
    [
        "--data.source.storage_options.key=hidd3n-key --data.source.storage_options=3",
        "--data.source.storage_options=hidd3n-key:",
        "--data.source.path=https://me:hidd3n-passw0rd@127.0.0.1:9/a.zarr?sig=hidd3n-key",
    ],
)
def test_mistakes_do_not_show_secrets(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    config = make_secret_experiment(*SECRETS)
    Path("mine.yaml").write_text(config.to_yaml(with_secrets=True))
    assert run(f"prepare --output=run --config=mine.yaml {words}") == 2
    require_no_secret("".join(capsys.readouterr()), words)


def test_printed_settings_do_not_show_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run("train --print_config", make_secret_experiment(*SECRETS))
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    require_no_secret(printed, "settings")
    assert "minio.example" in printed


def test_wrong_yaml_does_not_show_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    text = make_secret_experiment(*SECRETS).to_yaml(with_secrets=True)
    for wrong in (text.replace("key: ", "key: : "), text + "\n  [", text.replace("key:", "key: [")):
        Path("wrong.yaml").write_text(wrong)
        assert run("prepare --output=run --config=wrong.yaml") == 2
        require_no_secret("".join(capsys.readouterr()), wrong)

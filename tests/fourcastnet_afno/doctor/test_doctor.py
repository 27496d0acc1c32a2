"""The verb: its document, its exit codes, and the speeds that it measures."""

import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import xarray as xr
from rich.console import Console

from data_pipeline.doctor.examination import examine
from data_pipeline.doctor.findings import CHECKS, Report
from data_pipeline.doctor.times import PeriodNeeds
from data_pipeline.errors import InputError
from data_pipeline.periods import SubsetConfig
from fourcastnet_afno.cli.main import main
from fourcastnet_afno.cli.parser import parse
from fourcastnet_afno.doctor.doctor import diagnose, show, training_windows
from fourcastnet_afno.doctor.machine import Timing
from fourcastnet_afno.losses.config import LossConfig
from fourcastnet_afno.models.config import Padding
from fourcastnet_afno.training.config import Stage, ValidationConfig
from fourcastnet_afno.workflows.config import ExperimentConfig
from fourcastnet_afno.workflows.prepare import prepare_run
from fourcastnet_afno.workflows.train import train_run
from tests.builders.experiments import make_dataset, make_experiment, make_untrained_run

ROOT = Path(__file__).parents[3]
NCEP = ROOT / "../shared/data/ncep_slp_daily_natlantic_2001-2010.nc"


@pytest.fixture
def config(tmp_path: Path) -> ExperimentConfig:
    make_dataset().to_netcdf(tmp_path / "data.nc")
    return make_experiment(tmp_path / "data.nc")


def recipe(name: str) -> ExperimentConfig:
    return parse("train", [f"--config={ROOT / 'configs' / name}"])["config"]


def serious(report: Report) -> list[Any]:
    return [finding for finding in report.findings if finding.severity != "info"]


def test_the_quickstart_is_clean(tmp_path: Path) -> None:
    report = diagnose(recipe("quickstart.yaml"), tmp_path)
    assert serious(report) == []
    assert report.facts["time"]["num_times"] == 8 * 360 * 4
    assert report.facts["disk"]["store_bytes"] == 4 * 11520 * 4 * 32 * 64


@pytest.mark.skipif(not NCEP.exists(), reason="needs NCEP's file in ../shared/data")
def test_the_ncep_recipe_is_clean(tmp_path: Path) -> None:
    config = recipe("ncep_slp_daily.yaml")
    assert config.data.source is not None
    source = replace(config.data.source, path=str(NCEP))
    config = replace(config, data=replace(config.data, source=source))
    report = diagnose(config, tmp_path)
    assert serious(report) == []
    assert report.facts["layout"]["latitude_order"] == "south to north"
    assert report.facts["grid"]["coverage"] == "regional"


def run(words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    code = main(["doctor", *words])
    return code, json.loads(capsys.readouterr().out)


SECTIONS = {
    "source",
    "versions",
    "time",
    "layout",
    "store",
    "grid",
    "sample",
    "variables",
    "disk",
    "machine",
    "throughput",
}


@pytest.mark.parametrize("form", ["{file}", "--config={file}", "--config {file}", "--json {file}"])
def test_the_document_has_a_stable_shape(
    form: str, config: ExperimentConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "e.yaml").write_text(config.to_yaml())
    words = form.format(file=tmp_path / "e.yaml").split()
    words += ["--measure=false", f"--output={tmp_path / 'run'}"]
    code, document = run(words + ["--json"] * ("--json" not in words), capsys)
    assert code == 0
    assert set(document) == {"format", "ok", "counts", "findings", "facts"}
    assert (document["format"], document["ok"]) == (1, True)
    assert set(document["facts"]) == SECTIONS
    assert document["counts"]["error"] == 0
    severities = [finding["severity"] for finding in document["findings"]]
    assert severities
    assert {s: severities.count(s) for s in ("error", "warning", "info")} == document["counts"]
    keys = {"check", "severity", "what", "where", "why", "remedy"}
    assert all(set(finding) == keys for finding in document["findings"])
    assert not (tmp_path / "run").exists()


def test_overrides_errors_and_exit_codes(
    config: ExperimentConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "e.yaml").write_text(config.to_yaml())
    words = [str(tmp_path / "e.yaml"), f"--output={tmp_path / 'run'}", "--measure=false"]
    code, document = run([*words, "--json", "--data.timestep_hours", "12"], capsys)
    assert (code, document["ok"]) == (1, False)
    assert document["findings"][0]["severity"] == "error"
    assert "12 h" in document["findings"][0]["what"]
    assert main(["doctor", *words, "--data.timestep_hours=many"]) == 2


def test_progress_bars_stay_out_of_the_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        str(ROOT / "configs" / "quickstart.yaml"),
        "--json",
        "--measure=false",
        f"--output={tmp_path}",
    ]
    code, document = run(words, capsys)
    assert (code, document["facts"]["source"]["origin"]) == (0, "simulation")


def test_people_read_what_where_why_and_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_dataset()
    data["2m_temperature"] -= 273.15
    data["2m_temperature"].attrs["units"] = "K"
    data.to_netcdf(tmp_path / "data.nc")
    (tmp_path / "e.yaml").write_text(make_experiment(tmp_path / "data.nc").to_yaml())
    words = ["doctor", str(tmp_path / "e.yaml"), f"--output={tmp_path}", "--measure=false"]
    assert main(words) == 1
    text = capsys.readouterr().out
    for part in ("error: values of", "[units]", "2m_temperature", CHECKS["units"], "add 273.15"):
        assert part in text
    assert "6 x 12, regular" in text
    assert "1 error" in text


def test_after_prepare_loader_and_model_are_measured(
    config: ExperimentConfig, tmp_path: Path
) -> None:
    timing = Timing(seconds=0.02)
    before = diagnose(config, tmp_path / "run", timing=timing).facts["throughput"]
    assert before["loader"] is None
    assert before["model"]["samples_per_second"] > 0
    prepare_run(config, tmp_path / "run")
    report = diagnose(config, tmp_path / "run", timing=timing)
    assert report.num_errors == 0
    rates = report.facts["throughput"]
    loader, model = (rates[name]["samples_per_second"] for name in ("loader", "model"))
    assert rates["ratio"] == pytest.approx(loader / model)
    json.dumps(report.to_json(), allow_nan=False)


def test_the_windows_of_training_are_measured(config: ExperimentConfig, tmp_path: Path) -> None:
    """Windows of data.subset, from the store that data.store names."""
    data = replace(config.data, subset=SubsetConfig(stride=10), store=str(tmp_path / "shared.zarr"))
    config = replace(config, data=data)
    prepare_run(config, tmp_path / "run")
    examination = examine(config.data, str(tmp_path / "shared.zarr"), PeriodNeeds())
    windows = training_windows(config, examination)
    assert windows is not None
    assert len(windows) == 6  # of the 58 windows of three states within 60 days
    report = diagnose(config, tmp_path / "run")
    assert report.facts["store"]["path"] == str(tmp_path / "shared.zarr")


def test_nothing_is_measured_on_a_device_that_is_not_there(
    config: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    training = replace(config.training, device="cuda")
    config = replace(config, training=training)
    report = diagnose(config, tmp_path / "run", timing=Timing(seconds=0.02))
    assert [finding.check for finding in serious(report)] == ["device"]
    assert report.facts["throughput"]["model"] is None


def test_a_model_that_does_not_suit_the_grid_is_found(
    config: ExperimentConfig, tmp_path: Path
) -> None:
    make_dataset().isel(longitude=slice(0, 6)).to_netcdf(tmp_path / "data.nc")
    wrapped = replace(config.model.network, padding=Padding(longitude="wrap"))
    model = replace(config.model, network=wrapped)
    (finding,) = serious(diagnose(replace(config, model=model), tmp_path / "run"))
    assert (finding.check, finding.severity) == ("model", "error")
    assert "longitude=wrap" in finding.what


def test_windows_of_the_longest_stage_are_asked_for(
    config: ExperimentConfig, tmp_path: Path
) -> None:
    training = replace(config.training, stages=[Stage(num_steps=30)])
    findings = serious(diagnose(replace(config, training=training), tmp_path))
    assert [finding.where for finding in findings] == ["data.validation"]


def test_the_weights_of_the_paper_are_told(config: ExperimentConfig, tmp_path: Path) -> None:
    def told(**settings: Any) -> list[str]:  # noqa: ANN401
        network = replace(config.model.network, **settings)
        changed = replace(config, model=replace(config.model, network=network))
        findings = diagnose(changed, tmp_path).findings
        return [finding.where for finding in findings if finding.check == "wavenumbers"]

    assert told() == ["model.network.wavenumber_weights"]
    assert told(wavenumber_weights="kernel") == told(mixer="fno") == []
    assert told(mode_selection="fourcastnet") == []


def test_every_check_is_documented() -> None:
    text = (ROOT / "docs" / "doctor.md").read_text()
    assert all(f"`{check}`" in text for check in CHECKS)
    for section in SECTIONS:
        assert f"`{section}`" in text


def test_data_that_cannot_be_opened_still_gives_a_document(
    config: ExperimentConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data.nc").write_bytes(b"nothing")
    (tmp_path / "e.yaml").write_text(config.to_yaml())
    code, document = run([str(tmp_path / "e.yaml"), "--json", f"--output={tmp_path}"], capsys)
    assert code == 1
    assert [f["check"] for f in document["findings"] if f["severity"] == "error"] == ["source"]
    assert document["facts"]["throughput"]["model"] is None


def test_show_needs_no_facts_that_are_missing(tmp_path: Path, config: ExperimentConfig) -> None:
    xr.Dataset({"a": ("x", [1.0])}).to_netcdf(tmp_path / "data.nc")
    report = diagnose(config, tmp_path / "run")
    assert report.num_errors == 1
    console = Console(record=True, file=io.StringIO())
    show(report, console)
    assert "not measured" in console.export_text()


@pytest.mark.parametrize(
    ("training", "check", "named"),
    [
        ({"validation": ValidationConfig(num_steps=18)}, "split-windows", "validation.num_steps"),
        ({"loss": LossConfig(channel_weights={"z500": 1.0})}, "model", "z500"),
        ({"start_from": "none.safetensors"}, "model", "none.safetensors"),
    ],
)
def test_what_train_rejects_at_its_start_is_an_error(
    config: ExperimentConfig, tmp_path: Path, training: dict, check: str, named: str
) -> None:
    """The validation period has 19 days, a rollout of 18 from a history of two needs 20."""
    config = replace(config, training=replace(config.training, **training))
    (found,) = [f for f in diagnose(config, tmp_path / "run").findings if f.severity == "error"]
    assert found.check == check
    assert named in f"{found.what} {found.remedy}"
    with pytest.raises(InputError):
        train_run(config, tmp_path / "run")


def test_a_damaged_checkpoint_of_the_run_is_an_error(
    config: ExperimentConfig, tmp_path: Path
) -> None:
    checkpoint, _ = make_untrained_run(config, tmp_path / "run")
    raw = bytearray(checkpoint.read_bytes())
    raw[-1] ^= 1
    (checkpoint.parent / "last.safetensors").write_bytes(raw)
    findings = diagnose(config, tmp_path / "run").findings
    assert any("last.safetensors is damaged" in found.what for found in findings)


@pytest.mark.parametrize(
    ("count", "named"),
    [
        (0, "expected a series along one axis that is not empty"),
        (1, "data.train (2001-01-01 to 2001-03-01) holds 1 states"),
    ],
)
def test_a_source_of_no_or_one_time_is_an_error(tmp_path: Path, count: int, named: str) -> None:
    make_dataset().isel(time=slice(count)).to_netcdf(tmp_path / "data.nc")
    report = diagnose(make_experiment(tmp_path / "data.nc"), tmp_path / "run")
    (found,) = [finding for finding in report.findings if finding.severity == "error"]
    assert named in found.what
    show(report, Console(file=io.StringIO()))

"""The verb: its document, its exit codes, and what it says of machine and speed."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import xarray as xr
import yaml

from data_pipeline.doctor.findings import CHECKS, Report
from data_pipeline.loading.windows import WindowDataset
from data_pipeline.periods import SubsetConfig
from fourcastnet_afno.cli.main import build_parser, main
from fourcastnet_afno.doctor import doctor as doctor_module
from fourcastnet_afno.doctor import machine
from fourcastnet_afno.doctor.doctor import diagnose
from fourcastnet_afno.models.layers import Padding
from fourcastnet_afno.training.config import Stage, TrainingConfig
from fourcastnet_afno.workflows.config import ExperimentConfig
from fourcastnet_afno.workflows.prepare import prepare_run
from tests.builders.experiments import make_dataset, make_experiment

ROOT = Path(__file__).parents[3]
NCEP = ROOT / "../shared/data/ncep_slp_daily_natlantic_2001-2010.nc"


@pytest.fixture
def config(tmp_path: Path) -> ExperimentConfig:
    make_dataset().to_netcdf(tmp_path / "data.nc")
    return make_experiment(tmp_path / "data.nc")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_SECONDS", 0.02)


def recipe(name: str) -> ExperimentConfig:
    parser = build_parser()
    options = parser.instantiate(
        parser.parse_args(["train", f"--config={ROOT / 'configs' / name}"])
    )
    parts = {key: options.train[key] for key in ("data", "model", "training", "forecast")}
    return ExperimentConfig(**parts)


def serious(report: Report) -> list[Any]:
    return [finding for finding in report.findings if finding.severity != "info"]


def test_the_quickstart_is_clean(tmp_path: Path) -> None:
    report = diagnose(recipe("quickstart.yaml"), tmp_path, measure=False)
    assert serious(report) == []
    assert report.facts["time"]["num_times"] == 8 * 360 * 4
    assert report.facts["disk"]["store_bytes"] == 4 * 11520 * 4 * 32 * 64


@pytest.mark.skipif(not NCEP.exists(), reason="needs NCEP's file in ../shared/data")
def test_the_ncep_recipe_is_clean(tmp_path: Path) -> None:
    given = recipe("ncep_slp_daily.yaml")
    assert given.data.source is not None
    source = replace(given.data.source, path=str(NCEP))
    given = replace(given, data=replace(given.data, source=source))
    report = diagnose(given, tmp_path, measure=False)
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
    with pytest.raises(SystemExit) as stop:
        main(["doctor", *words, "--data.timestep_hours=many"])
    assert stop.value.code == 2


def test_progress_bars_stay_out_of_the_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = yaml.safe_load((ROOT / "configs" / "quickstart.yaml").read_text())
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(given))
    words = [str(tmp_path / "e.yaml"), "--json", "--measure=false", f"--output={tmp_path}"]
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
    config: ExperimentConfig, tmp_path: Path, quick: None
) -> None:
    before = diagnose(config, tmp_path / "run").facts["throughput"]
    assert before["loader"] is None
    assert before["model"]["samples_per_second"] > 0
    prepare_run(config, tmp_path / "run")
    report = diagnose(config, tmp_path / "run")
    assert report.num_errors == 0
    rates = report.facts["throughput"]
    loader, model = (rates[name]["samples_per_second"] for name in ("loader", "model"))
    assert rates["ratio"] == pytest.approx(loader / model)
    json.dumps(report.to_json(), allow_nan=False)


def test_the_windows_of_training_are_measured(
    config: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of data.subset, from the store that data.store names."""
    data = replace(config.data, subset=SubsetConfig(stride=10), store=str(tmp_path / "shared.zarr"))
    config = replace(config, data=data)
    prepare_run(config, tmp_path / "run")
    lengths = []
    monkeypatch.setattr(doctor_module, "loader_rate", lambda w, _: lengths.append(len(w)) or 1.0)
    monkeypatch.setattr(doctor_module, "model_rate", lambda *_: (None, []))
    report = diagnose(config, tmp_path / "run")
    assert report.facts["store"]["path"] == str(tmp_path / "shared.zarr")
    assert lengths == [6]  # of the 58 windows of three states within 60 days


def test_a_loader_slower_than_the_model_is_found() -> None:
    assert machine.judge_throughput(100.0, 100.0) == []
    assert machine.judge_throughput(None, 100.0) == []
    (finding,) = machine.judge_throughput(50.0, 200.0)
    assert finding.severity == "warning"
    assert "50" in finding.what
    assert "200" in finding.what
    assert "waits 75 %" in finding.what


def test_batches_that_do_not_fit_are_found() -> None:
    assert machine.check_batches(10, 5, available=400) == []
    assert [f.severity for f in machine.check_batches(10, 5, available=200)] == ["warning"]
    assert [f.severity for f in machine.check_batches(10, 5, available=149)] == ["error"]


def test_a_step_that_does_not_fit_is_found(
    config: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> float:
        raise torch.OutOfMemoryError("tried to allocate 80 GiB")

    monkeypatch.setattr(machine, "_step_seconds", fail)
    (finding,) = serious(diagnose(config, tmp_path / "run"))
    assert (finding.check, finding.severity) == ("memory", "error")
    assert "80 GiB" in finding.what
    assert "training.batch_size" in finding.remedy


def test_a_model_too_large_for_the_cpu_is_not_tried(
    config: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_LONGEST_STEP", 0.0)
    report = diagnose(config, tmp_path / "run")
    assert serious(report) == []
    assert report.facts["throughput"]["model"]["samples_per_second"] is None
    assert "too large to try" in next(f.what for f in report.findings if f.check == "throughput")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
def test_a_gpu_that_is_not_there_is_found(config: ExperimentConfig, tmp_path: Path) -> None:
    training = replace(config.training, device="cuda")
    (finding,) = serious(diagnose(replace(config, training=training), tmp_path / "run"))
    assert (finding.check, finding.severity) == ("device", "error")
    assert "training.device" in finding.where


def test_bfloat16_on_a_cpu_is_worth_knowing() -> None:
    (finding,) = machine.check_device(TrainingConfig(device="cpu", precision="bfloat16"))
    assert finding.severity == "info"
    assert machine.check_device(TrainingConfig(device="cpu")) == []


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
    findings = serious(diagnose(replace(config, training=training), tmp_path, measure=False))
    assert [finding.where for finding in findings] == ["data.validation"]


def test_facts_of_this_machine() -> None:
    facts = machine.describe_machine()
    assert 0 < facts["available_memory_bytes"] <= facts["memory_bytes"]
    assert facts["num_cpus"] >= 1
    assert facts["processor"]
    assert len(facts["gpus"]) == torch.cuda.device_count()
    json.dumps(facts, allow_nan=False)


def test_the_loader_starts_its_epoch_again(
    config: ExperimentConfig, tmp_path: Path, quick: None
) -> None:
    store = prepare_run(config, tmp_path / "run")
    windows = WindowDataset(store, config.data.train, 2, 1)
    one_batch = replace(config.training, batch_size=1000)
    rate = machine.loader_rate(windows, one_batch)
    assert rate is not None
    assert rate > 0


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
    lines = doctor_module._summary(report.facts)
    assert any("not measured" in line for line in lines)

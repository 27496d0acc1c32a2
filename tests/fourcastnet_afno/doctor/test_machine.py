"""Facts of this machine, and the speeds that are measured on it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from data_pipeline.loading.windows import WindowDataset
from fourcastnet_afno.doctor.machine import (
    Timing,
    check_batches,
    check_device,
    describe_machine,
    judge_throughput,
    loader_rate,
    model_rate,
)
from fourcastnet_afno.training.config import TrainingConfig
from fourcastnet_afno.workflows.prepare import prepare_run
from tests.builders.experiments import make_dataset, make_experiment, make_forecaster

BRIEF = Timing(seconds=0.02)
TRAINING = TrainingConfig(device="cpu", batch_size=4)


def test_a_loader_slower_than_the_model_is_found() -> None:
    assert judge_throughput(100.0, 100.0) == []
    assert judge_throughput(None, 100.0) == []
    (finding,) = judge_throughput(50.0, 200.0)
    assert finding.severity == "warning"
    assert "50" in finding.what
    assert "200" in finding.what
    assert "waits 75 %" in finding.what


def test_batches_that_do_not_fit_are_found() -> None:
    assert check_batches(10, 5, available=400) == []
    assert [f.severity for f in check_batches(10, 5, available=200)] == ["warning"]
    assert [f.severity for f in check_batches(10, 5, available=149)] == ["error"]


def test_bfloat16_on_a_cpu_is_worth_knowing() -> None:
    (finding,) = check_device(TrainingConfig(device="cpu", precision="bfloat16"))
    assert finding.severity == "info"
    assert check_device(TrainingConfig(device="cpu")) == []


def test_facts_of_this_machine() -> None:
    facts = describe_machine()
    assert 0 < facts["available_memory_bytes"] <= facts["memory_bytes"]
    assert facts["num_cpus"] >= 1
    assert facts["processor"]
    assert len(facts["gpus"]) == torch.cuda.device_count()
    json.dumps(facts, allow_nan=False)


def test_a_model_is_measured_on_the_device_of_training() -> None:
    facts, findings = model_rate(make_forecaster(), TRAINING, 2, BRIEF)
    assert findings == []
    assert (facts["device"], facts["batch_size"]) == ("cpu", 4)
    assert facts["samples_per_second"] > 0


def test_the_measured_step_leaves_the_weights_alone() -> None:
    forecaster = make_forecaster()
    before = {name: weight.clone() for name, weight in forecaster.state_dict().items()}
    model_rate(forecaster, TRAINING, 1, BRIEF)
    after = forecaster.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_step_that_does_not_fit_is_found() -> None:
    def fail(*_: object) -> Callable[[], None]:
        raise torch.OutOfMemoryError("tried to allocate 80 GiB")

    facts, (finding,) = model_rate(make_forecaster(), TRAINING, 1, BRIEF, build_step=fail)
    assert facts["samples_per_second"] is None
    assert (finding.check, finding.severity) == ("memory", "error")
    assert "80 GiB" in finding.what
    assert "training.batch_size" in finding.remedy


def test_a_model_too_large_for_the_cpu_is_not_tried() -> None:
    timing = Timing(longest_step=0.0)
    facts, (finding,) = model_rate(make_forecaster(), TRAINING, 1, timing)
    assert facts["samples_per_second"] is None
    assert (finding.check, finding.severity) == ("throughput", "info")
    assert "too large to try" in finding.what


def test_the_loader_starts_its_epoch_again(tmp_path: Path) -> None:
    make_dataset().to_netcdf(tmp_path / "data.nc")
    config = make_experiment(tmp_path / "data.nc")
    store = prepare_run(config, tmp_path / "run")
    assert store is not None
    windows = WindowDataset(store, config.data.train, 2, 1)
    one_batch = replace(config.training, batch_size=1000)
    assert loader_rate(windows, one_batch, 0.02) > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
def test_a_gpu_that_is_not_there_is_found() -> None:
    (finding,) = check_device(TrainingConfig(device="cuda"))
    assert (finding.check, finding.severity) == ("device", "error")
    assert finding.where == "training.device"
    assert "device=cpu" in finding.remedy

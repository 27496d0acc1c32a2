"""Runs that train adapters: their checkpoints are plain ones, and they resume bit for bit."""

import contextlib
from pathlib import Path

import numpy as np
import pytest
import torch

from fourcastnet_afno.fine_tuning.config import AdapterConfig
from fourcastnet_afno.forecaster.checkpoint import load_forecaster
from fourcastnet_afno.training.config import OptimizerConfig
from fourcastnet_afno.training.signals import TrainingInterruptedError
from fourcastnet_afno.workflows.config import ExperimentConfig
from fourcastnet_afno.workflows.train import train_run
from tests.builders.processes import SignalAfter, on_ranks
from tests.builders.runs import assert_equal_runs, make_dropless_experiment, read_columns


@pytest.fixture(scope="module")
def config(data: Path, alone: Path) -> ExperimentConfig:
    return make_dropless_experiment(
        data,
        start_from=str(alone / "checkpoints" / "best.safetensors"),
        adapters=AdapterConfig(rank=1, trained=["network.patch_recovery.*"]),
        optimizer=OptimizerConfig(name="muon"),
    )


@pytest.fixture(scope="module")
def adapted(config: ExperimentConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("runs") / "adapted"
    train_run(config, output)
    return output


def test_a_checkpoint_has_plain_weights_that_differ_by_a_low_rank(
    alone: Path, adapted: Path
) -> None:
    best = "checkpoints/best.safetensors"
    before, after = (load_forecaster(run / best).state_dict() for run in (alone, adapted))
    assert before.keys() == after.keys()
    changes = {name: after[name] - before[name] for name in before if name.startswith("network.")}
    changed = {name for name, change in changes.items() if change.any()}
    matrices = {name for name in changed if "blocks" in name}
    assert {name.rpartition(".")[2] for name in matrices} == {"weight", "weight1", "weight2"}
    assert changed - matrices == {
        f"network.patch_recovery.projection.{k}" for k in ("weight", "bias")
    }
    for name in matrices:
        singular = torch.linalg.svdvals(changes[name].double())
        assert (singular[..., 1] < 1e-4 * singular[..., 0]).all()  # roundings of sums


def test_an_interrupted_run_resumes_bit_for_bit(
    config: ExperimentConfig, adapted: Path, tmp_path: Path
) -> None:
    for step in (2, 5):
        with contextlib.suppress(TrainingInterruptedError):
            train_run(config, tmp_path / "run", callbacks=[SignalAfter([step])])
    train_run(config, tmp_path / "run")
    assert_equal_runs(tmp_path / "run", adapted)


def train(config: ExperimentConfig, output: Path) -> None:
    """For other processes, which find it by name."""
    train_run(config, output)


def test_two_processes_train_the_same(
    config: ExperimentConfig, adapted: Path, tmp_path: Path
) -> None:
    on_ranks(2, train, config, tmp_path / "run", joined=False)
    names = ("step", "loss", "gradient_norm")
    expected, found = (read_columns(run, *names) for run in (adapted, tmp_path / "run"))
    np.testing.assert_allclose(found, expected, rtol=2e-3)
    np.testing.assert_allclose(found[0], expected[0], rtol=2e-6)

"""The precision that ``auto`` stands for: what is faster, and what a run keeps."""

from pathlib import Path

import numpy as np
import pytest
import torch

from data_pipeline.loading.windows import Sample
from fourcastnet_afno.forecaster.checkpoint import read_checkpoint
from fourcastnet_afno.losses.config import LossConfig
from fourcastnet_afno.parallel.process import Process
from fourcastnet_afno.training.build_loss import build_loss
from fourcastnet_afno.training.faster_precision import faster_precision
from fourcastnet_afno.training.objectives import RolloutLoss
from fourcastnet_afno.workflows.train import train_run
from tests.builders.experiments import make_forecaster, make_states
from tests.builders.processes import FailAfter
from tests.builders.runs import make_dropless_experiment, read_columns


@pytest.mark.parametrize(
    ("instructions", "seconds", "expected"),
    [
        ({"avx512_bf16": True}, 0.5, "bfloat16"),
        ({"amx_bf16": True}, 0.9, "bfloat16"),
        ({"avx512_bf16": True}, 0.99, "float32"),  # within the noise of a measurement
        ({"avx512_bf16": True}, 2.0, "float32"),
        ({"avx512_bf16": False, "avx2": True}, 0.5, "float32"),
    ],
)
def test_bfloat16_is_chosen_where_a_step_takes_less_time(
    instructions: dict, seconds: float, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step of float32 takes a second on this clock, one of bfloat16 ``seconds``."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: instructions)
    forecaster = make_forecaster().train()
    objective = RolloutLoss(forecaster, build_loss(LossConfig(), forecaster))
    state, target = make_states(forecaster, 3, 1), make_states(forecaster, 3, 2)
    forcing = torch.zeros(3, 2, 1, *forecaster.spec.grid.shape)
    sample = Sample(state, target, forcing, torch.zeros(3), torch.ones(3))
    passed = [0.0]

    def clock() -> float:
        passed[0] += seconds if objective.precision == "bfloat16" else 1.0
        return passed[0]

    before = torch.get_rng_state()
    assert faster_precision(objective, sample, Process(), clock)[0] == expected
    assert objective.precision == "float32"
    assert all(parameter.grad is None for parameter in forecaster.parameters())
    torch.testing.assert_close(torch.get_rng_state(), before)


@pytest.mark.parametrize("step", [1, 3])
def test_a_run_that_resumes_keeps_its_precision_on_any_machine(
    step: int, data: Path, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_dropless_experiment(data, precision="auto", checkpoint_every_steps=1)
    measure = "fourcastnet_afno.training.faster_precision.faster_precision"
    monkeypatch.setattr(measure, lambda *_: ("float32", "here"))
    with pytest.raises(RuntimeError, match="a defect"):
        train_run(config, tmp_path, callbacks=[FailAfter(step, "a defect")])
    monkeypatch.setattr(measure, lambda *_: ("bfloat16", "there"))
    train_run(config, tmp_path)
    record = read_checkpoint(tmp_path / "checkpoints" / "best.safetensors", "none")[1]
    assert record["precision"] == "float32"
    names = ("step", "loss", "gradient_norm")
    np.testing.assert_array_equal(read_columns(tmp_path, *names), read_columns(alone, *names))

"""What ``auto`` stands for: what is faster, and what a run keeps."""

from pathlib import Path

import numpy as np
import pytest
import torch

from data_pipeline.loading.windows import Sample
from fourcastnet_afno.forecaster.checkpoint import read_checkpoint
from fourcastnet_afno.losses.config import LossConfig
from fourcastnet_afno.parallel.process import Process
from fourcastnet_afno.training.build_loss import build_loss
from fourcastnet_afno.training.fastest import faster_precision, fastest_threads, threads_kept
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
    objective, sample = make_objective_and_sample()
    passed = [0.0]

    def clock() -> float:
        passed[0] += seconds if objective.precision == "bfloat16" else 1.0
        return passed[0]

    before = torch.get_rng_state()
    assert faster_precision(objective, sample, Process(), clock)[0] == expected
    assert objective.precision == "float32"
    assert all(parameter.grad is None for parameter in objective.parameters())
    torch.testing.assert_close(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ({1: 3.0, 2: 2.0, 4: 1.2, 6: 1.0}, 6),
        ({1: 3.0, 2: 0.8, 4: 0.7, 6: 1.0}, 4),
        ({1: 0.97, 2: 0.96, 4: 0.98, 6: 1.0}, 6),  # within the noise of a measurement
    ],
)
def test_threads_are_as_many_as_take_the_least_time(
    seconds: dict[int, float], expected: int
) -> None:
    """Of six threads, a step takes ``seconds`` on this clock."""
    objective, sample = make_objective_and_sample()
    passed = [0.0]

    def clock() -> float:
        passed[0] += seconds[torch.get_num_threads()]
        return passed[0]

    with threads_kept():
        torch.set_num_threads(6)
        count, why = fastest_threads(objective, sample, Process(), clock)
        assert torch.get_num_threads() == 6
    assert count == expected
    assert f"{seconds[1]:.3g} s in 1" in why


def test_one_thread_is_not_measured() -> None:
    objective, sample = make_objective_and_sample()
    with threads_kept():
        torch.set_num_threads(1)
        assert fastest_threads(objective, sample, Process(), failing_clock)[0] == 1


def failing_clock() -> float:
    """Measures nothing."""
    raise AssertionError("there is nothing to choose from")


def make_objective_and_sample() -> tuple[RolloutLoss, Sample]:
    """Three windows of two steps."""
    forecaster = make_forecaster().train()
    objective = RolloutLoss(forecaster, build_loss(LossConfig(), forecaster))
    state, target = make_states(forecaster, 3, 1), make_states(forecaster, 3, 2)
    forcing = torch.zeros(3, 2, 1, *forecaster.spec.grid.shape)
    return objective, Sample(state, target, forcing, torch.zeros(3), torch.ones(3))


@pytest.mark.parametrize("step", [1, 3])
def test_a_run_that_resumes_keeps_what_it_began_with_on_any_machine(
    step: int, data: Path, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_dropless_experiment(
        data, precision="auto", num_threads="auto", checkpoint_every_steps=1
    )
    measures = "fourcastnet_afno.training.fastest"
    monkeypatch.setattr(f"{measures}.faster_precision", lambda *_: ("float32", "here"))
    monkeypatch.setattr(f"{measures}.fastest_threads", lambda *_: (1, "here"))
    with pytest.raises(RuntimeError, match="a defect"):
        train_run(config, tmp_path, callbacks=[FailAfter(step, "a defect")])
    monkeypatch.setattr(f"{measures}.faster_precision", lambda *_: ("bfloat16", "there"))
    monkeypatch.setattr(f"{measures}.fastest_threads", lambda *_: (3, "there"))
    before = torch.get_num_threads()
    train_run(config, tmp_path)
    assert torch.get_num_threads() == before
    record = read_checkpoint(tmp_path / "checkpoints" / "best.safetensors", "none")[1]
    assert record["precision"] == "float32"
    assert record["num_threads"] == 1
    names = ("step", "loss", "gradient_norm")
    np.testing.assert_array_equal(read_columns(tmp_path, *names), read_columns(alone, *names))

"""One optimizer step."""

import math

import pytest
import torch

from data_pipeline.loading.windows import Sample
from fourcastnet_afno.losses.config import LossConfig
from fourcastnet_afno.parallel.process import Process
from fourcastnet_afno.training.build_loss import build_loss
from fourcastnet_afno.training.config import TrainingConfig
from fourcastnet_afno.training.objectives import RolloutLoss
from fourcastnet_afno.training.updater import Updater, with_noise
from tests.builders.experiments import make_forecaster, make_states


def make_updater(**settings: object) -> Updater:
    forecaster = make_forecaster().double()
    objective = RolloutLoss(forecaster, build_loss(LossConfig(), forecaster))
    return Updater(objective, TrainingConfig(**settings), Process())  # type: ignore[arg-type]


def make_sample(updater: Updater, *rows: int) -> Sample:
    forecaster, select = updater.objective.forecaster, list(rows)
    state, target = (make_states(forecaster, 4, 1, seed=seed)[select] for seed in (0, 1))
    forcing = torch.zeros(len(rows), 1, 1, *forecaster.spec.grid.shape, dtype=torch.float64)
    time, weight = torch.zeros(len(rows), dtype=torch.int64), torch.ones(len(rows))
    return Sample(state, target, forcing, time, weight)


def norm_of(updater: Updater) -> float:
    gradients = [p.grad for p in updater.objective.parameters() if p.grad is not None]
    return torch.nn.utils.get_total_norm(gradients).item()


def test_gradients_of_microbatches_add_up() -> None:
    """Three windows and one: the mean over all four has the weights 3 / 4 and 1 / 4."""
    updater = make_updater(gradient_clip=0.0)
    batch = make_sample(updater, 0, 1, 2, 3)
    loss = updater.accumulate(batch, weight=1.0, step=0, microbatch=0, last=True)
    norm = norm_of(updater)
    updater.discard()
    first, second = make_sample(updater, 0, 1, 2), make_sample(updater, 3)
    total = updater.accumulate(first, weight=0.75, step=0, microbatch=0, last=False)
    total += updater.accumulate(second, weight=0.25, step=0, microbatch=1, last=True)
    assert total == pytest.approx(loss, rel=1e-12)
    assert norm_of(updater) == pytest.approx(norm, rel=1e-12)


def test_a_gradient_is_clipped_and_its_norm_reported() -> None:
    updater = make_updater(gradient_clip=0.5)
    sample = make_sample(updater, 0, 1)
    updater.accumulate(sample, weight=100.0, step=0, microbatch=0, last=True)
    norm = norm_of(updater)
    assert updater.update(1e-3, 0) == pytest.approx(norm, rel=1e-6)
    assert norm > 0.5
    assert norm_of(updater) == pytest.approx(0.5, rel=1e-3)


def test_a_gradient_that_is_not_finite_leaves_the_weights() -> None:
    updater = make_updater(ema_decay=0.9)
    before = [p.detach().clone() for p in updater.objective.parameters()]
    sample = make_sample(updater, 0, 1)
    updater.accumulate(sample, weight=math.inf, step=0, microbatch=0, last=True)
    assert not math.isfinite(updater.update(1e-3, 0))
    updater.discard()
    after = list(updater.objective.parameters())
    assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))
    with updater.average.applied():
        assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))


def test_noise_belongs_to_the_window() -> None:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(4, 2, 3, 5, 6, generator=generator)
    empty = torch.zeros(4, 1, 3, 5, 6)
    sample = Sample(states, empty, empty, torch.arange(4) * 10**17, torch.ones(4))
    rows = Sample(*(value[2:] for value in sample))
    scale = torch.tensor([1.0, 10.0, 0.0])[:, None, None]
    noisy = with_noise(sample, scale, 7).state
    assert torch.equal(with_noise(rows, scale, 7).state, noisy[2:])
    assert not torch.equal(with_noise(sample, scale, 8).state, noisy)
    spread = (noisy - states).transpose(1, 2).flatten(2).std(dim=-1)
    torch.testing.assert_close(spread[:, 0], torch.ones(4), rtol=0, atol=0.3)
    torch.testing.assert_close(spread[:, 1], 10 * torch.ones(4), rtol=0, atol=3.0)
    assert torch.equal(noisy[:, :, 2], states[:, :, 2])

"""Losses of rollouts and their gradients."""

import pytest
import torch
from torch import Tensor, nn

from fourcastnet_afno.forecaster.forecaster import Forecaster
from fourcastnet_afno.forecaster.noise import append_noise
from fourcastnet_afno.inference.rollout import rollout
from fourcastnet_afno.losses.config import LossConfig
from fourcastnet_afno.models.config import AFNONetConfig, NoiseConfig
from fourcastnet_afno.training.build_loss import build_loss
from fourcastnet_afno.training.config import RolloutConfig
from fourcastnet_afno.training.objectives import (
    RolloutLoss,
    derive_seed,
    differentiable_rollout,
)
from tests.builders.experiments import make_forecaster, make_states

MODES = ("full", "checkpointed", "pushforward")


class Amplifier(nn.Module):
    """x -> a x, whose rollout is a^k x."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor, dtype=torch.float64))

    def forward(self, state: Tensor, forcing: Tensor) -> Tensor:
        return self.factor * state[:, -1]


@pytest.mark.parametrize(
    ("mode", "slope"),
    # of (a^3 x)^2 with respect to a: through all steps 6 a^5 x^2, through the last 2 a^5 x^2
    [("full", 6.0), ("checkpointed", 6.0), ("pushforward", 2.0)],
)
def test_gradients_by_hand(mode: str, slope: float) -> None:
    amplifier = Amplifier(1.5)
    state = torch.full((1, 1, 1, 1, 1), 2.0, dtype=torch.float64)
    *_, last = differentiable_rollout(amplifier, state, [torch.zeros(1)] * 3, mode)  # type: ignore[arg-type]
    assert last.item() == 1.5**3 * 2
    last.square().sum().backward()
    assert amplifier.factor.grad is not None
    assert amplifier.factor.grad.item() == pytest.approx(slope * 1.5**5 * 4)


@pytest.fixture
def forecaster() -> Forecaster:
    """With dropout, which a second computation of a step must repeat."""
    network = AFNONetConfig(
        patch_size=(2, 2), embed_dim=8, depth=2, num_blocks=2, drop_rate=0.2, drop_path_rate=0.2
    )
    return make_forecaster(num_history=2, network=network).train()


def make_windows(forecaster: Forecaster, num_steps: int) -> tuple[Tensor, Tensor, Tensor]:
    forcing = torch.zeros(3, num_steps, 1, *forecaster.spec.grid.shape)
    state = make_states(forecaster, 3, forecaster.config.num_history)
    return state, forcing, make_states(forecaster, 3, num_steps, seed=1)


def loss_and_gradient(forecaster: Forecaster, config: RolloutConfig) -> tuple[Tensor, list[Tensor]]:
    forecaster.zero_grad()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        loss = build_loss(LossConfig(), forecaster)
        value = RolloutLoss(forecaster, loss, config)(*make_windows(forecaster, 3))
        value.mean().backward()
    gradients = [p.grad for p in forecaster.parameters() if p.grad is not None]
    assert len(gradients) == len(list(forecaster.parameters()))
    return value.detach(), gradients


def test_checkpointed_equals_full_bit_for_bit(forecaster: Forecaster) -> None:
    whole, again = (
        loss_and_gradient(forecaster, RolloutConfig(gradient=mode, discount=0.5))
        for mode in ("full", "checkpointed")
    )
    assert torch.equal(whole[0], again[0])
    assert all(torch.equal(a, b) for a, b in zip(whole[1], again[1], strict=True))


@pytest.mark.parametrize("mode", MODES)
def test_states_are_those_of_the_rollout(mode: str) -> None:
    forecaster = make_forecaster(num_history=2).eval()
    state, forcing, _ = make_windows(forecaster, 4)
    expected = list(rollout(forecaster, state, forcing.unbind(1), 4))
    found = list(differentiable_rollout(forecaster, state, forcing.unbind(1), mode))  # type: ignore[arg-type]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=0, rtol=0)
    assert [x.requires_grad for x in found] == [mode != "pushforward"] * 3 + [True]
    with torch.no_grad():
        assert not any(
            x.requires_grad for x in differentiable_rollout(forecaster, state, [forcing[:, 0]])
        )


def test_loss_is_the_weighted_mean_over_steps() -> None:
    forecaster = make_forecaster().eval()
    windows = make_windows(forecaster, 3)
    loss = build_loss(LossConfig(), forecaster)
    objective = RolloutLoss(forecaster, loss, RolloutConfig(discount=0.5))
    by_channel = objective.by_channel(*windows)
    assert by_channel.shape == (3, 3, 2)
    expected = (by_channel.mean(dim=2) * torch.tensor([4, 2, 1]) / 7).sum(dim=1)
    torch.testing.assert_close(objective(*windows), expected)
    last = RolloutLoss(forecaster, loss, RolloutConfig(gradient="pushforward"))
    torch.testing.assert_close(last(*windows), by_channel[:, 2].mean(dim=1))


def test_an_ensemble_of_one_window() -> None:
    forecaster = make_forecaster().eval()
    windows = make_windows(forecaster, 2)
    crps, l1 = (build_loss(LossConfig(kind=kind), forecaster) for kind in ("crps", "l1"))
    single = RolloutLoss(forecaster, l1)(*windows)
    same = RolloutLoss(forecaster, crps, RolloutConfig(num_members=3))(*windows)
    torch.testing.assert_close(same, single)  # Members without noise have no spread.
    torch.manual_seed(0)
    noisy = RolloutConfig(num_members=3, member_noise=2.0)
    spread = RolloutLoss(forecaster, crps, noisy)(*windows)
    assert spread.shape == (3,)
    assert not torch.isclose(spread, single, rtol=1e-3).any()


def test_seeds_depend_on_every_number() -> None:
    numbers = [(0, 0), (0, 1), (1, 0), (-1, 0), (2**32, 0), (0, 2**32)]
    assert len({derive_seed(*each) for each in numbers}) == len(numbers)


def test_noise_belongs_to_window_and_member() -> None:
    """Windows in another batch, and fewer members, have the same noise."""
    noise = NoiseConfig(length_scales=[8000.0], channels=2, memory_hours=24.0, width=4)
    model = make_forecaster(noise=noise)
    with torch.no_grad():
        for block in model.network.blocks:
            torch.nn.init.normal_(block.modulation.weight)  # type: ignore[union-attr,arg-type]
    loss = build_loss(LossConfig(kind="crps"), model)
    many, few = (RolloutLoss(model, loss, RolloutConfig(num_members=n)) for n in (4, 2))
    state, forcing, target = make_windows(model, 3)
    seeds = [5, 7, 9]
    with torch.no_grad():
        states = list(many.states(state, forcing, seeds))
        assert len(states) == target.shape[1]
        part = list(few.states(state[1:], forcing[1:], seeds[1:]))
    for every, found in zip(states, part, strict=True):
        torch.testing.assert_close(found, every[1:, :2])
        assert (every.std(dim=1) > 0).all()


def test_members_learn_the_spread_of_a_stochastic_process() -> None:
    """The truth takes steps of a random field, of 0.5 standard deviations of the change."""
    noise = NoiseConfig(length_scales=[4000.0], channels=2, width=8)
    network = AFNONetConfig(patch_size=(2, 2), embed_dim=16, depth=1, num_blocks=2)
    model = make_forecaster(network=network, noise=noise)
    loss = build_loss(LossConfig(kind="crps", crps_alpha=1.0), model)
    objective = RolloutLoss(model, loss, RolloutConfig(num_members=2))
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    forcing = torch.zeros(32, 1, 1, *model.spec.grid.shape)
    state = make_states(model, 32, 1)
    for _ in range(200):
        steps = append_noise(model.noise, forcing)[:, 0, 1:]
        target = state[:, -1] + 0.5 * model.diff_std * steps
        optimizer.zero_grad()
        objective(state, forcing, target[:, None]).mean().backward()
        optimizer.step()
    with torch.no_grad():
        ensemble = RolloutLoss(model, loss, RolloutConfig(num_members=20))
        (following,) = ensemble.states(state, forcing)
    spread = (following.std(dim=1) / model.diff_std).square().mean().sqrt()
    assert spread.item() == pytest.approx(0.5, rel=0.15)

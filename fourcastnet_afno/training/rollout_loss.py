"""Training over several steps: what a rollout minimizes, and how its gradient is taken.

The loss of a rollout of K steps is sum_k w_k l(x_k, target_k), with weights w_k in proportion to
discount^(k - 1) and sum 1. Its gradient goes

    full           through all steps (backpropagation through time)
    checkpointed   likewise, with each step computed again in the backward pass instead of kept: the
                   memory of one step beside the states, for a third more time
    pushforward    through the last step alone, from the state that the steps before it lead to; all
                   weight is on that step

References:
    Pathak et al., 2022, https://arxiv.org/abs/2202.11214, section 3 (two steps, full).
    Brandstetter, Worrall and Welling, 2022, Message Passing Neural PDE Solvers,
    https://arxiv.org/abs/2202.03376, section 3.1 (pushforward).
    Lam et al., 2023, GraphCast, https://arxiv.org/abs/2212.12794, supplement 4 (curriculum).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from fourcastnet_afno.forecaster.forecaster import Forecaster
from fourcastnet_afno.inference.rollout import shifted
from fourcastnet_afno.losses.loss import Loss
from fourcastnet_afno.training.config import RolloutConfig


def differentiable_rollout(
    forecaster: Callable[[Tensor, Tensor], Tensor],
    state: Float[Tensor, "batch history channel lat lon"],
    forcings: Sequence[Tensor],
    gradient: Literal["full", "checkpointed", "pushforward"] = "full",
) -> Iterator[Float[Tensor, "batch channel lat lon"]]:
    """Step a forecaster forward, with the gradient that ``gradient`` asks for.

    Args:
        forecaster: Maps history and forcing to the next state.
        state: The last ``num_history`` states, oldest first, in physical units.
        forcings: Forcing of each step (batch, forcing, lat, lon).
        gradient: See the head of ``rollout_loss``.

    Yields:
        The state after each step, in physical units.
    """
    for step, forcing in enumerate(forcings):
        last = step == len(forcings) - 1
        if gradient == "checkpointed" and torch.is_grad_enabled():
            following = checkpoint(forecaster, state, forcing, use_reentrant=False)
        else:
            with torch.set_grad_enabled(
                torch.is_grad_enabled() and (last or gradient != "pushforward")
            ):
                following = forecaster(state, forcing)
        assert isinstance(following, Tensor)
        yield following
        state = shifted(state, following)


def rollout_loss(
    forecaster: Forecaster,
    loss: Loss,
    state: Float[Tensor, "batch history channel lat lon"],
    forcing: Float[Tensor, "batch step forcing network_lat network_lon"],
    target: Float[Tensor, "batch step channel lat lon"],
    config: RolloutConfig,
) -> Float[Tensor, " batch"]:
    """Loss of each window: the weighted mean over the steps of its rollout.

    Args:
        forecaster: Rolled out.
        loss: Of a state.
        state: History, in physical units.
        forcing: Forcings at the newest input of each step.
        target: The following states, in physical units.
        config: Gradient, weights and members. Noise is drawn from torch's global generator.
    """
    predictions = _predictions(forecaster, state, forcing, config)
    return weighted_step_loss(loss, predictions, target, config.step_weights(target.shape[1]))


def rollout_loss_by_channel(
    forecaster: Forecaster,
    loss: Loss,
    state: Float[Tensor, "batch history channel lat lon"],
    forcing: Float[Tensor, "batch step forcing network_lat network_lon"],
    target: Float[Tensor, "batch step channel lat lon"],
    config: RolloutConfig,
) -> Float[Tensor, "batch step channel"]:
    """Loss of each window, step and channel without weights, to look at; see ``rollout_loss``."""
    return losses_by_step(loss.by_channel, _predictions(forecaster, state, forcing, config), target)


def weighted_step_loss(
    loss: Callable[[Tensor, Tensor], Tensor],
    states: Iterable[Tensor],
    target: Float[Tensor, "batch step channel lat lon"],
    weights: Sequence[float],
) -> Float[Tensor, " batch"]:
    """Weighted sum of the losses of the steps; the loss of a step without weight is not computed.

    Args:
        loss: Of a state and its target, by window.
        states: After each step.
        target: What follows in truth.
        weights: Of the steps.
    """
    total = target.new_zeros(len(target))
    for weight, state, wanted in zip(weights, states, target.unbind(1), strict=True):
        if weight > 0:
            total = total + weight * loss(state, wanted)
    return total


def losses_by_step(
    loss: Callable[[Tensor, Tensor], Tensor],
    states: Iterable[Tensor],
    target: Float[Tensor, "batch step channel lat lon"],
) -> Float[Tensor, "batch step channel"]:
    """Losses by window and channel of each step; see ``weighted_step_loss``."""
    steps = zip(states, target.unbind(1), strict=True)
    return torch.stack([loss(state, wanted) for state, wanted in steps], dim=1)


def _predictions(
    forecaster: Forecaster, state: Tensor, forcing: Tensor, config: RolloutConfig
) -> Iterator[Tensor]:
    """States after each step, (batch, channel, ...) or (batch, realization, channel, ...)."""
    members = config.num_members
    if members > 1:
        state = state.repeat_interleave(members, dim=0)
        forcing = forcing.repeat_interleave(members, dim=0)
    if config.member_noise > 0:
        state = state + config.member_noise * forecaster.diff_std * torch.randn_like(state)
    for following in differentiable_rollout(forecaster, state, forcing.unbind(1), config.gradient):
        yield following.unflatten(0, (-1, members)) if members > 1 else following

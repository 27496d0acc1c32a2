"""Objectives of training: the loss of each window of a batch over a rollout.

The loss of a rollout of K steps is sum_k w_k l(x_k, target_k), with weights w_k in proportion to
discount^(k - 1) and sum 1. Its gradient flows

    full           through all steps (backpropagation through time)
    checkpointed   likewise, with each step computed again in the backward pass instead of kept: the
                   memory of one step in addition to the states, for a third more time
    pushforward    through the last step alone, from the state that the steps before it lead to; all
                   weight is on that step

References:
    Pathak et al., 2022, https://arxiv.org/abs/2202.11214, section 3 (two steps, full).
    Brandstetter, Worrall and Welling, 2022, Message Passing Neural PDE Solvers,
    https://arxiv.org/abs/2202.03376, section 3.1 (pushforward).
    Lam et al., 2023, GraphCast, https://arxiv.org/abs/2212.12794, supplement 4 (curriculum).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fourcastnet_afno.forecaster.diagnostic_head import DiagnosticHead
from fourcastnet_afno.forecaster.forecaster import Forecaster
from fourcastnet_afno.forecaster.noise import append_noise, append_zero_noise
from fourcastnet_afno.inference.rollout import rollout, shifted
from fourcastnet_afno.losses.loss import Loss
from fourcastnet_afno.parallel.field_group import FieldGroup
from fourcastnet_afno.training.config import Precision, RolloutConfig, RolloutGradient
from fourcastnet_afno.training.precision import autocast


def derive_seed(*numbers: int) -> int:
    """A seed that depends on all ``numbers``, each of at most 64 bits."""
    words = [word for number in numbers for word in divmod(number % 2**64, 2**32)]
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 1)


def member_generators(
    seeds: Sequence[int], members: range, device: torch.device
) -> list[torch.Generator]:
    """Generators of the noise of members of each window, which depend on nothing else."""
    return [
        torch.Generator(device).manual_seed(derive_seed(seed, member))
        for seed in seeds
        for member in members
    ]


def differentiable_rollout(
    forecaster: Callable[[Tensor, Tensor], Tensor],
    state: Float[Tensor, "batch history channel lat lon"],
    forcings: Sequence[Tensor],
    gradient: RolloutGradient = "full",
) -> Iterator[Float[Tensor, "batch channel lat lon"]]:
    """Step a forecaster forward, with the gradient of the head of ``objectives``.

    The ``state`` is the history, oldest first, in physical units; each step has one of the
    ``forcings`` (batch, forcing, lat, lon).
    """
    for step, forcing in enumerate(forcings):
        has_gradient = torch.is_grad_enabled()
        if gradient == "checkpointed" and has_gradient:
            following = checkpoint(forecaster, state, forcing, use_reentrant=False)
        else:
            is_last = step == len(forcings) - 1
            with torch.set_grad_enabled(has_gradient and (is_last or gradient != "pushforward")):
                following = forecaster(state, forcing)
        assert isinstance(following, Tensor)
        yield following
        state = shifted(state, following)


class Objective(nn.Module, ABC):
    """Loss of each window of a batch: the weighted mean over the steps of its rollout.

    Args:
        trained: Module being trained.
        forecaster: Model that is rolled out.
        loss: Loss of a prediction and its target, by window; that of the present stage.
        rollout: Gradient, weights of the steps, and members, likewise.
        precision: Precision of the networks, under autocast.

    Attributes:
        sharing: Processes that share the members of each window, where several do.
    """

    prefix: ClassVar[str]  # of the trained weights in checkpoints

    def __init__(
        self,
        trained: Forecaster | DiagnosticHead,
        forecaster: Forecaster,
        loss: Loss,
        rollout: RolloutConfig | None,
        precision: Precision,
    ) -> None:
        super().__init__()
        self.trained, self.forecaster, self.loss = trained, forecaster, loss
        self.rollout = rollout or RolloutConfig()
        self.precision: Precision = precision
        self.sharing: FieldGroup | None = None

    def begin_stage(
        self, loss: Loss, rollout: RolloutConfig, sharing: FieldGroup | None = None
    ) -> None:
        """Take the loss and the rollout of a stage of the training."""
        self.loss, self.rollout = loss.to(self.forecaster.diff_std.device), rollout
        self.sharing = sharing

    @abstractmethod
    def states(self, state: Tensor, forcing: Tensor, seeds: Sequence[int] = ()) -> Iterator[Tensor]:
        """States after each step, (batch, channel, ...) or (batch, realization, channel, ...).

        They are those of the members in this process.
        """

    @abstractmethod
    def compared(self, state: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Prediction and target of a step as the loss compares them."""

    def forward(
        self,
        state: Float[Tensor, "batch history channel lat lon"],
        forcing: Float[Tensor, "batch step forcing network_lat network_lon"],
        target: Float[Tensor, "batch step target_channel lat lon"],
        seeds: Sequence[int] = (),
    ) -> Float[Tensor, " batch"]:
        """Loss of each window, whose fields have physical units.

        The noise of a model depends on the seed of the window alone; without ``seeds``, and for
        dropout and ``member_noise``, random numbers are those of torch's global generator.
        """
        total = target.new_zeros(len(target))
        weights = self.rollout.step_weights(target.shape[1])
        with autocast(state.device, self.precision):
            states = self.states(state, forcing, seeds)
            steps = zip(weights, states, target.unbind(1), strict=True)
            for weight, following, truth in steps:
                if weight > 0:
                    total = total + weight * self.loss(*self.compared(following, truth))
        return total

    def by_channel(
        self,
        state: Float[Tensor, "batch history channel lat lon"],
        forcing: Float[Tensor, "batch step forcing network_lat network_lon"],
        target: Float[Tensor, "batch step target_channel lat lon"],
        seeds: Sequence[int] = (),
    ) -> Float[Tensor, "batch step target_channel"]:
        """Loss of each window, step and channel without weights, for diagnosis."""
        with autocast(state.device, self.precision):
            steps = zip(self.states(state, forcing, seeds), target.unbind(1), strict=True)
            losses = [self.loss.by_channel(*self.compared(*step)) for step in steps]
        return torch.stack(losses, dim=1)


class RolloutLoss(Objective):
    """Loss of the rollout of a forecaster that is trained; see ``Objective``."""

    prefix = "forecaster"

    def __init__(
        self,
        forecaster: Forecaster,
        loss: Loss,
        rollout: RolloutConfig | None = None,
        precision: Precision = "float32",
    ) -> None:
        super().__init__(forecaster, forecaster, loss, rollout, precision)

    def states(self, state: Tensor, forcing: Tensor, seeds: Sequence[int] = ()) -> Iterator[Tensor]:
        """States after each step; see ``Objective``."""
        config, own = self.rollout, self._members
        is_ensemble = config.num_members > 1
        state = state.repeat_interleave(len(own), dim=0)
        forcing = forcing.repeat_interleave(len(own), dim=0)
        if config.member_noise > 0:
            noise = torch.randn_like(state)
            state = state + config.member_noise * self.forecaster.diff_std * noise
        if is_ensemble:
            generators = member_generators(seeds, own, state.device)
            forcing = append_noise(self.forecaster.noise, forcing, generators)
        else:
            forcing = append_zero_noise(self.forecaster.noise, forcing)
        forcings = forcing.unbind(1)
        for following in differentiable_rollout(self.forecaster, state, forcings, config.gradient):
            yield following.unflatten(0, (-1, len(own))) if is_ensemble else following

    def compared(self, state: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """States of all members, and target."""
        if self.sharing is None:
            return state, target
        own, shape = self._members, list(state.shape)
        shape[1] = self.rollout.num_members
        every = state.new_zeros(shape)
        every[:, own.start : own.stop] = state
        return self.sharing.sum(every), target

    @property
    def _members(self) -> range:
        """Members in this process; a group has as many in each."""
        if self.sharing is None:
            return range(self.rollout.num_members)
        count = self.rollout.num_members // self.sharing.size
        return range(self.sharing.rank * count, (self.sharing.rank + 1) * count)


class DiagnosticLoss(Objective):
    """Loss of a diagnostic head on the states of a frozen forecaster's rollout.

    The forecaster gets no gradient and drops nothing. See ``build_diagnostic_loss`` for the loss,
    which is ``relative_l2`` without area weights in FourCastNet.
    """

    prefix = "diagnostic"

    def __init__(
        self,
        head: DiagnosticHead,
        forecaster: Forecaster,
        loss: Loss,
        rollout: RolloutConfig | None = None,
        precision: Precision = "float32",
    ) -> None:
        frozen = forecaster.eval().requires_grad_(False)
        super().__init__(head, frozen, loss, rollout, precision)
        self.head = head

    def states(self, state: Tensor, forcing: Tensor, seeds: Sequence[int] = ()) -> Iterator[Tensor]:
        """States after each step; see ``Objective``."""
        step = torch.no_grad()(lambda *fields: self.forecaster(*fields))
        generators = member_generators(seeds, range(1), state.device)
        forcing = append_noise(self.forecaster.noise, forcing, generators)
        return rollout(step, state, forcing.unbind(1), forcing.shape[1])

    def compared(self, state: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The head's values of a state, and the target as the head's network sees it."""
        return self.head.predict(state), self.head.to_network(target)

"""Objectives: the loss of each window of a batch over a rollout, for a forecaster or a head."""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fourcastnet_afno.forecaster.diagnostic_head import DiagnosticHead
from fourcastnet_afno.forecaster.forecaster import Forecaster
from fourcastnet_afno.inference.rollout import rollout
from fourcastnet_afno.losses.loss import Loss
from fourcastnet_afno.training.config import Precision, RolloutConfig
from fourcastnet_afno.training.precision import autocast
from fourcastnet_afno.training.rollout_loss import (
    losses_by_step,
    rollout_loss,
    rollout_loss_by_channel,
    weighted_step_loss,
)


class RolloutLoss(nn.Module):
    """Loss of each window over a rollout, see ``finetuning``.

    Args:
        forecaster: Rolled out.
        loss: Of a state, see ``losses``.
        rollout: Gradient, weights of the steps, and members.
        precision: Of the network under autocast.
    """

    part = "forecaster"

    def __init__(
        self,
        forecaster: Forecaster,
        loss: Loss,
        rollout: RolloutConfig | None = None,
        precision: Precision = "float32",
    ) -> None:
        super().__init__()
        self.forecaster, self.loss = forecaster, loss
        self.rollout = rollout or RolloutConfig()
        self.precision: Precision = precision

    @property
    def trained(self) -> Forecaster:
        """Whose weights are trained."""
        return self.forecaster

    def forward(
        self,
        state: Float[Tensor, "batch history channel lat lon"],
        forcing: Float[Tensor, "batch step forcing lat lon"],
        target: Float[Tensor, "batch step channel lat lon"],
    ) -> Float[Tensor, " batch"]:
        """Loss of each window."""
        fields = (state, forcing, target, self.rollout)
        with autocast(state.device, self.precision):
            return rollout_loss(self.forecaster, self.loss, *fields)

    def by_channel(
        self,
        state: Float[Tensor, "batch history channel lat lon"],
        forcing: Float[Tensor, "batch step forcing lat lon"],
        target: Float[Tensor, "batch step channel lat lon"],
    ) -> Float[Tensor, "batch step channel"]:
        """Loss of each window, step and channel, to look at."""
        fields = (state, forcing, target, self.rollout)
        with autocast(state.device, self.precision):
            return rollout_loss_by_channel(self.forecaster, self.loss, *fields)


class DiagnosticLoss(nn.Module):
    """Loss of each window of a diagnostic head behind the rollout of a frozen forecaster.

    Args:
        head: Trained.
        forecaster: Predicts the states that the head sees; it gets no gradient and drops nothing.
        loss: Of the head's values, see ``build_diagnostic_loss``; FourCastNet's is ``relative_l2``.
        rollout: Weights of the steps.
        precision: Of the networks under autocast.
    """

    part = "diagnostic"

    def __init__(
        self,
        head: DiagnosticHead,
        forecaster: Forecaster,
        loss: Loss,
        rollout: RolloutConfig | None = None,
        precision: Precision = "float32",
    ) -> None:
        super().__init__()
        self.trained, self.loss = head, loss
        self.forecaster = forecaster.eval().requires_grad_(False)
        self.rollout = rollout or RolloutConfig()
        self.precision: Precision = precision

    def forward(
        self,
        state: Float[Tensor, "batch history channel lat lon"],
        forcing: Float[Tensor, "batch step forcing network_lat network_lon"],
        target: Float[Tensor, "batch step diagnostic lat lon"],
    ) -> Float[Tensor, " batch"]:
        """Loss of each window: the weighted mean over the steps of its rollout."""
        weights = self.rollout.step_weights(target.shape[1])
        with autocast(state.device, self.precision):
            states = self._states(state, forcing)
            return weighted_step_loss(self._behind(self.loss), states, target, weights)

    def by_channel(
        self,
        state: Float[Tensor, "batch history channel lat lon"],
        forcing: Float[Tensor, "batch step forcing network_lat network_lon"],
        target: Float[Tensor, "batch step diagnostic lat lon"],
    ) -> Float[Tensor, "batch step diagnostic"]:
        """Loss of each window, step and channel, to look at."""
        with autocast(state.device, self.precision):
            states = self._states(state, forcing)
            return losses_by_step(self._behind(self.loss.by_channel), states, target)

    def _behind(
        self, loss: Callable[[Tensor, Tensor], Tensor]
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """A loss of the head's values as one of the forecaster's state."""
        head = self.trained
        return lambda state, wanted: loss(head.predict(state), head.to_network(wanted))

    def _states(self, state: Tensor, forcing: Tensor) -> Iterator[Tensor]:
        return rollout(self._step, state, forcing.unbind(1), forcing.shape[1])

    @torch.no_grad()
    def _step(self, state: Tensor, forcing: Tensor) -> Tensor:
        return self.forecaster(state, forcing)


Objective = RolloutLoss | DiagnosticLoss

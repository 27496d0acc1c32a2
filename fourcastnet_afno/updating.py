"""One optimizer step: loss, gradients over all processes, clipping, update, averaging.

With the loss l_i of window i of a global batch of n windows, every process computes

    (rows / n) mean_j (weight_j l_j)

over its rows j of each part of the batch; the mean over processes of the sum over parts is the mean
of l_i, and so is its gradient. All random numbers are a pure function of the seed, the step and
the rank (dropout) or the window (noise), so that they need no state in checkpoints.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from data_pipeline.dataset import Sample
from fourcastnet_afno.autoregression import rollout
from fourcastnet_afno.averaging import MovingAverage
from fourcastnet_afno.bands import Band
from fourcastnet_afno.diagnostic import DiagnosticHead
from fourcastnet_afno.distributed import Process, accumulating, full, settle
from fourcastnet_afno.finetuning import (
    RolloutConfig,
    loss_of_steps,
    losses_by_step,
    rollout_loss,
    rollout_loss_by_channel,
)
from fourcastnet_afno.forecaster import Forecaster
from fourcastnet_afno.losses import Loss
from fourcastnet_afno.optimization import set_learning_rate

Precision = Literal["float32", "tf32", "bfloat16", "float16"]
_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


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
            return loss_of_steps(self._behind(self.loss), states, target, weights)

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


def autocast(device: torch.device, precision: Precision) -> contextlib.AbstractContextManager:
    """Lower precision for matrix products where ``precision`` asks for it."""
    dtype = _DTYPES.get(precision)
    return torch.autocast(device.type, dtype, enabled=dtype is not None)


@contextmanager
def matrix_precision(device: torch.device, precision: Precision) -> Iterator[None]:
    """TF32 in float32 matrix products on GPUs while the block runs, where asked for."""
    if device.type != "cuda":
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest" if precision == "float32" else "high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def seed_of(*numbers: int) -> int:
    """A seed that depends on all ``numbers``, each of at most 64 bits."""
    words = [word for number in numbers for word in divmod(number % 2**64, 2**32)]
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 1)


def with_noise(sample: Sample, scale: Tensor, seed: int, band: Band | None = None) -> Sample:
    """A sample with Gaussian noise on its history, which depends on seed and window alone.

    Args:
        sample: Physical states.
        scale: Standard deviation by channel, shape (channel, 1, 1).
        seed: Of this step.
        band: The rows that the states have, where processes share them.
    """
    device, rows = sample.state.device, []
    for state, time in zip(sample.state, sample.time.tolist(), strict=True):
        generator = torch.Generator(device).manual_seed(seed_of(seed, time))
        shape = list(state.shape)
        shape[-2] = band.layout.num_rows if band else shape[-2]
        noise = torch.randn(shape, generator=generator, device=device)
        noise = noise[..., band.rows, :] if band else noise
        rows.append(state + scale * noise)
    return sample._replace(state=torch.stack(rows))


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a step.

    Args:
        gradient_norm: Before clipping.
        skipped: Whether the weights stayed as they were.
    """

    gradient_norm: float
    skipped: bool


class Updater:
    """Adds up the gradients of the parts of a batch, and updates the weights.

    Args:
        module: The loss, wrapped for all processes, see ``distributed.wrap``.
        loss: The loss itself.
        average: Follows the weights.
        process: This process.
        gradient_clip: Largest norm of the gradient; 0 is off.
        seed: Of all random numbers.
    """

    def __init__(
        self,
        module: nn.Module,
        loss: Objective,
        average: MovingAverage,
        process: Process,
        *,
        gradient_clip: float,
        seed: int,
    ) -> None:
        self.module, self.loss, self.average = module, loss, average
        self._process, self._clip, self._seed = process, gradient_clip, seed
        enabled = loss.precision == "float16"
        self.scaler = torch.amp.GradScaler(process.device.type, enabled=enabled)
        self._settled = False

    def accumulate(
        self, sample: Sample, *, share: float, step: int, part: int, last: bool
    ) -> float:
        """Add the gradient of a part of a batch.

        Args:
            sample: Rows of this process.
            share: Windows of the part, of all processes, as a share of the batch.
            step: Steps done.
            part: Index of the part.
            last: Whether it is the last one, after which gradients are exchanged.

        Returns:
            The loss of this process; its mean over processes adds up to that of the batch.
        """
        if not self._settled:
            fields = sample.state, sample.forcing, sample.target
            settle(self.module, lambda: self.module(*fields).mean().backward())
            self._settled = True
        self.seed(step, part)
        with accumulating(self.module, last):
            rows = self.module(sample.state, sample.forcing, sample.target)
            loss = (sample.weight * rows).mean() * share
            self.scaler.scale(loss).backward()
        return loss.item()

    def seed(self, step: int, part: int) -> None:
        """Seed torch's global generator, from which dropout and stochastic depth draw."""
        torch.manual_seed(seed_of(self._seed, step, part, self._process.rank))

    def update(
        self, optimizer: torch.optim.Optimizer, learning_rate: float, num_updates: int
    ) -> Outcome:
        """Update the weights, unless the gradient is not finite: then it is left for a look at it.

        Args:
            optimizer: Of the weights.
            learning_rate: Peak of all groups.
            num_updates: Updates done before, of the run.
        """
        set_learning_rate(optimizer, learning_rate)
        self.scaler.unscale_(optimizer)
        norm = self._clipped_norm()
        finite = math.isfinite(norm)
        if finite:
            self.scaler.step(optimizer)
            self.average.update(num_updates + 1)
        self.scaler.update()
        return Outcome(gradient_norm=norm, skipped=not finite)

    def discard(self, optimizer: torch.optim.Optimizer) -> None:
        """Forget the gradient, after the update or without one."""
        optimizer.zero_grad(set_to_none=True)

    def _clipped_norm(self) -> float:
        parameters = [p for p in self.loss.trained.parameters() if p.grad is not None]
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        value = full(norm).item()
        if self._clip > 0 and math.isfinite(value):
            nn.utils.clip_grads_with_norm_(parameters, self._clip, norm)
        return value

"""One optimizer step: loss, gradients over all processes, clipping, update, averaging.

With the loss l_i of window i of a global batch of n windows, every process computes

    (rows / n) mean_j (weight_j l_j)

over its rows j of each part of the batch; the mean over processes of the sum over parts is the mean
of l_i, and so is its gradient. All random numbers are a pure function of the seed, the step and
the rank (dropout) or the window (noise), so that they need no state in checkpoints.
"""

import math
from dataclasses import dataclass

import torch
from torch import nn

from data_pipeline.loading.windows import Sample
from fourcastnet_afno.parallel.process import Process
from fourcastnet_afno.parallel.wrap import gather_dtensor, rebuild_ddp_buckets, sync_gradients
from fourcastnet_afno.training.ema import MovingAverage
from fourcastnet_afno.training.noise import derive_seed
from fourcastnet_afno.training.objectives import Objective
from fourcastnet_afno.training.optimizers import set_learning_rate


@dataclass(frozen=True, kw_only=True)
class UpdateResult:
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
            rebuild_ddp_buckets(self.module, lambda: self.module(*fields).mean().backward())
            self._settled = True
        self.seed(step, part)
        with sync_gradients(self.module, last):
            rows = self.module(sample.state, sample.forcing, sample.target)
            loss = (sample.weight * rows).mean() * share
            self.scaler.scale(loss).backward()
        return loss.item()

    def seed(self, step: int, part: int) -> None:
        """Seed torch's global generator, from which dropout and stochastic depth draw."""
        torch.manual_seed(derive_seed(self._seed, step, part, self._process.rank))

    def update(
        self, optimizer: torch.optim.Optimizer, learning_rate: float, num_updates: int
    ) -> UpdateResult:
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
        return UpdateResult(gradient_norm=norm, skipped=not finite)

    def discard(self, optimizer: torch.optim.Optimizer) -> None:
        """Forget the gradient, after the update or without one."""
        optimizer.zero_grad(set_to_none=True)

    def _clipped_norm(self) -> float:
        parameters = [p for p in self.loss.trained.parameters() if p.grad is not None]
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        value = gather_dtensor(norm).item()
        if self._clip > 0 and math.isfinite(value):
            nn.utils.clip_grads_with_norm_(parameters, self._clip, norm)
        return value

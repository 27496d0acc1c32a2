"""One optimizer step: loss, gradients over all processes, clipping, update, averaging.

With the loss l_i of window i of a global batch of n windows, every process computes

    (rows / n) mean_j (weight_j l_j)

over its rows j of each microbatch; the mean over processes of the sum over microbatches is the mean
of l_i, and so is its gradient. All random numbers are a pure function of the seed, the step and
the rank (dropout) or the window (noise), so that they need no state in checkpoints.
"""

import math

import torch
from torch import Tensor, nn

from data_pipeline.loading.windows import Sample
from fourcastnet_afno.parallel.process import Process
from fourcastnet_afno.parallel.row_sharding import ALL_ROWS, Rows
from fourcastnet_afno.parallel.wrap import gather_dtensor, rebuild_ddp_buckets, sync_gradients, wrap
from fourcastnet_afno.training.config import TrainingConfig
from fourcastnet_afno.training.ema import MovingAverage
from fourcastnet_afno.training.objectives import Objective, derive_seed
from fourcastnet_afno.training.optimizers.build import build_optimizer, freeze, set_learning_rate


def with_noise(sample: Sample, scale: Tensor, seed: int, rows: Rows = ALL_ROWS) -> Sample:
    """A sample with Gaussian noise on its history, which depends on seed and window alone.

    The ``scale`` is the standard deviation by channel, shape (channel, 1, 1), in physical units.
    """
    device, states = sample.state.device, []
    for state, time in zip(sample.state, sample.time.tolist(), strict=True):
        generator = torch.Generator(device).manual_seed(derive_seed(seed, time))
        noise = torch.randn(rows.full_shape(state.shape), generator=generator, device=device)
        states.append(state + scale * noise[..., rows.field_slice, :])
    return sample._replace(state=torch.stack(states))


class Updater:
    """Adds up the gradients of the microbatches of a batch, and updates the weights.

    The objective is on the device of the process.
    """

    def __init__(self, objective: Objective, config: TrainingConfig, process: Process) -> None:
        self.objective, self._config, self._process = objective, config, process
        trained = objective.trained
        if config.compile != "off":
            trained.network.compile(mode=config.compile)
        freeze(trained, config.optimizer.frozen)  # Before it is wrapped for several processes.
        self.module = wrap(
            objective,
            process,
            config.parallel,
            shards=[*trained.network.blocks, trained],
            static_graph=config.accumulate == 1,
            compress_gradients=config.compress_gradients,
        )
        self.average = MovingAverage(trained, config.ema_decay)
        self.optimizer = build_optimizer(config.optimizer, trained)
        is_scaled = config.precision == "float16"
        self.scaler = torch.amp.GradScaler(process.device.type, enabled=is_scaled)
        self._has_buckets = False

    def restart(self) -> None:
        """Start from the present weights, with a new average and a new optimizer."""
        self.average.reset()
        self.optimizer = build_optimizer(self._config.optimizer, self.objective.trained)

    def seed(self, step: int, microbatch: int) -> None:
        """Seed torch's global generator, from which dropout and stochastic depth draw."""
        torch.manual_seed(derive_seed(self._config.seed, step, microbatch, self._process.rank))

    def seeds(self, step: int, sample: Sample) -> list[int]:
        """Seeds of the noise that a model sees in each window."""
        return [derive_seed(self._config.seed, step, time) for time in sample.time.tolist()]

    def accumulate(
        self, sample: Sample, *, weight: float, step: int, microbatch: int, last: bool
    ) -> float:
        """Add the gradient of a microbatch; gradients are exchanged after the last one.

        Args:
            sample: Rows of this process.
            weight: Windows of the microbatch, of all processes, over those of the batch.
            step: Steps done.
            microbatch: Index of the microbatch.
            last: Whether it is the last one.

        Returns:
            The loss of this process; its mean over processes adds up to that of the batch.
        """
        fields = sample.state, sample.forcing, sample.target, self.seeds(step, sample)
        if not self._has_buckets:
            rebuild_ddp_buckets(self.module, lambda: self.module(*fields).mean().backward())
            self._has_buckets = True
        self.seed(step, microbatch)
        with sync_gradients(self.module, last):
            loss = (sample.weight * self.module(*fields)).mean() * weight
            self.scaler.scale(loss).backward()
        return loss.item()

    def update(self, learning_rate: float, num_updates: int) -> float:
        """Update the weights, after ``num_updates`` updates of the run.

        A gradient that is not finite is kept for diagnosis instead.

        Returns:
            The norm of the gradient before clipping.
        """
        set_learning_rate(self.optimizer, learning_rate)
        self.scaler.unscale_(self.optimizer)
        parameters = [p for p in self.objective.trained.parameters() if p.grad is not None]
        sharded_norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        norm = gather_dtensor(sharded_norm).item()
        if math.isfinite(norm):
            if (clip := self._config.gradient_clip) > 0:
                nn.utils.clip_grads_with_norm_(parameters, clip, sharded_norm)
            self.scaler.step(self.optimizer)
            self.average.update(num_updates + 1)
        self.scaler.update()
        return norm

    def discard(self) -> None:
        """Drop the gradient, after the update or without one."""
        self.optimizer.zero_grad(set_to_none=True)

"""Training: stages of one-step and multi-step optimization, on any number of processes.

A stage with K steps minimizes the error of K-step rollouts, differentiated through all of them. The
order of windows, the noise and all other random numbers are pure functions of the seed and the
position, and the position is part of the checkpoint: an interrupted run goes on exactly where it
stopped, also on another number of processes (then up to the order in which numbers are added).
"""

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from data_pipeline.errors import InputError
from data_pipeline.files.atomic import replacing
from data_pipeline.loading.loader import Loader
from data_pipeline.loading.windows import Sample
from fourcastnet_afno.forecaster.diagnostic_head import DiagnosticHead
from fourcastnet_afno.forecaster.forecaster import Forecaster
from fourcastnet_afno.parallel.environment import select_device
from fourcastnet_afno.parallel.process import Process
from fourcastnet_afno.parallel.wrap import wrap
from fourcastnet_afno.training.build_loss import build_loss
from fourcastnet_afno.training.checkpoints import RunCheckpoints, load_weights, restore, snapshot
from fourcastnet_afno.training.config import TrainingConfig
from fourcastnet_afno.training.ema import MovingAverage
from fourcastnet_afno.training.monitoring.log import LogFunction
from fourcastnet_afno.training.monitoring.monitor import TrainingMonitor
from fourcastnet_afno.training.noise import derive_seed, with_noise
from fourcastnet_afno.training.nonfinite import describe_gradient, describe_loss
from fourcastnet_afno.training.objectives import DiagnosticLoss, RolloutLoss
from fourcastnet_afno.training.optimizers import build_optimizer, freeze, pack_steps, unpack_steps
from fourcastnet_afno.training.precision import matrix_precision
from fourcastnet_afno.training.progress import Position, ProgressRecord
from fourcastnet_afno.training.signals import StopRequests, TrainingInterruptedError, stop_requests
from fourcastnet_afno.training.stages import StagePlan, WindowsOf
from fourcastnet_afno.training.updater import Updater, UpdateResult
from fourcastnet_afno.training.validation import RolloutValidation

_MOST_SKIPPED_IN_A_ROW = 50


class Trainer:
    """Trains a forecaster on windows and keeps the last and the best checkpoint.

    Args:
        forecaster: With fresh weights, the same in all processes; trained in place. Or else a
            diagnostic head, with its ``objective``.
        windows: Gives training and validation windows for a number of rollout steps.
        config: How to train.
        folder: Where ``last.safetensors`` and ``best.safetensors`` are kept.
        metadata: Kept inside every checkpoint, as the experiment's configuration.
        process: One of those that train together; by default this one alone.
        validation: Scores rollouts beside the validation loss.
        functions: Called with step and values of each row of the log, as of wandb.
        console: Where progress is shown.
        objective: What is minimized; by default the loss of the forecaster's rollouts.
        field_weights: Weights of the points in that loss (channel, lat, lon), as 0 where values
            are filled; by default all count by their area.
    """

    def __init__(
        self,
        forecaster: Forecaster | DiagnosticHead,
        windows: WindowsOf,
        config: TrainingConfig,
        *,
        folder: Path,
        metadata: Mapping[str, Any],
        process: Process | None = None,
        validation: RolloutValidation | None = None,
        functions: Sequence[LogFunction] = (),
        console: Console | None = None,
        objective: DiagnosticLoss | None = None,
        field_weights: Tensor | None = None,
    ) -> None:
        self.process = process or Process(device=select_device(config.device))
        self.windows, self.config, self.folder = windows, config, folder
        self.forecaster = forecaster.to(self.process.device)
        self._updater = self._new_updater(objective, field_weights)
        self.optimizer = self._new_optimizer()
        self.checkpoints = RunCheckpoints(
            folder,
            self._updater.loss.forecaster,
            metadata,
            self.process,
            keep_last=config.keep_last,
            part=self._updater.loss.part,
        )
        self.position = Position()
        self._validation, self._functions, self._console = validation, functions, console
        self._stopped, self._flags = StopRequests(), (False, False, False)
        self._saved_at = time.monotonic()

    def _new_updater(
        self, objective: DiagnosticLoss | None, field_weights: Tensor | None
    ) -> Updater:
        config, forecaster = self.config, self.forecaster
        if config.compile != "off":
            forecaster.network.compile(mode=config.compile)
        freeze(forecaster, config.optimizer.frozen)  # Before it is wrapped for several processes.
        loss = objective
        if loss is None:
            assert isinstance(forecaster, Forecaster)
            of_state = build_loss(config.loss, forecaster, field_weights)
            loss = RolloutLoss(forecaster, of_state, config.rollout, config.precision)
        module = wrap(
            loss,
            self.process,
            config.parallel,
            shards=[*forecaster.network.blocks, forecaster],
            static_graph=config.accumulate == 1,
            compress_gradients=config.compress_gradients,
        )
        average = MovingAverage(forecaster, config.ema_decay)
        return Updater(
            module,
            loss,
            average,
            self.process,
            gradient_clip=config.gradient_clip,
            seed=config.seed,
        )

    def _new_optimizer(self) -> torch.optim.Optimizer:
        return build_optimizer(self.config.optimizer, self.forecaster)

    def fit(self) -> list[ProgressRecord]:
        """Train all stages that are left, from ``last.safetensors`` where there is one.

        Returns:
            A record per epoch: epoch, train_loss, validation_loss, learning_rate, seconds, ...

        Raises:
            TrainingInterruptedError: If SIGINT, SIGTERM or SIGUSR1 arrives in any process, after
                the last checkpoint.
            InputError: If the loss is not finite, or a checkpoint cannot be written.
        """
        device = self.process.device
        self._resume()
        with ExitStack() as stack:
            # Dropout draws from torch's global generator, which is restored afterwards.
            forked = [device] if device.type == "cuda" else []
            stack.enter_context(torch.random.fork_rng(forked))
            stack.enter_context(matrix_precision(device, self.config.precision))
            self._stopped = stack.enter_context(stop_requests())
            self._monitor = stack.enter_context(closing(self._new_monitor()))
            try:
                while (stage := self.position.stage) < len(self.config.stages):
                    self._run_stage(StagePlan(stage, self.windows, self.config, self.process))
                self.checkpoints.wait()
            except TrainingInterruptedError:
                self._save(("last",))
                self.checkpoints.wait()
                raise
        return list(self.position.history)

    def _new_monitor(self) -> TrainingMonitor:
        return TrainingMonitor(
            self.config,
            self.process,
            folder=self.folder.parent / "logs",
            position=self.position,
            functions=self._functions,
            console=self._console,
        )

    def _resume(self) -> None:
        found = self.checkpoints.read("last")
        if found is None:
            return
        tensors, metadata = found
        self.position = Position.from_json(metadata["position"])
        part = self.checkpoints.part
        restore(tensors, self.forecaster, self._updater.average, self.optimizer, part)
        unpack_steps(self.optimizer, metadata["optimizer_steps"])
        self._updater.scaler.load_state_dict(metadata["scaler"])

    def _save(self, names: tuple[str, ...]) -> None:
        self.checkpoints.wait()
        tensors = snapshot(
            self.forecaster,
            self._updater.average,
            self.optimizer,
            self.process,
            self.checkpoints.part,
        )
        record = {
            "position": self.position.to_json(),
            "scaler": self._updater.scaler.state_dict(),
            "optimizer_steps": pack_steps(self.optimizer),
        }
        self.checkpoints.save(names, tensors, record)
        self._saved_at = time.monotonic()

    def _run_stage(self, plan: StagePlan) -> None:
        self._monitor.new_stage()
        while self.position.epoch < plan.stage.epochs and not self._stop_early:
            started = time.monotonic()
            self._run_epoch(plan)
            if not self._stop_early:
                self._finish_epoch(plan, started)
        self._finish_stage()

    @property
    def _stop_early(self) -> bool:
        """Whether the stage ends early."""
        return 0 < self.config.early_stopping <= self.position.num_worse

    def _run_epoch(self, plan: StagePlan) -> None:
        epoch, total = self.position.epoch, plan.num_windows(self.position.epoch)
        samples = plan.training(epoch).epoch(plan.epoch_of_run(epoch), self.position.sample)
        # The run may have been stopped between a step and its validation.
        self._validate_if_due(plan)
        with self._monitor.measure_wait(samples) as timed:
            while self.position.sample < total and not self._stop_early:
                self._take_step(plan, timed)
                self._save_if_due()
                self._validate_if_due(plan)

    def _validate_if_due(self, plan: StagePlan) -> None:
        position = self.position
        # The end of an epoch has a validation of its own.
        at_end = position.sample == plan.num_windows(position.epoch)
        if self._step_is_due and position.validated < position.step and not at_end:
            loss = self._validate(plan.validation)
            if loss < position.best:
                self._save(("best", "last"))

    @property
    def _step_is_due(self) -> bool:
        every, step = self.config.validation.every_steps, self.position.stage_step
        return every > 0 and step > 0 and step % every == 0

    def _take_step(self, plan: StagePlan, samples: Iterator[Sample]) -> None:
        position, config = self.position, self.config
        total = plan.num_windows(position.epoch)
        windows = min(config.batch_size, total - position.sample)
        loss = self._add_gradients(samples, windows)
        rate = plan.learning_rate(position.stage_step, position.plateau)
        outcome = UpdateResult(gradient_norm=math.nan, skipped=True)
        if math.isfinite(loss):
            updates = position.step - position.num_skipped
            outcome = self._updater.update(self.optimizer, rate, updates)
            # A scaled loss overflows now and then; its scale is lowered until it does not.
            if outcome.skipped and config.precision != "float16":
                self._handle_gradient(-(-windows // (config.batch_size // config.accumulate)) - 1)
        self._updater.discard(self.optimizer)
        spike = not outcome.skipped and position.is_spike(loss, config.spike_factor)
        self.position = position.after_step(
            loss, windows=windows, total=total, skipped=outcome.skipped
        )
        self._monitor.step(
            self.position,
            loss=loss,
            rate=rate,
            outcome=outcome,
            spike=spike,
            windows=windows,
            title=f"Stage {plan.index + 1} epoch {position.epoch + 1}/{plan.stage.epochs}",
            total=total,
            left=plan.windows_left(position.epoch, self.position.sample),
        )

    def _add_gradients(self, samples: Iterator[Sample], windows: int) -> float:
        """The loss of the next batch, part by part, whose gradients are added up."""
        size, step = self.config.batch_size // self.config.accumulate, self.position.step
        parts, total = -(-windows // size), 0.0
        self.forecaster.train()
        for part in range(parts):
            self._sample = self._with_noise(next(samples))
            if part == 0:
                self._monitor.count_flops(self._updater.loss, self._sample)
            rows = min(size, windows - part * size)
            mine = self._updater.accumulate(
                self._sample, share=rows / windows, step=step, part=part, last=part == parts - 1
            )
            loss = self._reduce_loss_and_requests(mine)
            if not math.isfinite(loss):
                self._handle_loss(loss, part)
            total += loss
        return total

    def _with_noise(self, sample: Sample) -> Sample:
        if self.config.input_noise == 0:
            return sample
        forecaster = self._updater.loss.forecaster
        scale = self.config.input_noise * forecaster.diff_std
        seed = derive_seed(self.config.seed, self.position.step)
        return with_noise(sample, scale, seed, forecaster.rows)

    def _reduce_loss_and_requests(self, loss: float) -> float:
        """The mean of a loss over all processes, which also tell each other what was asked of them.

        One exchange serves both, as small messages cost as much as their number.
        """
        minutes = self.config.checkpoint_every_minutes
        due = 0 < minutes <= (time.monotonic() - self._saved_at) / 60
        requests = self._stopped
        if self.process.world_size == 1:
            self._flags = (requests.by_ctrl_c, requests.by_system, due)
            return loss
        mine = [loss, requests.by_ctrl_c, requests.by_system, due and self.process.is_main]
        total, *flags = self.process.reduce_sum(torch.tensor(mine, dtype=torch.float64)).tolist()
        by_ctrl_c, by_system, due = (bool(flag) for flag in flags)
        self._flags = (by_ctrl_c, by_system, due)
        return total / self.process.world_size

    def _save_if_due(self) -> None:
        """Stop if a signal asked for it, else write a checkpoint where it is time."""
        self._stop_if_asked()
        self.checkpoints.raise_failure()
        every = self.config.checkpoint_every_steps
        if self._flags[2] or (every > 0 and self.position.step % every == 0):
            self._save(("last",))

    def _stop_if_asked(self) -> None:
        by_ctrl_c, by_system, _ = self._flags
        if by_ctrl_c or by_system:
            place = f"stage {self.position.stage + 1} epoch {self.position.epoch + 1}"
            raise TrainingInterruptedError(f"stopped in {place}", by_ctrl_c=by_ctrl_c)

    def _poll_stop_requests(self) -> None:
        """Between batches of a validation, which starts anew when the run goes on."""
        self._reduce_loss_and_requests(0.0)
        self._stop_if_asked()

    def _place(self) -> str:
        position = self.position
        batch = position.sample // self.config.batch_size + 1
        return (
            f"stage {position.stage + 1}, epoch {position.epoch + 1}, batch {batch} (step "
            f"{position.step + 1} of the run)"
        )

    def _handle_loss(self, loss: float, part: int) -> None:
        self._updater.seed(self.position.step, part)
        where = describe_loss(self._updater.loss, self._sample, self.process)
        self._raise_or_skip_nonfinite(f"the loss is {loss} at {self._place()}: {where}")

    def _handle_gradient(self, part: int) -> None:
        self._updater.seed(self.position.step, part)
        where = describe_gradient(self._updater.loss, self._sample, self.process)
        self._raise_or_skip_nonfinite(f"the gradient is not finite at {self._place()}: {where}")

    def _raise_or_skip_nonfinite(self, finding: str) -> None:
        skipped = self.position.num_skipped_in_a_row
        if self.config.non_finite == "stop" or skipped >= _MOST_SKIPPED_IN_A_ROW:
            already = f", after {skipped} skipped steps" if skipped else ""
            raise InputError(
                f"{finding}{already}; lower training.stages.learning_rate, check the data for "
                "extreme values, or pass over single steps with training.non_finite=skip"
            )
        self._monitor.say(f"{finding}; the step is skipped")

    @torch.no_grad()
    def _validate(self, loader: Loader) -> float:
        """The validation loss of the averaged weights."""
        with self._updater.average.applied():
            self.forecaster.eval()
            loss = self._validation_loss(loader)
            forecaster = self._updater.loss.forecaster
            scores = self._validation and self._validation(forecaster, self._poll_stop_requests)
        if not math.isfinite(loss):
            raise InputError(
                f"the validation loss is {loss} at {self._place()}; lower "
                "training.stages.learning_rate, or check the validation data"
            )
        self.position = self.position.after_validation(loss, self.config.schedule)
        self._monitor.validation(self.position, loss, scores, self.forecaster.spec)
        return loss

    def _validation_loss(self, loader: Loader) -> float:
        total, count, done = 0.0, len(loader.dataset), 0
        for part, sample in enumerate(loader.epoch(0)):
            rows = min(loader.batch_size, count - done)
            self._updater.seed(-1, part)  # Members of an ensemble differ by noise.
            losses = self._updater.loss(sample.state, sample.forcing, sample.target)
            total += (sample.weight * losses).mean().item() * rows
            done += rows
            self._poll_stop_requests()
        return self.process.reduce_mean(torch.tensor(total, dtype=torch.float64)).item() / count

    def _finish_epoch(self, plan: StagePlan, started: float) -> None:
        position = self.position
        last = position.epoch + 1 == plan.stage.epochs
        due = (position.epoch + 1) % self.config.validation.every_epochs == 0
        loss, best = None, False
        if last or due or self._step_is_due:
            loss = self._validate(plan.validation)
            best = loss < position.best
        record = {
            "epoch": len(position.history) + 1,
            "stage": position.stage + 1,
            "num_steps": plan.stage.num_steps_in(position.epoch),
            "batches": plan.num_batches(position.epoch),
            "learning_rate": plan.learning_rate(position.stage_step - 1, position.plateau),
            "train_loss": position.mean_loss,
            "train_losses": position.mean_losses,
            "validation_loss": loss,
            "seconds": time.monotonic() - started,
        }
        self.position = self.position.after_epoch(record)
        self._save(("best", "last") if best else ("last",))
        if self.process.is_main:
            write_json(self.folder.parent / "history.json", self.position.history)

    def _finish_stage(self) -> None:
        self.position = self.position.after_stage()
        found = self.checkpoints.read("best", self.checkpoints.part)
        assert found is not None, "every stage ends with a validation"
        load_weights(self.forecaster, found[0])
        self._updater.average.reset()
        self.optimizer = self._new_optimizer()
        self._save(("last",))


def write_json(path: Path, value: object) -> None:
    """Write JSON atomically."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1))

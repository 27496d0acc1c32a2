"""Training: stages of one-step and multi-step optimization, on any number of processes.

A stage with K steps minimizes the error of K-step rollouts, differentiated through all of them. The
order of windows, the noise and all other random numbers are pure functions of the seed and the
position, and the position is part of the checkpoint: an interrupted run resumes exactly where it
stopped, also on another number of processes (then up to the order in which numbers are added).
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from data_pipeline.errors import InputError
from data_pipeline.loading.loader import Loader
from data_pipeline.loading.windows import Sample
from fourcastnet_afno.losses.loss import Loss
from fourcastnet_afno.parallel.environment import select_device
from fourcastnet_afno.parallel.process import Process
from fourcastnet_afno.training.checkpoints import RunCheckpoints
from fourcastnet_afno.training.config import TrainingConfig
from fourcastnet_afno.training.monitoring.log import LogFunction
from fourcastnet_afno.training.monitoring.monitor import TrainingMonitor
from fourcastnet_afno.training.monitoring.record import StepRecord, TrainingCallback
from fourcastnet_afno.training.nonfinite import describe_gradient, describe_loss
from fourcastnet_afno.training.objectives import Objective, derive_seed
from fourcastnet_afno.training.precision import matrix_precision
from fourcastnet_afno.training.progress import Position, ProgressRecord
from fourcastnet_afno.training.signals import (
    StepVote,
    StopRequests,
    TrainingInterruptedError,
    stop_requests,
)
from fourcastnet_afno.training.stages import StagePlan, WindowsOf
from fourcastnet_afno.training.updater import Updater, with_noise
from fourcastnet_afno.training.validation import RolloutValidation

_MOST_SKIPPED_IN_A_ROW = 50


class Trainer:
    """Trains a forecaster or a diagnostic head on windows; keeps the last and the best checkpoint.

    Args:
        objective: Loss to minimize. Its trained module has the same weights in all processes.
        windows: Gives training and validation windows for a number of rollout steps.
        config: How to train.
        folder: Folder of ``last.safetensors`` and ``best.safetensors``.
        metadata: Stored in every checkpoint, such as the experiment's configuration.
        losses: Loss of each stage; by default that of the objective throughout.
        process: This process; by default it is alone.
        validation: Scores rollouts in addition to the validation loss.
        functions: Called with step and values of each row of the log, such as wandb's.
        callbacks: Called after every step, in all processes.
        console: Console that shows the progress.
        clock: Seconds that have passed, for rates and for checkpoints by time.
    """

    def __init__(
        self,
        objective: Objective,
        windows: WindowsOf,
        config: TrainingConfig,
        *,
        folder: Path,
        metadata: Mapping[str, Any],
        losses: Sequence[Loss] | None = None,
        process: Process | None = None,
        validation: RolloutValidation | None = None,
        functions: Sequence[LogFunction] = (),
        callbacks: Sequence[TrainingCallback] = (),
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.process = process or Process(device=select_device(config.device))
        self.objective, self.windows = objective.to(self.process.device), windows
        self.config, self.folder = config, folder
        self._losses = losses or [objective.loss] * len(config.stages)
        self.updater = Updater(self.objective, config, self.process)
        self.checkpoints = RunCheckpoints(
            folder, self.updater, metadata, self.process, keep_last=config.keep_last
        )
        self.position = Position()
        self._validation, self._functions = validation, functions
        self._callbacks, self._console, self._clock = callbacks, console, clock
        self._requests, self._saved_at = StopRequests(), clock()

    def fit(self) -> list[ProgressRecord]:
        """Train all stages that are left, from ``last.safetensors`` where there is one.

        Returns:
            A record of each epoch, as in ``history.json``.

        Raises:
            TrainingInterruptedError: If SIGINT, SIGTERM or SIGUSR1 arrives in any process, after
                the last checkpoint.
            InputError: If the loss is not finite, or a checkpoint cannot be written.
        """
        device, config = self.process.device, self.config
        restored = self.checkpoints.restore()
        self.position = restored or self.position
        if self.position.stage == len(config.stages):
            return list(self.position.history)  # A run that is complete writes nothing.
        with ExitStack() as stack:
            # Dropout draws from torch's global generator, which is restored afterwards.
            forked = [device] if device.type == "cuda" else []
            stack.enter_context(torch.random.fork_rng(forked))
            stack.enter_context(matrix_precision(device, self.objective.precision))
            self._requests = stack.enter_context(stop_requests())
            monitor = TrainingMonitor(
                replace(config, precision=self.objective.precision),
                self.process,
                folder=self.folder.parent / "logs",
                position=self.position,
                functions=self._functions,
                console=self._console,
                clock=self._clock,
            )
            self._monitor = stack.enter_context(closing(monitor))
            try:
                if restored is None and "auto" in (config.precision, config.num_threads):
                    self._save("last")  # keeps what that stands for
                while (stage := self.position.stage) < len(config.stages):
                    plan = self._begin_stage(stage)
                    while self.position.epoch < plan.stage.epochs and not self._stop_early:
                        self._run_epoch(plan)
                    self.position = self.position.after_stage()
                    self.checkpoints.load_best()  # The next stage starts from these weights.
                    self.updater.restart()
                    self._save("last")
                self.checkpoints.wait()
            except TrainingInterruptedError:
                self._save("last")
                self.checkpoints.wait()
                raise
        return list(self.position.history)

    def _begin_stage(self, stage: int) -> StagePlan:
        """The batches of a stage, in which processes share windows where those have members."""
        process, rollout = self.process, self.config.rollout_of(self.config.stages[stage])
        if rollout.num_members == 1:
            process = replace(process, members=None)
        self.objective.begin_stage(self._losses[stage], rollout, process.members)
        return StagePlan(stage, self.windows, self.config, process)

    @property
    def _stop_early(self) -> bool:
        return 0 < self.config.early_stopping <= self.position.num_worse

    def _run_epoch(self, plan: StagePlan) -> None:
        started, epoch = self._clock(), self.position.epoch
        every = self.config.checkpoint_every_steps
        num_windows = plan.num_windows(epoch)
        samples = plan.training(epoch).epoch(plan.epoch_of_run(epoch), self.position.sample)
        # The run may have been stopped between a step and its validation.
        self._validate_if_due(plan)
        with self._monitor.measure_wait(samples) as measured:
            while self.position.sample < num_windows and not self._stop_early:
                vote = self._take_step(plan, measured)
                self._stop_if_requested(vote)
                self.checkpoints.wait(running=False)
                if vote.checkpoint_due or (every > 0 and self.position.step % every == 0):
                    self._save("last")
                self._validate_if_due(plan)
        if not self._stop_early:
            self._finish_epoch(plan, started)

    def _take_step(self, plan: StagePlan, samples: Iterator[Sample]) -> StepVote:
        position, config = self.position, self.config
        num_windows = plan.num_windows(position.epoch)
        windows = min(config.batch_size, num_windows - position.sample)
        rate = plan.learning_rate(position.stage_step, position.plateau)
        sample, loss, vote = self._add_gradients(samples, windows)
        norm = math.nan
        if math.isfinite(loss):
            norm = self.updater.update(rate, position.step - position.num_skipped)
            # A scaled loss overflows now and then; its scale is lowered until it does not.
            if not math.isfinite(norm) and config.precision != "float16":
                last = -(-windows // (config.batch_size // config.accumulate)) - 1
                self.updater.seed(position.step, last)
                seeds = self.updater.seeds(position.step, sample)
                cause = describe_gradient(self.objective, sample, seeds, self.process)
                self._raise_or_skip_nonfinite("the gradient is not finite", cause)
        self.updater.discard()
        skipped = not math.isfinite(norm)
        progress = {"windows": windows, "total": num_windows, "skipped": skipped}
        self.position = position.after_step(loss, **progress)
        record = StepRecord(
            step=self.position.step,
            stage=plan.index + 1,
            epoch=position.epoch + 1,
            num_epochs=plan.stage.epochs,
            samples=self.position.sample,
            num_samples=num_windows,
            samples_left=plan.windows_left(position.epoch, self.position.sample),
            loss=loss,
            median_loss=self.position.median_loss,
            gradient_norm=norm,
            learning_rate=rate,
            skipped=skipped,
            num_skipped=self.position.num_skipped,
            spike=not skipped and position.is_spike(loss, config.spike_factor),
            rates=self._monitor.measure_step(self.objective, sample, windows),
        )
        self._monitor.step(record)
        for callback in self._callbacks:
            callback.on_step(record)
        return vote

    def _add_gradients(
        self, samples: Iterator[Sample], windows: int
    ) -> tuple[Sample, float, StepVote]:
        """Add up the gradients of a batch; gives its last microbatch, its loss and last vote."""
        config, objective, step = self.config, self.objective, self.position.step
        noise = config.input_noise * objective.forecaster.diff_std
        size = config.batch_size // config.accumulate
        objective.trained.train()
        microbatch, total = 0, 0.0
        while True:
            sample = next(samples)
            if config.input_noise > 0:
                seed = derive_seed(config.seed, step)
                sample = with_noise(sample, noise, seed, objective.forecaster.rows)
            left = windows - microbatch * size
            weight, last = min(size, left) / windows, left <= size
            loss = self.updater.accumulate(
                sample, weight=weight, step=step, microbatch=microbatch, last=last
            )
            vote = self._reduce_loss_and_requests(loss)
            if not math.isfinite(vote.loss):
                self.updater.seed(step, microbatch)
                seeds = self.updater.seeds(step, sample)
                cause = describe_loss(objective, sample, seeds, self.process)
                self._raise_or_skip_nonfinite(f"the loss is {vote.loss}", cause)
            total += vote.loss
            if last:
                return sample, total, vote
            microbatch += 1

    def _reduce_loss_and_requests(self, loss: float) -> StepVote:
        """Mean of a loss and requests of any process in one exchange: each message has its cost."""
        minutes, requests = self.config.checkpoint_every_minutes, self._requests
        # The main process decides by its clock.
        due = self.process.is_main and 0 < minutes <= (self._clock() - self._saved_at) / 60
        values = [loss, requests.by_ctrl_c, requests.by_system, due]
        if self.process.world_size > 1:
            total = self.process.reduce_sum(torch.tensor(values, dtype=torch.float64))
            values = total.tolist()
        by_ctrl_c, by_system, due = map(bool, values[1:])
        loss = values[0] / self.process.world_size
        return StepVote(loss=loss, by_ctrl_c=by_ctrl_c, by_system=by_system, checkpoint_due=due)

    def _raise_or_skip_nonfinite(self, problem: str, cause: str) -> None:
        message = f"{problem} at {self._describe_step()}: {cause}"
        skipped = self.position.num_skipped_in_a_row
        if self.config.non_finite == "stop" or skipped >= _MOST_SKIPPED_IN_A_ROW:
            already = f", after {skipped} skipped steps" if skipped else ""
            raise InputError(
                f"{message}{already}; lower training.stages.learning_rate, check the data for "
                "extreme values, or skip single steps with training.non_finite=skip",
                code="not-finite",
            )
        self._monitor.say(f"{message}; the step is skipped")

    def _describe_step(self) -> str:
        batch = self.position.sample // self.config.batch_size + 1
        step = self.position.step + 1
        return f"{self._describe_epoch()}, batch {batch} (step {step} of the run)"

    def _describe_epoch(self) -> str:
        return f"stage {self.position.stage + 1}, epoch {self.position.epoch + 1}"

    def _stop_if_requested(self, vote: StepVote) -> None:
        if vote.by_ctrl_c or vote.by_system:
            place = self._describe_epoch()
            raise TrainingInterruptedError(f"stopped in {place}", by_ctrl_c=vote.by_ctrl_c)

    def _save(self, *names: str) -> None:
        self._monitor.flush()  # A checkpoint is not newer than the log.
        self.checkpoints.save(self.position, *names)
        self._saved_at = self._clock()

    @property
    def _validation_is_due(self) -> bool:
        every, step = self.config.validation.every_steps, self.position.stage_step
        return every > 0 and step > 0 and step % every == 0

    def _validate_if_due(self, plan: StagePlan) -> None:
        position = self.position
        # The end of an epoch has a validation of its own.
        is_between = position.sample < plan.num_windows(position.epoch)
        if self._validation_is_due and position.validated < position.step and is_between:
            loss = self._validate(plan.validation)
            if loss < position.best:
                self._save("best", "last")

    @torch.no_grad()
    def _validate(self, loader: Loader) -> float:
        """The validation loss of the averaged weights."""

        def poll_stop_requests() -> None:  # A validation starts anew when the run resumes.
            self._stop_if_requested(self._reduce_loss_and_requests(0.0))

        objective, size, count, total = self.objective, loader.batch_size, len(loader.dataset), 0.0
        with self.updater.average.applied():
            objective.trained.eval()
            for batch, sample in enumerate(loader.epoch(0)):
                self.updater.seed(-1, batch)  # Members of an ensemble differ by noise.
                seeds = self.updater.seeds(-1, sample)
                losses = objective(sample.state, sample.forcing, sample.target, seeds)
                windows = min(size, count - batch * size)
                total += (sample.weight * losses).mean().item() * windows
                poll_stop_requests()
            mean = self.process.reduce_mean(torch.tensor(total, dtype=torch.float64))
            loss = mean.item() / count
            scores = self._validation and self._validation(objective.forecaster, poll_stop_requests)
        if not math.isfinite(loss):
            raise InputError(
                f"the validation loss is {loss} at {self._describe_step()}; lower "
                "training.stages.learning_rate, or check the validation data",
                code="not-finite",
            )
        self.position = self.position.after_validation(loss, self.config.schedule)
        self._monitor.validation(self.position, loss, scores, objective.trained.spec)
        return loss

    def _finish_epoch(self, plan: StagePlan, started: float) -> None:
        position = self.position
        is_last = position.epoch + 1 == plan.stage.epochs
        is_due = (position.epoch + 1) % self.config.validation.every_epochs == 0
        loss, names = None, ["last"]
        if is_last or is_due or self._validation_is_due:
            loss = self._validate(plan.validation)
            names = ["best", "last"] if loss < position.best else names
        record = {
            "epoch": len(position.history) + 1,
            "stage": position.stage + 1,
            "num_steps": plan.stage.num_steps_in(position.epoch),
            "batches": plan.num_batches(position.epoch),
            "learning_rate": plan.learning_rate(position.stage_step - 1, position.plateau),
            "train_loss": position.mean_loss,
            "train_losses": position.mean_losses,
            "validation_loss": loss,
            "seconds": self._clock() - started,
        }
        self.position = self.position.after_epoch(record)
        self._save(*names)

"""Training: stages of one-step and multi-step optimization, exact on resume.

The loss of a stage with K steps is the mean over a K-step rollout, differentiated through all of
it, of the area-weighted squared error in units of each channel's change over a timestep. The order
of samples is a pure function of seed and epoch, and all random state is part of the checkpoint, so
an interrupted run goes on exactly where it stopped.
"""

import copy
import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import torch
from torch import Tensor

from data_pipeline.atomic import replacing
from data_pipeline.dataset import Sample, WindowDataset
from data_pipeline.errors import InputError
from data_pipeline.loader import Loader
from data_pipeline.progress import progress
from fourcastnet_afno.autoregression import rollout
from fourcastnet_afno.checkpoint import (
    pack_optimizer,
    prefixed,
    read_checkpoint,
    save_checkpoint,
    under,
    unpack_optimizer,
)
from fourcastnet_afno.forecaster import Forecaster
from fourcastnet_afno.losses import area_weighted_mse

Record = Mapping[str, Any]
_LOSSES_PER_EPOCH = 50  # points of the loss curve


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A part of the training with its own schedule: linear warm-up, then a cosine to zero.

    Args:
        epochs: Passes over the training windows.
        num_steps: Steps of the rollout that is trained.
        learning_rate: Peak learning rate.
    """

    epochs: int = 10
    num_steps: int = 1
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.num_steps < 1 or not self.learning_rate > 0:
            raise ValueError(
                f"training.stages: epochs and num_steps must be at least 1 and learning_rate above "
                f"0, got {self}"
            )


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How a forecaster is trained.

    Args:
        stages: One after the other, each starting from the best weights of the one before.
        batch_size: Windows in a batch.
        weight_decay: Of AdamW.
        warmup_fraction: Share of a stage's steps with a rising learning rate.
        gradient_clip: Largest norm of the gradient.
        ema_decay: Decay of the moving average of the weights that is validated and kept; 0 is off.
        input_noise: Standard deviation of Gaussian noise on the first input, in units of each
            channel's change over a timestep.
        seed: Of initial weights, sample order and dropout.
        device: ``auto`` takes a GPU where there is one.
        precision: ``bfloat16`` uses autocast; weights and Fourier transforms stay float32.
    """

    stages: list[Stage] = field(default_factory=lambda: [Stage()])
    batch_size: int = 32
    weight_decay: float = 0.01
    warmup_fraction: float = 0.05
    gradient_clip: float = 1.0
    ema_decay: float = 0.0
    input_noise: float = 0.0
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        if not self.stages:
            raise ValueError("training.stages must have at least one stage, got none")
        if self.batch_size < 1:
            raise ValueError(f"training.batch_size must be at least 1, got {self.batch_size}")
        if not 0 <= self.ema_decay < 1 or not 0 <= self.warmup_fraction <= 1:
            raise ValueError(
                "training.ema_decay must lie in 0..1 (1 excluded) and training.warmup_fraction in "
                f"0..1, got {self.ema_decay} and {self.warmup_fraction}"
            )


class TrainingInterruptedError(Exception):
    """A signal ended the run; the last checkpoint is complete and the run can go on."""


@dataclass(frozen=True, kw_only=True)
class Position:
    """How far a run has come: the next batch to train on, and what is known so far.

    Args:
        stage: Index of the stage.
        epoch: Index of the epoch in the stage.
        batch: Index of the batch in the epoch.
        loss_sums: Sums of this epoch's losses over each fiftieth of its batches.
        best: Lowest validation loss of this stage.
        history: A record for each finished epoch.
    """

    stage: int = 0
    epoch: int = 0
    batch: int = 0
    loss_sums: tuple[float, ...] = ()
    best: float = math.inf
    history: tuple[Record, ...] = ()


def select_device(name: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """The torch device of a configuration.

    Raises:
        InputError: If a GPU is asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("training.device=cuda needs a GPU and torch finds none; use device=cpu")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def learning_rate(stage: Stage, warmup_fraction: float, step: int, num_steps: int) -> float:
    """Linear warm-up, then half a cosine to zero.

    Args:
        stage: Sets the peak.
        warmup_fraction: Share of ``num_steps`` that warms up.
        step: Steps done in this stage.
        num_steps: Steps of this stage.
    """
    warmup = max(1, round(warmup_fraction * num_steps))
    if step < warmup:
        return stage.learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(1, num_steps - warmup)
    return stage.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


class Trainer:
    """Trains a forecaster on windows and keeps the last and the best checkpoint.

    Args:
        forecaster: With fresh weights; trained in place.
        windows: Gives training and validation windows for a number of rollout steps.
        config: How to train.
        folder: Where ``last.safetensors`` and ``best.safetensors`` are kept.
        metadata: Kept inside every checkpoint, as the experiment's configuration.
    """

    def __init__(
        self,
        forecaster: Forecaster,
        windows: Callable[[int], tuple[WindowDataset, WindowDataset]],
        config: TrainingConfig,
        *,
        folder: Path,
        metadata: Mapping[str, Any],
    ) -> None:
        self.device = select_device(config.device)
        self.forecaster = forecaster.to(self.device)
        self.averaged = copy.deepcopy(self.forecaster).requires_grad_(False).eval()
        self.windows, self.config = windows, config
        self.folder, self.metadata = folder, metadata
        weights = forecaster.spec.grid.area_weights()
        self.area_weights = torch.from_numpy(weights).float().to(self.device)
        self.position = Position()
        self.optimizer = self._new_optimizer()

    def fit(self) -> list[Record]:
        """Train all stages that are left, from ``last.safetensors`` where there is one.

        Returns:
            A record per epoch: epoch, train_loss, validation_loss, learning_rate, seconds, ...

        Raises:
            TrainingInterruptedError: If SIGINT or SIGTERM arrives, after the last checkpoint.
            InputError: If the loss is not finite.
        """
        # Dropout and stochastic depth draw from torch's global generator, restored afterwards.
        with torch.random.fork_rng(), _stop_requested() as stopped:
            torch.manual_seed(self.config.seed)
            self._resume()
            while self.position.stage < len(self.config.stages):
                self._run_stage(self.config.stages[self.position.stage], stopped)
        return list(self.position.history)

    def _new_optimizer(self) -> torch.optim.Optimizer:
        decayed = [p for p in self.forecaster.parameters() if p.ndim > 1]
        free = [p for p in self.forecaster.parameters() if p.ndim <= 1]
        groups = [
            {"params": decayed, "weight_decay": self.config.weight_decay},
            {"params": free, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.95), fused=True)

    def _resume(self) -> None:
        last = self.folder / "last.safetensors"
        if not last.exists():
            return
        tensors, metadata = read_checkpoint(last)
        self.forecaster.load_state_dict(under("weights", tensors))
        self.averaged.load_state_dict(under("forecaster", tensors))
        unpack_optimizer(self.optimizer, under("optimizer", tensors))
        torch.set_rng_state(tensors["random.cpu"])
        if "random.cuda" in tensors and self.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["random.cuda"])
        position = metadata["position"]
        lists = {key: tuple(position[key]) for key in ("loss_sums", "history")}
        self.position = Position(**{**position, **lists})

    def _run_stage(self, stage: Stage, stopped: list[int]) -> None:
        size, seed = self.config.batch_size, self.config.seed
        loaders = [
            Loader(windows, size, seed=seed, shuffle=shuffle, device=self.device)
            for windows, shuffle in zip(self.windows(stage.num_steps), (True, False), strict=True)
        ]
        while self.position.epoch < stage.epochs:
            started = time.monotonic()
            self._run_epoch(stage, loaders[0], stopped)
            self._finish_epoch(stage, loaders, started)
        self._finish_stage()

    def _run_epoch(self, stage: Stage, loader: Loader, stopped: list[int]) -> None:
        position = self.position
        title = f"Stage {position.stage + 1} epoch {position.epoch + 1}/{stage.epochs}"
        with progress(title, loader.num_batches) as advance:
            advance(position.batch)
            for sample in loader.epoch(
                len(position.history), first_sample=position.batch * loader.batch_size
            ):
                loss = self._train_batch(sample, stage, loader.num_batches)
                advance(note=f"loss {loss:.4f}")
                if stopped:
                    self._save("last")
                    raise TrainingInterruptedError(f"stopped in {title.lower()}")

    def _train_batch(self, sample: Sample, stage: Stage, num_batches: int) -> float:
        position = self.position
        step, total = position.epoch * num_batches + position.batch, stage.epochs * num_batches
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(stage, self.config.warmup_fraction, step, total)
        loss = self._loss(self.forecaster.train(), self._add_noise(sample))
        value = loss.item()
        if not math.isfinite(value):
            raise InputError(
                f"the loss is {value} at stage {position.stage + 1}, epoch {position.epoch + 1}, "
                f"batch {position.batch + 1}; lower training.stages.learning_rate, or check the "
                "data for extreme values"
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.forecaster.parameters(), self.config.gradient_clip)
        self.optimizer.step()
        self._update_average()
        self.position = replace(
            position,
            batch=position.batch + 1,
            loss_sums=_add_loss(position.loss_sums, value, position.batch, num_batches),
        )
        return value

    def _add_noise(self, sample: Sample) -> Sample:
        if self.config.input_noise == 0:
            return sample
        noise = torch.randn_like(sample.state) * self.forecaster.diff_std
        return sample._replace(state=sample.state + self.config.input_noise * noise)

    def _loss(self, forecaster: Forecaster, sample: Sample) -> Tensor:
        losses = []
        scale = forecaster.diff_std
        enabled = self.config.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=enabled):
            forcings, num_steps = sample.forcing.unbind(1), sample.target.shape[1]
            steps = rollout(forecaster, sample.state, forcings, num_steps)
            for predictions, targets in zip(steps, sample.target.unbind(1), strict=True):
                losses.append(area_weighted_mse(predictions, targets, self.area_weights, scale))
        return torch.stack(losses).mean()

    @torch.no_grad()
    def _update_average(self) -> None:
        done = sum(int(record["batches"]) for record in self.position.history)
        step = done + self.position.batch
        decay = min(self.config.ema_decay, (1 + step) / (10 + step))
        pairs = zip(self.averaged.parameters(), self.forecaster.parameters(), strict=True)
        for averaged, current in pairs:
            averaged.lerp_(current, 1 - decay)

    @torch.no_grad()
    def _validate(self, loader: Loader) -> float:
        total, count = 0.0, 0
        for sample in loader.epoch(0):
            total += self._loss(self.averaged, sample).item() * len(sample.state)
            count += len(sample.state)
        return total / count

    def _finish_epoch(self, stage: Stage, loaders: list[Loader], started: float) -> None:
        position, num_batches = self.position, loaders[0].num_batches
        validation_loss = self._validate(loaders[1])
        record = {
            "epoch": len(position.history) + 1,
            "stage": position.stage + 1,
            "num_steps": stage.num_steps,
            "batches": num_batches,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "train_loss": sum(position.loss_sums) / num_batches,
            "train_losses": _mean_losses(position.loss_sums, num_batches),
            "validation_loss": validation_loss,
            "seconds": time.monotonic() - started,
        }
        self.position = Position(
            stage=position.stage,
            epoch=position.epoch + 1,
            best=min(position.best, validation_loss),
            history=(*position.history, record),
        )
        if validation_loss < position.best:
            self._save("best")
        self._save("last")
        write_json(self.folder.parent / "history.json", self.position.history)

    def _finish_stage(self) -> None:
        # Losses of different rollout lengths do not compare: the next stage finds its own best.
        self.position = Position(stage=self.position.stage + 1, history=self.position.history)
        best, _ = read_checkpoint(self.folder / "best.safetensors", "forecaster")
        self.forecaster.load_state_dict(best)
        self.averaged.load_state_dict(best)
        self.optimizer = self._new_optimizer()
        self._save("last")

    def _save(self, name: str) -> None:
        tensors = prefixed("forecaster", self.averaged.state_dict())
        if name == "last":
            tensors |= prefixed("weights", self.forecaster.state_dict())
            tensors |= pack_optimizer(self.optimizer)
            tensors["random.cpu"] = torch.get_rng_state()
            if self.device.type == "cuda":
                tensors["random.cuda"] = torch.cuda.get_rng_state()
        metadata = {**self.metadata, "position": asdict(self.position)}
        save_checkpoint(self.folder / f"{name}.safetensors", self.forecaster, tensors, metadata)


def write_json(path: Path, value: object) -> None:
    """Write JSON atomically."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1))


def _add_loss(
    sums: tuple[float, ...], value: float, batch: int, num_batches: int
) -> tuple[float, ...]:
    """Add to the sum of the bin that ``batch`` falls in; bins fill from first to last."""
    starts_bin = batch == 0 or _bin(batch, num_batches) > _bin(batch - 1, num_batches)
    return (*sums, value) if starts_bin else (*sums[:-1], sums[-1] + value)


def _mean_losses(sums: tuple[float, ...], num_batches: int) -> list[float]:
    bins = [_bin(batch, num_batches) for batch in range(num_batches)]
    counts = [bins.count(index) for index in sorted(set(bins))]
    return [total / count for total, count in zip(sums, counts, strict=True)]


def _bin(batch: int, num_batches: int) -> int:
    return batch * _LOSSES_PER_EPOCH // num_batches


@contextmanager
def _stop_requested() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM instead of raising inside a step; a second one raises."""
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)

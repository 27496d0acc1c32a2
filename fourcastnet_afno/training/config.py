"""How a forecaster is trained: stages and their settings."""

from dataclasses import dataclass, field
from typing import Literal

from fourcastnet_afno.losses.loss import LossConfig
from fourcastnet_afno.parallel.environment import DeviceName
from fourcastnet_afno.parallel.wrap import Parallel
from fourcastnet_afno.training.monitoring.log import LoggerName
from fourcastnet_afno.training.optimizers import OptimizerConfig
from fourcastnet_afno.training.precision import Precision
from fourcastnet_afno.training.rollout_loss import RolloutConfig, curriculum_steps
from fourcastnet_afno.training.schedules import ScheduleConfig
from fourcastnet_afno.training.validation import ValidationConfig

# A run may go on with other values of these: they say where and how fast, not what.
OPERATIONAL_SETTINGS = (
    "device", "parallel", "spatial_ranks", "compress_gradients", "compile", "timeout_minutes",
    "checkpoint_every_minutes", "checkpoint_every_steps", "keep_last", "log_every", "loggers",
    "peak_tflops", "workers", "read_ahead",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A part of the training with a schedule of its own, see ``TrainingConfig.schedule``.

    Args:
        epochs: Passes over the training windows.
        num_steps: Steps of the rollout that is trained; in a curriculum, of its last epochs.
        first_num_steps: Steps in the first epochs of a curriculum; 0 is ``num_steps`` throughout.
        learning_rate: Peak learning rate.
    """

    epochs: int = 10
    num_steps: int = 1
    first_num_steps: int = 0
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.num_steps < 1 or not self.learning_rate > 0:
            raise ValueError(
                f"training.stages: epochs and num_steps must be at least 1 and learning_rate above "
                f"0, got {self}"
            )
        if not 0 <= self.first_num_steps <= self.num_steps:
            raise ValueError(
                f"training.stages: first_num_steps must be at most num_steps, got {self}"
            )

    def num_steps_in(self, epoch: int) -> int:
        """Steps of the rollout that is trained in an epoch of the stage."""
        first = self.first_num_steps or self.num_steps
        return curriculum_steps(epoch, self.epochs, first, self.num_steps)


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How a forecaster is trained.

    Args:
        stages: One after the other, each starting from the best weights of the one before.
        batch_size: Windows in a batch, over all processes; each batch is an optimizer step.
        accumulate: Parts that a batch is cut into, one after the other, to save memory.
        start_from: Checkpoint whose weights a new run starts from, as far as they match.
        rollout: How the gradient goes through a rollout, weights of its steps, and ensembles.
        loss: What is minimized, also in the validation that decides which weights are the best.
        optimizer: Which optimizer, with which weight decay and rates by layer.
        schedule: How the learning rate changes over each stage.
        gradient_clip: Largest norm of the gradient; 0 is off.
        ema_decay: Decay of the moving average of the weights that is validated and kept; 0 is off.
        input_noise: Standard deviation of Gaussian noise on the first input, in units of each
            channel's change over a timestep.
        seed: Of initial weights, sample order, noise and dropout.
        device: ``auto`` takes a GPU where there is one.
        precision: ``bfloat16`` and ``float16`` use autocast, the latter with a scaled loss; weights
            and Fourier transforms stay float32. ``tf32`` allows TF32 in matrix products on GPUs.
        compile: Mode of ``torch.compile`` for the network; ``reduce-overhead`` uses CUDA graphs.
        parallel: On several processes, ``ddp`` keeps all weights in each, ``fsdp`` a part.
        spatial_ranks: Processes that share each field, some rows each, for grids that do not
            fit one device; it divides their number, and the rest share the batches.
        compress_gradients: Whether ``ddp`` sends gradients as bfloat16.
        timeout_minutes: How long processes wait for each other before the run fails.
        non_finite: What to do when a loss or gradient is not finite: ``stop``, or ``skip`` the
            step.
        workers: Whether threads or spawned processes read the batches, see ``loader``.
        read_ahead: Batches that are read while one is in use.
        spike_factor: A loss above this multiple of the recent median is reported as a spike.
        early_stopping: Validations without a lower loss after which a stage ends; 0 is off.
        validation: When and by which rollouts the run is validated.
        checkpoint_every_minutes: Time between checkpoints, beside those after each epoch; 0 is
            none.
        checkpoint_every_steps: Optimizer steps between checkpoints, likewise.
        keep_last: Number of checkpoints to go on from that are kept.
        log_every: Optimizer steps between rows of the log.
        loggers: Further places for the log; their packages must be installed.
        peak_tflops: Peak of a device in 1e12 operations per second, for the model FLOP utilization;
            0 takes it from a table of GPUs.
    """

    stages: list[Stage] = field(default_factory=lambda: [Stage()])
    batch_size: int = 32
    accumulate: int = 1
    start_from: str | None = None
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    gradient_clip: float = 1.0
    ema_decay: float = 0.0
    input_noise: float = 0.0
    seed: int = 0
    device: DeviceName = "auto"
    precision: Precision = "float32"
    compile: Literal["off", "default", "reduce-overhead", "max-autotune"] = "off"
    parallel: Parallel = "ddp"
    spatial_ranks: int = 1
    compress_gradients: bool = False
    timeout_minutes: float = 10.0
    non_finite: Literal["stop", "skip"] = "stop"
    workers: Literal["threads", "processes"] = "threads"
    read_ahead: int = 2
    spike_factor: float = 5.0
    early_stopping: int = 0
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    checkpoint_every_minutes: float = 10.0
    checkpoint_every_steps: int = 0
    keep_last: int = 1
    log_every: int = 1
    loggers: list[LoggerName] = field(default_factory=list)
    peak_tflops: float = 0.0

    def __post_init__(self) -> None:
        if not self.stages:
            raise ValueError("training.stages must have at least one stage, got none")
        if self.accumulate < 1 or self.batch_size < 1 or self.batch_size % self.accumulate:
            raise ValueError(
                "training.batch_size must be at least 1 and a multiple of training.accumulate, got "
                f"{self.batch_size} and {self.accumulate}"
            )
        if not 0 <= self.ema_decay < 1:
            raise ValueError(
                f"training.ema_decay must lie in 0..1 (1 excluded), got {self.ema_decay}"
            )
        self._check_combinations()
        self._check_counts()

    def _check_combinations(self) -> None:
        if self.parallel == "fsdp" and self.precision == "float16":
            raise ValueError(
                "training.parallel=fsdp has no scaled loss for precision=float16; use bfloat16"
            )
        if self.parallel == "fsdp" and self.compress_gradients:
            raise ValueError("training.compress_gradients is for parallel=ddp, got fsdp")
        if self.spatial_ranks > 1 and self.compile != "off":
            raise ValueError(
                "training.compile does not see the exchanges of training.spatial_ranks="
                f"{self.spatial_ranks}; set training.compile=off"
            )

    def _check_counts(self) -> None:
        least = {
            "gradient_clip": 0, "input_noise": 0, "early_stopping": 0, "keep_last": 1,
            "log_every": 1, "checkpoint_every_minutes": 0, "checkpoint_every_steps": 0,
            "peak_tflops": 0, "read_ahead": 0, "spatial_ranks": 1,
        }  # fmt: skip
        for name, value in least.items():
            if not getattr(self, name) >= value:
                raise ValueError(
                    f"training.{name} must be at least {value}, got {getattr(self, name)}"
                )
        if not self.spike_factor > 1 or not self.timeout_minutes > 0:
            raise ValueError(
                "training.spike_factor must be above 1 and training.timeout_minutes above 0, got "
                f"{self.spike_factor} and {self.timeout_minutes}"
            )

"""How a forecaster is trained: stages and their settings.

Nothing here imports torch, so that the command line shows the settings at once.
"""

from dataclasses import dataclass, field
from typing import Literal

from fourcastnet_afno.losses.config import LossConfig
from fourcastnet_afno.parallel.config import DeviceName, Parallel
from fourcastnet_afno.training.schedules import ScheduleConfig

LoggerName = Literal["wandb", "mlflow"]
Precision = Literal["float32", "tf32", "bfloat16", "float16"]
# A run may go on with other values of these: they say where and how fast, not what.
OPERATIONAL_SETTINGS = (
    "device", "parallel", "spatial_ranks", "compress_gradients", "compile", "timeout_minutes",
    "checkpoint_every_minutes", "checkpoint_every_steps", "keep_last", "log_every", "loggers",
    "peak_tflops", "workers", "read_ahead",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Which optimizer updates which weights.

    Args:
        name: ``adamw`` is torch's in one fused kernel, ``lamb`` is for large batches; ``apex_adam``
            and ``apex_lamb`` are NVIDIA apex's fused ones, which must be installed and need a GPU.
        betas: Decay of the moving averages of gradient and squared gradient.
        eps: Added to the root of the latter.
        weight_decay: Of weights other than biases, gains and positions.
        layer_decay: Factor of the learning rate from a layer to the one before it; 1 is off.
        frozen: Patterns of names of weights that stay as they are, as ``network.blocks.0.*``.
    """

    name: Literal["adamw", "lamb", "apex_adam", "apex_lamb"] = "adamw"
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    weight_decay: float = 0.01
    layer_decay: float = 1.0
    frozen: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not all(0 <= beta < 1 for beta in self.betas) or not self.eps > 0:
            raise ValueError(
                "optimizer.betas must lie in 0..1 (1 excluded) and optimizer.eps above 0, got "
                f"{self.betas} and {self.eps}"
            )
        if not self.weight_decay >= 0 or not 0 < self.layer_decay <= 1:
            raise ValueError(
                "optimizer.weight_decay must be at least 0 and optimizer.layer_decay lie in 0..1 "
                f"(0 excluded), got {self.weight_decay} and {self.layer_decay}"
            )

        if self.name in ("lamb", "apex_lamb") and self.weight_decay == 0:
            raise ValueError(
                f"optimizer.name={self.name} adapts the updates of weights with decay alone, as "
                "apex does, got optimizer.weight_decay 0; set it above 0, or use adamw"
            )


@dataclass(frozen=True, kw_only=True)
class RolloutConfig:
    """How a rollout is trained.

    Args:
        gradient: See the head of ``rollout_loss``.
        discount: Weight of a step over that of the step before it.
        num_members: Forecasts from each window, as an ensemble, for ``loss.kind=crps``. They differ
            by dropout, stochastic depth and ``member_noise``.
        member_noise: Standard deviation of Gaussian noise on the history of each member, in units
            of each channel's change over a timestep.
    """

    gradient: Literal["full", "checkpointed", "pushforward"] = "full"
    discount: float = 1.0
    num_members: int = 1
    member_noise: float = 0.0

    def __post_init__(self) -> None:
        if not self.discount > 0 or self.num_members < 1 or not self.member_noise >= 0:
            raise ValueError(
                "rollout.discount must be above 0, rollout.num_members at least 1 and "
                f"rollout.member_noise not negative, got {self}"
            )

    def step_weights(self, num_steps: int) -> list[float]:
        """Weight of each step, with sum 1."""
        if self.gradient == "pushforward":
            return [0.0] * (num_steps - 1) + [1.0]
        powers = [self.discount**step for step in range(num_steps)]
        return [power / sum(powers) for power in powers]


@dataclass(frozen=True, kw_only=True)
class ValidationConfig:
    """When a run is validated, and by which rollouts beside the loss.

    Args:
        every_epochs: Epochs between validations; the last epoch of a stage always has one.
        every_steps: Optimizer steps of a stage between further validations; 0 is none.
        num_steps: Timesteps of the rollouts that are scored; 0 is none.
        num_init_times: Initial times, evenly spread over the validation period.
        batch_size: Rollouts that run together, over all processes.
    """

    every_epochs: int = 1
    every_steps: int = 0
    num_steps: int = 4
    num_init_times: int = 16
    batch_size: int = 16

    def __post_init__(self) -> None:
        for name, least in (
            ("every_epochs", 1),
            ("every_steps", 0),
            ("num_steps", 0),
            ("num_init_times", 1),
            ("batch_size", 1),
        ):
            if getattr(self, name) < least:
                raise ValueError(
                    f"training.validation.{name} must be at least {least}, got "
                    f"{getattr(self, name)}"
                )


def curriculum_steps(progress: int, total: int, first: int, last: int) -> int:
    """Steps of the rollout that is trained at a point of a curriculum from ``first`` to ``last``.

    Each number of steps has an equal share of the stage, as nearly as whole epochs allow; a stage
    of fewer epochs than numbers of steps leaves some out.

    Args:
        progress: Epochs (or optimizer steps) done.
        total: Epochs (or optimizer steps) of the stage.
        first: Steps at the start.
        last: Steps at the end, at least ``first``.
    """
    return min(last, first + progress * (last - first + 1) // total)


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

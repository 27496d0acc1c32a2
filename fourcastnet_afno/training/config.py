"""How a forecaster is trained: stages and their settings.

Nothing here imports torch, so that the command line shows the settings at once.
"""

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt, MinLen

from data_pipeline.bounds import Count, CountOrZero, Seed, check_bounds
from fourcastnet_afno.fine_tuning.config import AdapterConfig, StatisticsOrigin
from fourcastnet_afno.losses.config import LossChanges, LossConfig
from fourcastnet_afno.parallel.config import DeviceName, Parallel
from fourcastnet_afno.training.schedules import ScheduleConfig

LoggerName = Literal["wandb", "mlflow"]
Precision = Literal["auto", "float32", "tf32", "bfloat16", "float16"]
RolloutGradient = Literal["full", "checkpointed", "pushforward"]
# A run may resume with other values of these: they decide where and how fast it trains, not what.
OPERATIONAL_SETTINGS = (
    "device", "parallel", "spatial_ranks", "member_ranks", "compress_gradients", "compile",
    "timeout_minutes", "checkpoint_every_minutes", "checkpoint_every_steps", "keep_last",
    "log_every", "loggers", "peak_tflops", "workers", "read_ahead",
)  # fmt: skip


Beta = Annotated[float, Ge(0), Lt(1)]
_Members = Annotated[int, Ge(1), Le(10_000)]
_Steps = Annotated[int, Ge(0), Le(1_000_000_000)]


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Which optimizer updates which weights.

    Args:
        name: ``adamw`` is torch's in one fused kernel, ``muon`` learns more in each
            step, see ``muon``; ``lamb`` is for large batches; ``apex_adam`` and ``apex_lamb`` are
            those of NVIDIA apex, which must be installed and needs a GPU.
        betas: Decay of the moving averages of gradient and squared gradient.
        eps: Added to the root of the latter.
        weight_decay: Decay of weights other than biases, gains and positions.
        layer_decay: Factor of the learning rate from a layer to the one before it; 1 is off.
        frozen: Patterns of names of weights that are not trained, such as ``network.blocks.0.*``.
    """

    name: Literal["adamw", "muon", "lamb", "apex_adam", "apex_lamb"] = "adamw"
    betas: tuple[Beta, Beta] = (0.9, 0.95)
    eps: Annotated[float, Gt(0), Le(1e3)] = 1e-8
    weight_decay: Annotated[float, Ge(0), Le(1e3)] = 0.01
    layer_decay: Annotated[float, Gt(0), Le(1)] = 1.0
    frozen: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        check_bounds(self, "training.optimizer")
        if self.name in ("lamb", "apex_lamb") and self.weight_decay == 0:
            raise ValueError(
                f"training.optimizer.name={self.name} adapts the updates of weights with decay "
                "alone, got training.optimizer.weight_decay 0; set it above 0, or use adamw"
            )


@dataclass(frozen=True, kw_only=True)
class RolloutConfig:
    """How a rollout is trained.

    Args:
        gradient: Steps that the gradient flows through, see the head of ``objectives``.
        discount: Weight of a step over that of the step before it.
        num_members: Forecasts from each window, as an ensemble, for ``loss.kind=crps``. They differ
            by the noise of the model, dropout, stochastic depth and ``member_noise``. With one, the
            noise of the model is zero: it trains as a deterministic one.
        member_noise: Standard deviation of Gaussian noise on the history of each member, in units
            of each channel's change over a timestep.
    """

    gradient: RolloutGradient = "full"
    discount: Annotated[float, Gt(0), Le(2)] = 1.0
    num_members: _Members = 1
    member_noise: Annotated[float, Ge(0), Le(1e6)] = 0.0

    def __post_init__(self) -> None:
        check_bounds(self, "training.rollout")

    def step_weights(self, num_steps: int) -> list[float]:
        """Weight of each step, with sum 1."""
        if self.gradient == "pushforward":
            return [0.0] * (num_steps - 1) + [1.0]
        powers = [self.discount**step for step in range(num_steps)]
        return [power / sum(powers) for power in powers]


@dataclass(frozen=True, kw_only=True)
class ValidationConfig:
    """When a run is validated, and by which rollouts in addition to the loss.

    Args:
        every_epochs: Epochs between validations; the last epoch of a stage always has one.
        every_steps: Optimizer steps of a stage between further validations; 0 is none.
        num_steps: Timesteps of the rollouts that are scored; 0 is none.
        num_init_times: Initial times, evenly spread over the validation period.
        batch_size: Rollouts that run together, over all processes.
    """

    every_epochs: Count = 1
    every_steps: _Steps = 0
    num_steps: CountOrZero = 4
    num_init_times: Count = 16
    batch_size: Count = 16

    def __post_init__(self) -> None:
        check_bounds(self, "training.validation")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A section of the training with a schedule of its own, see ``TrainingConfig.schedule``.

    Args:
        epochs: Passes over the training windows.
        num_steps: Steps of the rollout that is trained; in a curriculum, those of its last epochs.
        first_num_steps: Steps in the first epochs of a curriculum; 0 is ``num_steps`` throughout.
        learning_rate: Peak learning rate.
        num_members: Forecasts from each window; null for ``training.rollout.num_members``.
        loss: What the stage changes in ``training.loss``.
    """

    epochs: Count = 10
    num_steps: Annotated[int, Ge(1), Le(1000)] = 1
    first_num_steps: Annotated[int, Ge(0), Le(1000)] = 0
    learning_rate: Annotated[float, Gt(0), Le(1e6)] = 1e-3
    num_members: _Members | None = None
    loss: LossChanges | None = None

    def __post_init__(self) -> None:
        check_bounds(self, "training.stages")
        if self.first_num_steps > self.num_steps:
            raise ValueError(f"training.stages: first_num_steps is above num_steps in {self}")

    def num_steps_in(self, epoch: int) -> int:
        """Steps of the rollout that is trained in an epoch of the stage.

        Each number of steps has an equal share of the epochs, or none in a shorter stage.
        """
        first = self.first_num_steps or self.num_steps
        step = epoch * (self.num_steps - first + 1) // self.epochs
        return min(self.num_steps, first + step)


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How a forecaster is trained.

    Args:
        stages: Stages in order, each starting from the best weights of the one before.
        batch_size: Windows in a batch, over all processes; each batch is an optimizer step.
        accumulate: Microbatches of a batch, computed one after the other to save memory.
        start_from: Checkpoint whose weights a new run starts from, as far as they match. Weights of
            inputs and outputs go to those of the same name; new channels start at zero.
        statistics: Units of the network with ``start_from``: those of the run's ``own`` data for
            unchanged weights, those that the checkpoint has ``kept``, or own ones with the end
            layers ``folded``, so that they compute what they did in the checkpoint's units.
        adapters: Changes of low rank that are trained in place of the weights.
        rollout: How the gradient goes through a rollout, weights of its steps, and ensembles.
        loss: Loss to minimize; its validation value decides which weights are the best.
        optimizer: Kind of optimizer, weight decay, and rates by layer.
        schedule: How the learning rate changes over each stage.
        gradient_clip: Largest norm of the gradient; 0 is off.
        ema_decay: Decay of the moving average of the weights that is validated and kept; 0 is off.
        input_noise: Standard deviation of Gaussian noise on the first input, in units of each
            channel's change over a timestep.
        seed: Seed of initial weights, sample order, noise and dropout.
        device: ``auto`` takes a GPU where there is one.
        precision: ``bfloat16`` and ``float16`` use autocast, the latter with a scaled loss; weights
            and Fourier transforms stay float32. ``tf32`` allows TF32 in matrix products on GPUs.
            ``auto`` is bfloat16 where that trains faster on this machine, else float32; a run that
            resumes keeps what it began with.
        num_threads: Threads of each process on processors; null for those that torch starts with,
            ``auto`` for as many as train fastest on this machine, likewise.
        compile: Mode of ``torch.compile`` for the network; ``reduce-overhead`` uses CUDA graphs.
        parallel: On several processes, ``ddp`` keeps all weights in each, ``fsdp`` a shard.
        spatial_ranks: Processes that share each field, some rows each, for grids that do not
            fit one device; it divides their number, and the rest share the batches.
        member_ranks: Processes that share each window of a stage with several members, as many
            members each; it divides both numbers, and the groups share the batches.
        compress_gradients: Whether ``ddp`` sends gradients as bfloat16.
        timeout_minutes: How long processes wait for each other before the run fails.
        non_finite: ``stop`` at a loss or gradient that is not finite, or ``skip`` the step.
        workers: Whether threads or spawned processes read the batches, see ``loader``.
        read_ahead: Batches that are read while one is in use.
        spike_factor: A loss above this multiple of the recent median is reported as a spike.
        early_stopping: Validations without a lower loss after which a stage ends; 0 is off.
        validation: When and by which rollouts the run is validated.
        checkpoint_every_minutes: Time between checkpoints within an epoch; 0 is none.
        checkpoint_every_steps: Optimizer steps between checkpoints, likewise.
        keep_last: Number of checkpoints to resume from that are kept.
        log_every: Optimizer steps between rows of the log.
        loggers: Further places for the log; their packages must be installed.
        peak_tflops: Peak of a device in 1e12 operations per second, for the model FLOP utilization;
            0 takes it from a table of GPUs.
    """

    stages: Annotated[list[Stage], MinLen(1)] = field(default_factory=lambda: [Stage()])
    batch_size: Count = 32
    accumulate: Count = 1
    start_from: str | None = None
    statistics: StatisticsOrigin = "own"
    adapters: AdapterConfig = field(default_factory=AdapterConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    gradient_clip: Annotated[float, Ge(0), Le(1e30)] = 1.0
    ema_decay: Annotated[float, Ge(0), Lt(1)] = 0.0
    input_noise: Annotated[float, Ge(0), Le(1e6)] = 0.0
    seed: Seed = 0
    device: DeviceName = "auto"
    precision: Precision = "float32"
    num_threads: Annotated[int, Ge(1), Le(4096)] | Literal["auto"] | None = None
    compile: Literal["off", "default", "reduce-overhead", "max-autotune"] = "off"
    parallel: Parallel = "ddp"
    spatial_ranks: Count = 1
    member_ranks: Count = 1
    compress_gradients: bool = False
    timeout_minutes: Annotated[float, Gt(0), Le(1e6)] = 10.0
    non_finite: Literal["stop", "skip"] = "stop"
    workers: Literal["threads", "processes"] = "threads"
    read_ahead: Annotated[int, Ge(0), Le(1000)] = 2
    spike_factor: Annotated[float, Gt(1), Le(1e30)] = 5.0
    early_stopping: CountOrZero = 0
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    checkpoint_every_minutes: Annotated[float, Ge(0), Le(1e6)] = 10.0
    checkpoint_every_steps: _Steps = 0
    keep_last: Count = 1
    log_every: Annotated[int, Ge(1), Le(1_000_000_000)] = 1
    loggers: list[LoggerName] = field(default_factory=list)
    peak_tflops: Annotated[float, Ge(0), Le(1e9)] = 0.0

    def __post_init__(self) -> None:
        check_bounds(self, "training")
        if self.batch_size % self.accumulate:
            raise ValueError(
                "training.batch_size must be a multiple of training.accumulate, got "
                f"{self.batch_size} and {self.accumulate}"
            )
        if self.statistics != "own" and self.start_from is None:
            raise ValueError(
                f"training.statistics={self.statistics} needs training.start_from, a checkpoint"
            )
        for number, stage in enumerate(self.stages, 1):
            members, kind = self.rollout_of(stage).num_members, self.loss_of(stage).kind
            if members > 1 and kind != "crps":
                raise ValueError(
                    f"training.loss.kind={kind} takes one forecast, got num_members {members} in "
                    f"stage {number}; set its loss to {{kind: crps}}, or its num_members to 1"
                )
            if members > 1 and members % self.member_ranks:
                raise ValueError(
                    f"training.member_ranks={self.member_ranks} must divide num_members, got "
                    f"{members} in stage {number}"
                )
        if self.member_ranks > 1 and (self.spatial_ranks > 1 or self.parallel != "ddp"):
            raise ValueError(
                f"training.member_ranks={self.member_ranks} needs parallel=ddp and "
                f"spatial_ranks=1, got {self.parallel} and {self.spatial_ranks}"
            )
        if self.parallel == "fsdp" and self.adapters.rank:
            raise ValueError(
                "training.adapters needs whole weights, which parallel=fsdp has not; use "
                "parallel=ddp, or adapters.rank=0"
            )
        if self.parallel == "fsdp" and self.precision == "float16":
            raise ValueError("training.parallel=fsdp cannot use precision=float16; use bfloat16")
        if self.parallel == "fsdp" and self.compress_gradients:
            raise ValueError("training.compress_gradients is for parallel=ddp, got fsdp")
        if self.parallel == "fsdp" and self.optimizer.name == "muon":
            raise ValueError(
                "training.optimizer.name=muon needs whole matrices, which parallel=fsdp has not; "
                "use parallel=ddp or optimizer.name=adamw"
            )
        if self.spatial_ranks > 1 and self.compile != "off":
            raise ValueError(
                f"training.spatial_ranks={self.spatial_ranks} needs training.compile=off"
            )

    def rollout_of(self, stage: Stage) -> RolloutConfig:
        """The rollout that a stage trains."""
        if stage.num_members is None:
            return self.rollout
        return replace(self.rollout, num_members=stage.num_members)

    def loss_of(self, stage: Stage) -> LossConfig:
        """The loss that a stage minimizes."""
        return self.loss if stage.loss is None else stage.loss.of(self.loss)

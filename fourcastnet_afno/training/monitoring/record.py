"""The record of a step: one value for the terminal, the log and callbacks."""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

# What is measured comes last: the columns before it are the same in every run with the same seed.
_DIGITS = {"samples_per_second": 3, "data_wait": 5, "memory_gib": 3, "flop_utilization": 5}
MEASURED_COLUMNS = tuple(_DIGITS)
STEP_COLUMNS = (
    "step", "stage", "epoch", "samples", "loss", "gradient_norm", "learning_rate", "skipped",
    "spike", *MEASURED_COLUMNS,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Measurements of training over the last seconds.

    Args:
        samples_per_second: Windows per second, over all processes.
        data_wait: Share of the time that this process waited for data.
        memory_gib: Peak memory of this process so far.
        flop_utilization: Share of the devices' peak operations per second; None where unknown.
    """

    samples_per_second: float
    data_wait: float
    memory_gib: float
    flop_utilization: float | None = None


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """A finished optimizer step.

    Args:
        step: Steps of the run, this one included.
        stage: Number of the stage, from 1.
        epoch: Number of the epoch in the stage, from 1.
        num_epochs: Epochs of the stage.
        samples: Windows of the epoch that are done.
        num_samples: Windows in the epoch.
        samples_left: Windows until the end of the run.
        loss: Mean over the windows of the step.
        median_loss: Median loss of the recent steps.
        gradient_norm: Norm before clipping; NaN where the loss is not finite.
        learning_rate: Peak of all groups of weights.
        skipped: Whether the weights stayed as they were.
        num_skipped: Steps of the run that were skipped.
        spike: Whether the loss is far above the recent median.
        rates: Measurements.
    """

    step: int
    stage: int
    epoch: int
    num_epochs: int
    samples: int
    num_samples: int
    samples_left: int
    loss: float
    median_loss: float
    gradient_norm: float
    learning_rate: float
    skipped: bool
    num_skipped: int
    spike: bool
    rates: Rates

    def row(self) -> dict[str, Any]:
        """Values of ``STEP_COLUMNS`` that are known, for the log."""
        counted = {name: getattr(self, name) for name in STEP_COLUMNS if name not in _DIGITS}
        measured = {name: getattr(self.rates, name) for name in _DIGITS}
        rounded = {n: round(v, _DIGITS[n]) for n, v in measured.items() if v is not None}
        return counted | {"skipped": int(self.skipped), "spike": int(self.spike)} | rounded

    @property
    def title(self) -> str:
        """Stage and epoch."""
        return f"Stage {self.stage} epoch {self.epoch}/{self.num_epochs}"

    @property
    def seconds_left(self) -> float:
        """Seconds until the end of the run, at the present rate and without validations."""
        return self.samples_left / max(self.rates.samples_per_second, 1e-9)


@runtime_checkable
class TrainingCallback(Protocol):
    """Follows a training, in every process."""

    def on_step(self, record: StepRecord) -> None:
        """Called after each step, before its checkpoint and validation; may raise to end the run.

        Args:
            record: The step.
        """
        ...

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
    """Measurements of training over the last seconds."""

    samples_per_second: float  # windows, over all processes
    data_wait: float  # share of the time that this process waited for data
    memory_gib: float  # peak of this process so far
    flop_utilization: float | None = None  # share of the devices' peak, where it is known


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """A finished optimizer step."""

    step: int  # steps of the run, this one included
    stage: int  # from 1
    epoch: int  # of the stage, from 1
    num_epochs: int  # of the stage
    samples: int  # windows of the epoch that are done
    num_samples: int  # windows in the epoch
    samples_left: int  # windows until the end of the run
    loss: float  # mean over the windows of the step
    median_loss: float  # of the recent steps
    gradient_norm: float  # before clipping; NaN where the loss is not finite
    learning_rate: float  # peak of all groups of weights
    skipped: bool  # the weights stayed as they were
    num_skipped: int  # steps of the run that were skipped
    spike: bool  # the loss is far above the recent median
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
        """Follow a step, before its checkpoint and validation; an error ends the run."""

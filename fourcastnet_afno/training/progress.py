"""The progress of a run. With the configuration it decides everything that follows.

It counts in windows, not in batches of a process, so that a run resumes with another number of
processes in the same order.
"""

import math
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any

from annotated_types import Ge

from data_pipeline.errors import InputError
from data_pipeline.records import from_plain
from fourcastnet_afno.training.schedules import Plateau, ScheduleConfig

ProgressRecord = Mapping[str, Any]
LOSSES_PER_EPOCH = 50  # points of the loss curve
RECENT_LOSSES = 50  # their median decides which loss is a spike
_Count = Annotated[int, Ge(0)]


@dataclass(frozen=True, kw_only=True)
class Position:
    """The next windows to train on, and the losses so far."""

    stage: _Count = 0  # index
    epoch: _Count = 0  # index in the stage
    sample: _Count = 0  # windows of the epoch that are done
    step: _Count = 0  # optimizer steps of the run, skipped ones included
    stage_step: _Count = 0  # optimizer steps of this stage
    validated: Annotated[int, Ge(-1)] = 0  # step of the last validation
    best: float = math.inf  # lowest validation loss of this stage
    num_worse: _Count = 0  # validations of this stage since then
    plateau: Plateau = field(default_factory=Plateau)
    num_skipped: _Count = 0  # steps of the run
    num_skipped_in_a_row: _Count = 0  # those since the last update
    loss_sums: tuple[float, ...] = ()  # of this epoch, over each fiftieth of its windows
    loss_counts: tuple[_Count, ...] = ()  # losses in each sum
    loss_bin: Annotated[int, Ge(-1)] = -1  # the fiftieth that the last sum belongs to
    recent_losses: tuple[float, ...] = ()  # of the last steps
    history: tuple[ProgressRecord, ...] = ()  # a record for each finished epoch

    def __post_init__(self) -> None:
        counts = len(self.loss_sums), len(self.loss_counts)
        if counts[0] != counts[1] or math.isnan(self.best):
            raise InputError(
                f"position must have as many loss_sums as loss_counts, and a best that is a "
                f"number, got {counts[0]} and {counts[1]}, and {self.best}",
                code="bad-record",
            )

    @classmethod
    def from_json(cls, record: object) -> "Position":
        """Inverse of ``to_json``.

        Raises:
            InputError: If another version wrote it, or an entry has another type.
        """
        if isinstance(record, dict) and record.keys() != asdict(cls()).keys():
            raise InputError(
                "another version wrote the progress of this run; resume with that version, or give "
                "another --output to start over",
                code="other-version",
            )
        return from_plain(cls, record, "position")

    def to_json(self) -> dict[str, Any]:
        """Values that JSON can hold."""
        return asdict(self)

    def after_step(self, loss: float, *, windows: int, total: int, skipped: bool) -> "Position":
        """The position after a step with ``windows`` of the ``total`` windows of an epoch."""
        losses: dict[str, Any] = {}
        if not skipped:
            index = self.sample * LOSSES_PER_EPOCH // total
            sums, counts = self.loss_sums, self.loss_counts
            if index > self.loss_bin:  # A fiftieth without any loss has no sum.
                sums, counts = (*sums, 0.0), (*counts, 0)
            losses = {
                "loss_bin": index,
                "loss_sums": (*sums[:-1], sums[-1] + loss),
                "loss_counts": (*counts[:-1], counts[-1] + 1),
                "recent_losses": (*self.recent_losses, loss)[-RECENT_LOSSES:],
            }
        return replace(
            self,
            sample=self.sample + windows,
            step=self.step + 1,
            stage_step=self.stage_step + 1,
            num_skipped=self.num_skipped + skipped,
            num_skipped_in_a_row=self.num_skipped_in_a_row + 1 if skipped else 0,
            **losses,
        )

    def is_spike(self, loss: float, factor: float) -> bool:
        """Whether a loss is more than ``factor`` times the median of the recent ones."""
        return len(self.recent_losses) >= 10 and loss > factor * self.median_loss

    def after_validation(self, loss: float, schedule: ScheduleConfig) -> "Position":
        """The position after a validation; a plateau of the learning rate depends on its loss."""
        better = loss < self.best
        return replace(
            self,
            validated=self.step,
            best=loss if better else self.best,
            num_worse=0 if better else self.num_worse + 1,
            plateau=schedule.after_validation(self.plateau, loss),
        )

    def after_epoch(self, record: ProgressRecord) -> "Position":
        """The start of the next epoch."""
        return replace(
            self,
            epoch=self.epoch + 1,
            sample=0,
            loss_sums=(),
            loss_counts=(),
            loss_bin=-1,
            history=(*self.history, record),
        )

    def after_stage(self) -> "Position":
        """The start of the next stage; losses of different rollout lengths do not compare."""
        return Position(
            stage=self.stage + 1,
            step=self.step,
            validated=self.validated,
            num_skipped=self.num_skipped,
            history=self.history,
        )

    @property
    def median_loss(self) -> float:
        """Median of the recent losses; NaN without any."""
        return statistics.median(self.recent_losses) if self.recent_losses else math.nan

    @property
    def mean_loss(self) -> float:
        """Mean of this epoch's losses so far."""
        return sum(self.loss_sums) / max(1, sum(self.loss_counts))

    @property
    def mean_losses(self) -> list[float]:
        """Mean loss of each fiftieth of the epoch."""
        return [s / n for s, n in zip(self.loss_sums, self.loss_counts, strict=True)]

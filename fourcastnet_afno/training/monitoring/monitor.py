"""Everything that a run says: the live view, the log, and what is worth a line of its own."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from data_pipeline.loading.windows import Sample
from fourcastnet_afno.forecaster.forecaster import FieldSpec
from fourcastnet_afno.parallel.process import Process
from fourcastnet_afno.provenance import peak_memory_gib
from fourcastnet_afno.training.config import TrainingConfig
from fourcastnet_afno.training.monitoring.log import LogFunction, TrainingLog
from fourcastnet_afno.training.monitoring.terminal import LiveView, ProgressSnapshot
from fourcastnet_afno.training.monitoring.throughput import Meter, flops_per_window, peak_flops
from fourcastnet_afno.training.objectives import Objective
from fourcastnet_afno.training.progress import Position
from fourcastnet_afno.training.updater import UpdateResult
from fourcastnet_afno.training.validation import FORECASTS, Scores


class TrainingMonitor:
    """Watches a run; only the main process writes and shows anything.

    Args:
        config: Of the training.
        process: This process.
        folder: Of the log.
        position: Where the run starts or goes on.
        functions: Called with step and values of each row of the log.
        console: Where the live view goes.
    """

    def __init__(
        self,
        config: TrainingConfig,
        process: Process,
        *,
        folder: Path,
        position: Position,
        functions: Sequence[LogFunction] = (),
        console: Console | None = None,
    ) -> None:
        self._config, self._process = config, process
        self._meter = Meter()
        self._view = LiveView((console or Console()) if process.is_main else None)
        self._log: TrainingLog | None = None
        if process.is_main:
            step, validated = position.step, position.validated
            self._log = TrainingLog(folder, step=step, validated=validated, functions=functions)
        known = 1e12 * config.peak_tflops or peak_flops(process.device, config.precision)
        self._peak = known * process.world_size if known else None
        self._flops: float | None = None
        self._notes = ""

    @contextmanager
    def measure_wait(self, samples: Iterator[Sample]) -> Iterator[Iterator[Sample]]:
        """The samples of an epoch, which are measured as they are waited for.

        What reads them ahead ends with the block.
        """
        self._meter.restart()
        try:
            yield self._meter.measure_wait(samples)
        finally:
            close = getattr(samples, "close", None)
            if close is not None:
                close()

    def count_flops(self, loss: Objective, sample: Sample) -> None:
        """Count the operations of a stage's step, where a utilization can be shown.

        Those behind a frozen forecaster are not: they are no multiple of the forward pass.
        """
        if loss.part == "forecaster" and self._peak is not None and self._flops is None:
            self._flops, process = flops_per_window(loss, sample), self._process
            if process.spatial is not None:  # Each of those that share a window counts its part.
                parts = torch.tensor(self._flops, dtype=torch.float64)
                self._flops = process.reduce_sum(parts).item() / process.data_size

    def new_stage(self) -> None:
        """Steps of another length follow."""
        self._flops = None

    def say(self, text: str) -> None:
        """Show a line that stays."""
        self._view.say(text)

    def step(
        self, position: Position, *, loss: float, rate: float, outcome: UpdateResult, spike: bool,
        windows: int, title: str, total: int, left: int,
    ) -> None:  # fmt: skip
        """Show a step and write its row.

        Args:
            position: After the step.
            loss: Of the step.
            rate: Its learning rate.
            outcome: What came of it.
            spike: Whether its loss is one.
            windows: In its batch.
            title: Stage and epoch.
            total: Windows in an epoch.
            left: Windows until the end of the run.
        """
        self._meter.count(windows)
        if self._log is None:
            return
        if spike:
            median = statistics.median(position.recent_losses)
            self._view.say(
                f"loss spike at step {position.step}: {loss:.4g}, recent median {median:.4g}"
            )
        if outcome.skipped:
            self._view.say(
                f"step {position.step} skipped, its gradient is not finite; {position.num_skipped} "
                "so far"
            )
        glance = ProgressSnapshot(
            title=title, done=position.sample, total=total, left=left, loss=loss,
            learning_rate=rate, samples_per_second=self._meter.samples_per_second,
            data_wait=self._meter.data_wait, memory_gib=peak_memory_gib(self._process.device),
            flop_utilization=self._utilization(), notes=self._notes,
        )  # fmt: skip
        self._view.show(glance)
        if position.step % self._config.log_every == 0 or outcome.skipped or spike:
            self._log.step(_step_row(position, glance, outcome, spike))

    def _utilization(self) -> float | None:
        if self._peak is None or self._flops is None:
            return None
        return self._flops * self._meter.samples_per_second / self._peak

    def validation(
        self, position: Position, loss: float, scores: Scores | None, spec: FieldSpec
    ) -> None:
        """Show the scores of a validation and write their rows.

        Args:
            position: After it.
            loss: Mean over the validation windows.
            scores: See ``RolloutValidation``.
            spec: Names the channels and the timestep.
        """
        self._meter.restart()
        if self._log is None:
            return
        place = {"step": position.step, "stage": position.stage + 1}
        rows: list[dict[str, Any]] = [{**place, "metric": "loss", "model": loss}]
        self._notes = f"validation loss {loss:.4g}"
        if scores is not None:
            rows += [{**place, **row} for row in score_rows(scores, spec)]
            self._notes += f" (best {position.best:.4g}); {headline(scores, spec)}"
        self._view.say(f"step {position.step}: {self._notes}")
        self._log.validation(position.step, rows)

    def close(self) -> None:
        """Finish the files, and leave the screen to others."""
        self._view.close()
        if self._log is not None:
            self._log.close()


def _step_row(
    position: Position, glance: ProgressSnapshot, outcome: UpdateResult, spike: bool
) -> Mapping[str, Any]:
    row = {
        "step": position.step,
        "stage": position.stage + 1,
        "epoch": position.epoch + 1,
        "samples": position.sample,
        "loss": glance.loss,
        "gradient_norm": outcome.gradient_norm,
        "learning_rate": glance.learning_rate,
        "skipped": int(outcome.skipped),
        "spike": int(spike),
        "samples_per_second": round(glance.samples_per_second, 3),
        "data_wait": round(glance.data_wait, 5),
        "memory_gib": round(glance.memory_gib, 3),
    }
    if glance.flop_utilization is not None:
        row["flop_utilization"] = round(glance.flop_utilization, 5)
    return row


def score_rows(scores: Scores, spec: FieldSpec) -> list[dict[str, Any]]:
    """A row for each metric, channel and lead time, with all forecasts."""
    return [
        {
            "metric": metric,
            "channel": label,
            "lead_hours": (lead + 1) * spec.timestep_hours,
            **{name: float(values[f, lead, c]) for f, name in enumerate(FORECASTS)},
        }
        for metric, values in scores.items()
        for c, label in enumerate(spec.channels.labels)
        for lead in range(values.shape[1])
    ]


def headline(scores: Scores, spec: FieldSpec) -> str:
    """RMSE at the last lead time relative to the baselines, as the mean over channels.

    Channels of which a baseline is exact are left out, as the coefficient of a steady problem.
    """
    rmse = scores["rmse"][:, -1]
    rmse = rmse[:, (rmse[1:] > 0).all(axis=0)].clip(min=np.finfo(np.float64).tiny)
    if not rmse.size:
        return "baselines without an error"
    against = [float(np.exp(np.log(rmse[0] / other).mean())) for other in rmse[1:]]
    hours = scores["rmse"].shape[1] * spec.timestep_hours
    words = [f"{ratio:.2f} of {n}" for ratio, n in zip(against, FORECASTS[1:], strict=True)]
    return f"RMSE at {hours} h {' and '.join(words)}"

"""All messages of a training: the live view, the log, and events worth a line of their own."""

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from data_pipeline.loading.windows import Sample
from data_pipeline.terminal import new_console
from data_pipeline.timestep import lead_key
from fourcastnet_afno.forecaster.forecaster import FieldSpec
from fourcastnet_afno.parallel.process import Process
from fourcastnet_afno.provenance import peak_memory_gib
from fourcastnet_afno.training.config import TrainingConfig
from fourcastnet_afno.training.monitoring.log import LogFunction, TrainingLog
from fourcastnet_afno.training.monitoring.record import Rates, StepRecord
from fourcastnet_afno.training.monitoring.terminal import LiveView
from fourcastnet_afno.training.monitoring.throughput import Meter, flops_per_window, peak_flops
from fourcastnet_afno.training.objectives import Objective
from fourcastnet_afno.training.progress import Position
from fourcastnet_afno.training.validation import FORECASTS, Scores


class TrainingMonitor:
    """Measures a training and reports it; only the main process writes and shows anything.

    The log in ``folder`` continues at ``position``. See ``Trainer`` for the other arguments.
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
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config, self._process = config, process
        self._meter = Meter(clock)
        self._view = LiveView((console or new_console()) if process.is_main else None)
        self._log: TrainingLog | None = None
        if process.is_main:
            step, validated = position.step, position.validated
            self._log = TrainingLog(folder, step=step, validated=validated, functions=functions)
        peak = 1e12 * config.peak_tflops or peak_flops(process.device, config.precision)
        self._peak = peak * process.world_size if peak else None
        # Of a window, by the steps and the members of its rollout.
        self._flops: dict[tuple[int, int], float] = {}

    @contextmanager
    def measure_wait(self, samples: Generator[Sample, None, None]) -> Iterator[Iterator[Sample]]:
        """Measure how long the samples of an epoch are waited for; they are closed at the end."""
        self._meter.restart()
        with closing(samples):
            yield self._meter.measure_wait(samples)

    def measure_step(self, objective: Objective, sample: Sample, windows: int) -> Rates:
        """Rates after a step with ``windows`` of all processes, all of which must call.

        Operations behind a frozen forecaster are not counted: they are no multiple of the forward
        pass.
        """
        process, utilization = self._process, None
        size = sample.target.shape[1], objective.rollout.num_members
        self._meter.count(windows)
        per_second, data_wait = self._meter.rates()
        if objective.prefix == "forecaster" and self._peak is not None:
            if size not in self._flops:
                flops = flops_per_window(objective, sample)
                if shared := process.spatial or objective.sharing:  # Each counts its own part.
                    total = process.reduce_sum(torch.tensor(flops, dtype=torch.float64))
                    flops = total.item() * shared.size / process.world_size
                self._flops[size] = flops
            utilization = self._flops[size] * per_second / self._peak
        return Rates(
            samples_per_second=per_second,
            data_wait=data_wait,
            memory_gib=peak_memory_gib(process.device),
            flop_utilization=utilization,
        )

    def say(self, text: str) -> None:
        """Show a line that stays."""
        self._view.say(text)

    def step(self, record: StepRecord) -> None:
        """Show a step, and write its row where it is due or remarkable."""
        if self._log is None:
            return
        step, median = record.step, record.median_loss
        if record.spike:
            self.say(f"loss spike at step {step}: {record.loss:.4g}, recent median {median:.4g}")
        if record.skipped:
            count = record.num_skipped
            self.say(f"step {step} skipped, its gradient is not finite; {count} so far")
        self._view.show(record)
        if step % self._config.log_every == 0 or record.skipped or record.spike:
            self._log.step(record)

    def validation(
        self, position: Position, loss: float, scores: Scores | None, spec: FieldSpec
    ) -> None:
        """Show the scores of a validation and write their rows."""
        self._meter.restart()
        if self._log is None:
            return
        common = {"step": position.step, "stage": position.stage + 1}
        rows: list[dict[str, Any]] = [{**common, "metric": "loss", "model": loss}]
        notes = f"validation loss {loss:.4g}"
        if scores is not None:
            rows += [
                {
                    **common,
                    "metric": metric,
                    "channel": label,
                    "lead_hours": lead_key((lead + 1) * spec.timestep),
                    **{name: float(values[f, lead, c]) for f, name in enumerate(FORECASTS)},
                }
                for metric, values in scores.items()
                for c, label in enumerate(spec.channels.labels)
                for lead in range(values.shape[1])
            ]
            notes += f" (best {position.best:.4g}); {headline(scores, spec)}"
        self._view.notes = notes
        self.say(f"step {position.step}: {notes}")
        self._log.validation(position.step, rows)

    def flush(self) -> None:
        """Hand all rows to the system, so that they outlive this process."""
        if self._log is not None:
            self._log.flush()

    def close(self) -> None:
        """Finish the files, and release the terminal."""
        self._view.close()
        if self._log is not None:
            self._log.close()


def headline(scores: Scores, spec: FieldSpec) -> str:
    """RMSE at the last lead time relative to the baselines, as the mean over channels.

    Channels whose baselines are exact, such as the coefficient of a steady problem, are left out.
    """
    rmse = scores["rmse"][:, -1]
    rmse = rmse[:, (rmse[1:] > 0).all(axis=0)].clip(min=np.finfo(np.float64).tiny)
    if not rmse.size:
        return "baselines without an error"
    ratios = [float(np.exp(np.log(rmse[0] / other).mean())) for other in rmse[1:]]
    lead = spec.step.lead_label(scores["rmse"].shape[1])
    texts = [f"{ratio:.2f} of {n}" for ratio, n in zip(ratios, FORECASTS[1:], strict=True)]
    return f"RMSE at {lead} {' and '.join(texts)}"

"""The log of a training: CSV, TensorBoard, and callables such as wandb's.

    RUN/logs/steps.csv         a row for each logged step
    RUN/logs/validation.csv    a row for each score, channel and lead time
    RUN/logs/events.out.*      the same for TensorBoard

A run that resumes drops the rows after the checkpoint it resumes from, so that none is there twice.
"""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter

from data_pipeline.errors import InputError
from data_pipeline.files.atomic import replacing
from fourcastnet_afno.training.config import LoggerName
from fourcastnet_afno.training.monitoring.record import STEP_COLUMNS, StepRecord

LogFunction = Callable[[int, Mapping[str, float]], None]
VALIDATION_COLUMNS = (
    "step", "stage", "metric", "channel", "lead_hours", "model", "persistence", "climatology",
)  # fmt: skip
_NOT_PLOTTED = ("step", "stage", "epoch", "samples")


class TrainingLog:
    """Rows by step in files and callables, which get the step and the values of each row.

    Args:
        folder: Folder of the files.
        step: Step that the run resumes from; later rows of ``steps.csv`` are dropped.
        validated: Likewise, for ``validation.csv``.
        functions: The callables.
    """

    def __init__(
        self, folder: Path, *, step: int, validated: int, functions: Sequence[LogFunction] = ()
    ) -> None:
        self._functions = functions
        self._steps = _Table(folder / "steps.csv", STEP_COLUMNS, step)
        self._validation = _Table(folder / "validation.csv", VALIDATION_COLUMNS, validated)
        self._events = SummaryWriter(str(folder), purge_step=step + 1, flush_secs=30)

    def step(self, record: StepRecord) -> None:
        """Write the row of a step."""
        row = record.row()
        self._steps.write([row])
        self._send(record.step, {f"train/{k}": v for k, v in row.items() if k not in _NOT_PLOTTED})

    def validation(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the scores of a validation, rows with the values of ``VALIDATION_COLUMNS``."""
        self._validation.write(rows)
        values = {}
        for row in rows:
            labels = [str(row[key]) for key in ("channel", "lead_hours") if key in row]
            name = "/".join(["validation", row["metric"], *labels])
            forecasts = [f for f in ("model", "persistence", "climatology") if f in row]
            values |= {f"{name}/{forecast}": row[forecast] for forecast in forecasts}
        self._send(step, values)

    def _send(self, step: int, values: Mapping[str, float]) -> None:
        numbers = {name: float(value) for name, value in values.items()}
        for name, value in numbers.items():
            self._events.add_scalar(name, value, step)
        for function in self._functions:
            function(step, numbers)

    def flush(self) -> None:
        """Hand events to the system, as rows are at once: a checkpoint may come next."""
        self._events.flush()

    def close(self) -> None:
        """Finish the files."""
        for file in (self._steps, self._validation, self._events):
            file.close()


class _Table:
    """A CSV file whose first column is the step."""

    def __init__(self, path: Path, columns: Sequence[str], step: int) -> None:
        self._columns = columns
        text = path.read_text() if path.exists() else ""
        complete = text[: text.rfind("\n") + 1]  # Without a last row that was cut off.
        rows = list(csv.reader(io.StringIO(complete)))[1:]
        kept = [row for row in rows if len(row) == len(columns) and int(row[0]) <= step]
        with replacing(path) as temporary, temporary.open("w", newline="") as file:
            csv.writer(file).writerows([columns, *kept])
        self._file = path.open("a", newline="")

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        text = io.StringIO()
        csv.DictWriter(text, self._columns, restval="").writerows(rows)
        self._file.write(text.getvalue())
        # A checkpoint may come next: its rows must not be lost with this process.
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def import_logger(name: LoggerName) -> Any:  # noqa: ANN401
    """The package of a logger; an ``InputError`` says that it is not installed."""
    try:
        return import_module(name)
    except ImportError as error:
        raise InputError(
            f"training.loggers needs {name} ({error}); `pip install {name}`, or remove it",
            code="missing-package",
        ) from error


def connect(name: LoggerName, run: Path, config: Mapping[str, Any]) -> LogFunction:
    """A function that logs to Weights & Biases or MLflow, as their environment variables say.

    The folder ``run`` names the run, which resumes when the folder does.

    Raises:
        InputError: If the package is not installed.
    """
    package = import_logger(name)
    if name == "wandb":
        identity = "-".join(run.resolve().parts[-2:])
        options = {"id": identity, "name": run.name, "dir": str(run), "config": dict(config)}
        active = package.init(**options, resume="allow")
        return lambda step, values: active.log(dict(values), step=step)
    package.start_run(run_name=run.name)
    package.log_params({key: str(value)[:500] for key, value in config.items()})
    return lambda step, values: package.log_metrics(dict(values), step=step)

"""The log of a training: CSV, TensorBoard, and callables such as wandb's.

    RUN/logs/steps.csv         a row for each logged step
    RUN/logs/validation.csv    a row for each score, channel and lead time
    RUN/logs/events.out.*      the same for TensorBoard

A run that resumes drops the rows after the checkpoint it resumes from, so that none is there twice.
"""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from importlib import import_module
from pathlib import Path
from time import monotonic, time
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog  # type: ignore[attr-defined]
from tensorboardX.proto.summary_pb2 import Summary  # type: ignore[attr-defined]
from tensorboardX.summary import scalar

from data_pipeline.errors import InputError
from data_pipeline.files.atomic import make_folder, replacing, writing_to
from fourcastnet_afno.training.config import LoggerName
from fourcastnet_afno.training.monitoring.record import STEP_COLUMNS, StepRecord

LogFunction = Callable[[int, Mapping[str, float]], None]
VALIDATION_COLUMNS = (
    "step", "stage", "metric", "channel", "lead_hours", "model", "persistence", "climatology",
)  # fmt: skip
_FLUSH_SECONDS = 30.0
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
        with ExitStack() as files:
            self._steps = files.enter_context(
                closing(_Table(folder / "steps.csv", STEP_COLUMNS, step))
            )
            self._validation = files.enter_context(
                closing(_Table(folder / "validation.csv", VALIDATION_COLUMNS, validated))
            )
            self._events = files.enter_context(closing(_Events(folder, step)))
            self._files = files.pop_all()

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
        self._events.write(step, numbers)
        for function in self._functions:
            function(step, numbers)

    def flush(self) -> None:
        """Hand events to the system, as rows are at once: a checkpoint may come next."""
        self._events.flush()

    def close(self) -> None:
        """Finish the files."""
        self._files.close()


class _Table:
    """A CSV file whose first column is the step."""

    def __init__(self, path: Path, columns: Sequence[str], step: int) -> None:
        self._path, self._columns = path, columns
        text = path.read_text(errors="replace") if path.is_file() else ""
        complete = text[: text.rfind("\n") + 1]  # Without a last row that was cut off.
        rows = list(csv.reader(io.StringIO(complete)))[1:]
        kept = [r for r in rows if len(r) == len(columns) and r[0].isdigit() and int(r[0]) <= step]
        with replacing(path) as temporary, temporary.open("w", newline="") as file:
            csv.writer(file).writerows([columns, *kept])
        with writing_to(path):
            self._file = path.open("a", newline="")

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        text = io.StringIO()
        csv.DictWriter(text, self._columns, restval="").writerows(rows)
        with writing_to(self._path):
            self._file.write(text.getvalue())
            # A checkpoint may come next: its rows must not be lost with this process.
            self._file.flush()

    def close(self) -> None:
        with writing_to(self._path):
            self._file.close()


class _Events:
    """Files for TensorBoard, where values after a ``step`` count no more.

    They are written in the calling thread: that of ``SummaryWriter`` dies on a full disk, and then
    the training waits for it without end.
    """

    def __init__(self, folder: Path, step: int) -> None:
        make_folder(folder)
        self._folder, self._flushed = folder, monotonic()
        with writing_to(folder):
            self._file = EventsWriter(str(folder / "events"))
        self._write(Event(step=step + 1, session_log=SessionLog(status=SessionLog.START)))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        summary = Summary(value=[scalar(name, x).value[0] for name, x in values.items()])
        self._write(Event(step=step, summary=summary))

    def _write(self, event: Event) -> None:
        event.wall_time = time()
        with writing_to(self._folder):
            self._file.write_event(event)
        if monotonic() - self._flushed > _FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        with writing_to(self._folder):
            self._file.flush()
        self._flushed = monotonic()

    def close(self) -> None:
        with writing_to(self._folder):
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

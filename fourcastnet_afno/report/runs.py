"""Runs side by side: a table of their scores and of the settings that differ."""

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from data_pipeline.errors import DAMAGE, InputError
from data_pipeline.records import from_plain, naming_file, parse_json
from data_pipeline.redaction import redacted
from data_pipeline.terminal import TextTable
from data_pipeline.yaml_text import read_settings_file

_BASELINES = ("persistence", "climatology")
_MOST_LETTERS = 200
_RESTORE = "restore it, or move this run to another folder"


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """Progress and scores of a run, as its folder records them.

    Args:
        name: Path of the folder relative to the one that was searched.
        settings: Configuration by dotted key.
        history: Records of ``history.json``.
        last_step: Last row of the log by step.
        losses: Steps and validation losses.
        skill: RMSE of the model over that of each baseline at the last validated lead time, as the
            geometric mean over channels.
    """

    name: str
    settings: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]] = ()
    last_step: Mapping[str, str] = field(default_factory=dict)
    losses: Sequence[tuple[int, float]] = ()
    skill: Mapping[str, float] = field(default_factory=dict)

    @property
    def best_loss(self) -> float | None:
        """Lowest validation loss of the last stage."""
        stage = self.history[-1]["stage"] if self.history else None
        losses = [r["validation_loss"] for r in self.history if r["stage"] == stage]
        known = [loss for loss in losses if loss is not None and math.isfinite(loss)]
        return min(known, default=None)

    @property
    def epochs(self) -> str:
        """Finished epochs, of the planned ones where the configuration has stages."""
        planned = sum(stage["epochs"] for stage in self.settings.get("training.stages", ()))
        return f"{len(self.history)}/{planned}" if planned else str(len(self.history))


def find_runs(folder: Path) -> list[RunSummary]:
    """Read the runs in ``folder`` and below, in the order of their names.

    Raises:
        InputError: If there is none.
    """
    folders = sorted(path.parent for path in folder.glob("**/config.yaml"))
    records = ("history.json", "logs/steps.csv")
    trained = [run for run in folders if any((run / name).exists() for name in records)]
    if not trained:
        raise InputError(
            f"{folder.resolve()} holds no run that was trained: no folder with config.yaml and "
            "logs or history.json; give the folder that holds your --output folders",
            code="missing-file",
        )
    return [_read_run(run, folder) for run in trained]


class EpochRecord(TypedDict):
    """Entries that are read of an epoch in ``history.json``."""

    stage: int
    epoch: int
    num_steps: int
    train_losses: list[float]
    validation_loss: float | None


def read_history(run: Path) -> list[EpochRecord]:
    """The epochs of a run; none where it was not trained.

    Raises:
        InputError: If the file does not hold what a run records ("unreadable-file").
    """
    path = run / "history.json"
    if not path.exists():
        return []
    with _reading(path), naming_file(path, _RESTORE, "unreadable-file"):
        return from_plain(list[EpochRecord], parse_json(path.read_bytes(), "it"), "it")


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Name the file of a run whose content is not what a run writes."""
    try:
        yield
    except InputError:
        raise
    except DAMAGE as error:
        what = " ".join(str(error).split())[:_MOST_LETTERS]
        raise InputError(
            f"{path} does not hold what a run records ({type(error).__name__}: {what}); {_RESTORE}",
            code="unreadable-file",
        ) from error


def _read_run(run: Path, folder: Path) -> RunSummary:
    """Read the files of a run; missing ones leave their fields empty."""
    name = str(run.relative_to(folder)) if run != folder else run.resolve().name
    with _reading(run / "config.yaml"):
        settings = _flat(redacted(read_settings_file(run / "config.yaml")))
        RunSummary(name=name, settings=settings).epochs  # noqa: B018
    with _reading(run / "logs" / "steps.csv"):
        last_step = next(iter(_rows(run / "logs" / "steps.csv")[-1:]), {})
    with _reading(run / "logs" / "validation.csv"):
        rows = _rows(run / "logs" / "validation.csv")
        losses = [(int(r["step"]), float(r["model"])) for r in rows if r["metric"] == "loss"]
        skill = _skill([row for row in rows if row["metric"] == "rmse"])
    with _reading(run / "history.json"):
        summary = RunSummary(
            name=name,
            settings=settings,
            history=read_history(run),
            last_step=last_step,
            losses=losses,
            skill=skill,
        )
        summary.best_loss  # noqa: B018
    return summary


def _skill(scored: Sequence[Mapping[str, str]]) -> dict[str, float]:
    """Compare the last validation, at its longest lead time, with the baselines."""
    if not scored:
        return {}
    step = max(int(row["step"]) for row in scored)
    last = [row for row in scored if int(row["step"]) == step]
    last = [row for row in last if row["lead_hours"] == last[-1]["lead_hours"]]
    skill = {}
    for baseline in _BASELINES:
        ratios = [float(row["model"]) / max(float(row[baseline]), 1e-30) for row in last]
        skill[baseline] = math.prod(max(ratio, 0.0) ** (1 / len(ratios)) for ratio in ratios)
    return skill


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if None not in row.values()]


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by dotted key; a list is one value."""
    flat = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def differing_settings(runs: Sequence[RunSummary]) -> list[str]:
    """Dotted keys of the settings that are not the same in all runs."""
    keys = dict.fromkeys(key for run in runs for key in run.settings)
    return [key for key in keys if len({repr(run.settings.get(key)) for run in runs}) > 1]


def _ratio_text(ratio: float) -> str:
    return "missing" if math.isnan(ratio) else f"{ratio:.3f}"


def runs_table(runs: Sequence[RunSummary]) -> TextTable:
    """A row for each run: its progress and scores, and the settings that differ."""
    keys = differing_settings(runs)
    table = TextTable()
    table.add_columns("run", "epochs", "validation loss")
    ratios = [f"RMSE / {baseline}" for baseline in _BASELINES]
    table.add_columns(*ratios, "samples/s", *keys, justify="right", overflow="fold")
    losses = [run.best_loss for run in runs if run.best_loss is not None]
    for run in runs:
        best = run.best_loss
        loss = "" if best is None else f"{best:.4g}"
        style = "bold" if best is not None and best == min(losses) else ""
        skill = [_ratio_text(run.skill[n]) if n in run.skill else "" for n in _BASELINES]
        rate = run.last_step.get("samples_per_second", "")
        settings = [str(run.settings.get(key, "")) for key in keys]
        table.add_row(run.name, run.epochs, loss, *skill, rate, *settings, style=style)
    return table

"""Runs side by side: a table of what differs and what came of it, and their losses in one plot."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from rich.box import SIMPLE
from rich.table import Table

from data_pipeline.errors import InputError


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """What a run folder says about a run.

    Args:
        name: Of the folder, below the one that was searched.
        settings: Of the configuration, by dotted key.
        history: A record for each finished epoch, see ``history.json``.
        last_step: Last row of the log by step; empty where there is none.
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
        known = [r["validation_loss"] for r in self.history if r["stage"] == stage]
        return min((loss for loss in known if loss is not None), default=None)

    @property
    def epochs(self) -> str:
        """Finished epochs and those that are planned."""
        planned = sum(stage["epochs"] for stage in self.settings.get("training.stages", ()))
        return f"{len(self.history)}/{planned}" if planned else str(len(self.history))


def find_runs(folder: Path) -> list[RunSummary]:
    """The runs in ``folder`` and below, by name.

    Raises:
        InputError: If there is none.
    """
    found = sorted(path.parent for path in folder.glob("**/config.yaml"))
    runs = [read_run(run, folder) for run in found if _is_run(run)]
    if not runs:
        raise InputError(
            f"{folder.resolve()} holds no run that was trained: no folder with config.yaml and "
            "logs or history.json; give the folder that holds your --output folders"
        )
    return runs


def _is_run(run: Path) -> bool:
    return (run / "history.json").exists() or (run / "logs" / "steps.csv").exists()


def read_run(run: Path, folder: Path) -> RunSummary:
    """What a run folder says; files that are missing are left out."""
    history, steps = run / "history.json", run / "logs" / "steps.csv"
    rows = _rows(run / "logs" / "validation.csv")
    losses = [(int(row["step"]), float(row["model"])) for row in rows if row["metric"] == "loss"]
    return RunSummary(
        name=str(run.relative_to(folder)) if run != folder else run.resolve().name,
        settings=_flat(yaml.safe_load((run / "config.yaml").read_text()) or {}),
        history=json.loads(history.read_text()) if history.exists() else [],
        last_step=next(iter(_rows(steps)[-1:]), {}),
        losses=losses,
        skill=_skill(rows),
    )


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if None not in row.values()]


def _skill(rows: Sequence[Mapping[str, str]]) -> dict[str, float]:
    scored = [row for row in rows if row["metric"] == "rmse"]
    if not scored:
        return {}
    step = max(int(row["step"]) for row in scored)
    last = [row for row in scored if int(row["step"]) == step]
    lead = max(float(row["lead_hours"]) for row in last)
    chosen = [row for row in last if float(row["lead_hours"]) == lead]
    skill = {}
    for baseline in ("persistence", "climatology"):
        ratios = [float(row["model"]) / max(float(row[baseline]), 1e-30) for row in chosen]
        product = 1.0
        for ratio in ratios:
            product *= ratio ** (1 / len(ratios))
        skill[baseline] = product
    return skill


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by dotted key; lists stay whole."""
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


def runs_table(runs: Sequence[RunSummary]) -> Table:
    """A row for each run: its progress and scores, and the settings that differ."""
    keys = differing_settings(runs)
    table = Table("run", "epochs", "validation loss", box=SIMPLE)
    for name in ("RMSE / persistence", "RMSE / climatology", "samples/s", *keys):
        table.add_column(name, justify="right", overflow="fold")
    losses = [run.best_loss for run in runs if run.best_loss is not None]
    for run in runs:
        best = run.best_loss
        loss = "" if best is None else f"{best:.4g}"
        style = "bold" if best is not None and best == min(losses) else None
        skill = [
            f"{run.skill[name]:.3f}" if name in run.skill else ""
            for name in ("persistence", "climatology")
        ]
        rate = run.last_step.get("samples_per_second", "")
        settings = [str(run.settings.get(key, "")) for key in keys]
        table.add_row(run.name, run.epochs, loss, *skill, rate, *settings, style=style)
    return table

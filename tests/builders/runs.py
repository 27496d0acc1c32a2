"""Small training runs, and comparisons of their files."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from fourcastnet_afno.forecaster.checkpoint import read_checkpoint
from fourcastnet_afno.training.config import Stage, ValidationConfig
from fourcastnet_afno.training.monitoring.record import MEASURED_COLUMNS
from fourcastnet_afno.workflows.config import ExperimentConfig
from tests.builders.experiments import make_dataset, make_experiment


def make_dropless_experiment(data: Path, **training: object) -> ExperimentConfig:
    """Without dropout, whose random numbers belong to a process, on data that is prepared.

    58 windows in batches of 16: the last one holds 10, which three or four ranks do not divide.
    """
    training = {"stages": [Stage(epochs=1), Stage(epochs=1, num_steps=2)], **training}
    config = make_experiment(data, **{"batch_size": 16, **training})
    network = replace(config.model.network, drop_rate=0.0, drop_path_rate=0.0)
    return replace(
        config,
        model=replace(config.model, network=network),
        data=replace(config.data, store=str(data.parent / "run" / "data.zarr")),
    )


def make_resumable_experiment(folder: Path, **training: object) -> ExperimentConfig:
    """With dropout, noise, averaging, and validations between epochs; its data in ``folder``."""
    settings: dict = {
        "stages": [Stage(epochs=2), Stage(epochs=1, num_steps=2)],
        "checkpoint_every_steps": 1,
        "keep_last": 3,
        "validation": ValidationConfig(every_steps=3, num_steps=2, num_init_times=4),
    }
    make_dataset().to_netcdf(folder / "data.nc")
    return make_experiment(folder / "data.nc", **(settings | training))


def make_scored_experiment(folder: Path, seed: int = 0) -> ExperimentConfig:
    """Two epochs, whose validations score rollouts of three steps; its data in ``folder``."""
    validation = ValidationConfig(num_steps=3, num_init_times=5, batch_size=2)
    stages = [Stage(epochs=2)]
    return make_experiment(folder / "data.nc", stages=stages, seed=seed, validation=validation)


def step_of(output: Path) -> int:
    """Steps of a run until its last checkpoint."""
    path = output / "checkpoints" / "last.safetensors"
    if not path.exists():
        return 0
    return read_checkpoint(path, "none")[1]["position"]["step"]


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a log without what is measured."""
    with path.open(newline="") as text:
        return [
            {k: v for k, v in row.items() if k not in MEASURED_COLUMNS}
            for row in csv.DictReader(text)
        ]


def read_columns(run: Path, *names: str, file: str = "steps.csv") -> np.ndarray:
    """Columns of a log as numbers (row, column)."""
    with (run / "logs" / file).open(newline="") as text:
        return np.array([[float(row[name]) for name in names] for row in csv.DictReader(text)])


def assert_equal_runs(one: Path, other: Path) -> None:
    """Two runs have the same weights, logs, histories and progress, bit for bit."""
    runs = one, other
    for name in ("best", "last"):
        first, second = (load_file(run / "checkpoints" / f"{name}.safetensors") for run in runs)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first)
    for name in ("steps.csv", "validation.csv"):
        assert read_rows(one / "logs" / name) == read_rows(other / "logs" / name)
    histories = [json.loads((run / "history.json").read_text()) for run in runs]
    lasts = [run / "checkpoints" / "last.safetensors" for run in runs]
    positions = [read_checkpoint(path, "none")[1]["position"] for path in lasts]
    for history in (*histories, *(position["history"] for position in positions)):
        for record in history:
            del record["seconds"]
    assert histories[0] == histories[1]
    assert positions[0] == positions[1]

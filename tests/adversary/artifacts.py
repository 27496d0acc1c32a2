"""A workspace with everything that the verbs read, made by the verbs."""

import contextlib
import io
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import xarray as xr
import yaml

from data_pipeline.periods import Period
from fourcastnet_afno.cli.main import main
from fourcastnet_afno.evaluation import engine
from fourcastnet_afno.evaluation.tasks import run_task
from fourcastnet_afno.training.config import Stage
from fourcastnet_afno.workflows.config import ExperimentConfig
from tests.builders.experiments import make_dataset, make_experiment

PERIODS = {
    "train": Period(start="2001-01-01", end="2001-01-30"),
    "validation": Period(start="2001-01-31", end="2001-02-07"),
    "test": Period(start="2001-02-08", end="2001-02-19"),
}
SCORE = [
    "score",
    "--forecast=forecast.zarr",
    "--truth=store.zarr",
    "--climatology=store.zarr",
    "--config=evaluation.yaml",
]


def make_workspace(folder: Path) -> None:
    """Make sources, a prepared store, a run with its checkpoints, forecasts and scores."""
    data = make_dataset(50)
    data.to_netcdf(folder / "data.nc")
    data.to_netcdf(folder / "data3.nc", format="NETCDF3_CLASSIC")
    data.to_zarr(folder / "data.zarr", zarr_format=3, consolidated=False)
    config = _experiment()
    (folder / "experiment.yaml").write_text(config.to_yaml())
    evaluation = {"evaluation": yaml.safe_load(config.to_yaml())["evaluation"]}
    (folder / "evaluation.yaml").write_text(yaml.safe_dump(evaluation))
    (folder / "bystander.txt").write_text("a file of someone else\n")
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()):
        for words in (
            ["train", "--config=experiment.yaml", "--output=run"],
            ["forecast", "--output=run"],
        ):
            assert main(words) == 0
        shutil.move("run/forecast.zarr", "forecast.zarr")
        with xr.open_zarr("forecast.zarr", consolidated=False) as forecast:
            forecast.load().to_netcdf("forecast.nc")
        # An evaluation that is interrupted after its first task leaves its state.
        with (
            patch.object(engine, "run_task", _Interrupted()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            assert main([*SCORE, "--output=scores.nc", "--state=state.npz"]) == 130


class _Interrupted:
    """Runs one task, and is interrupted in the next."""

    def __init__(self) -> None:
        self._num_tasks = 0

    def __call__(self, *arguments: Any) -> Any:  # noqa: ANN401
        self._num_tasks += 1
        if self._num_tasks > 1:
            raise KeyboardInterrupt
        return run_task(*arguments)


def _experiment() -> ExperimentConfig:
    config = make_experiment(Path("data.nc"), stages=[Stage(epochs=1)])
    return replace(
        config,
        data=replace(config.data, store="store.zarr", **PERIODS),
        evaluation=replace(config.evaluation, num_resamples=20),
    )

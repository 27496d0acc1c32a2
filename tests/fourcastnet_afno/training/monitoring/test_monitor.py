"""All messages of a training."""

import csv
from pathlib import Path

import numpy as np
import pytest

from data_pipeline.channels import Channels
from data_pipeline.timestep import Timestep
from fourcastnet_afno.cli.main import main
from fourcastnet_afno.forecaster.forecaster import FieldSpec
from fourcastnet_afno.report.runs import find_runs
from fourcastnet_afno.training.monitoring.monitor import headline
from tests.builders.experiments import GRID
from tests.builders.logs import read_events


def test_every_log_has_the_same_values(scored_run: Path, logged_rows: list) -> None:
    logs = scored_run / "logs"
    with (logs / "steps.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == list(range(1, 17))
    scalars = {
        (value.tag, event.step): value.simple_value
        for event in read_events(logs)
        for value in event.summary.value
    }
    called = {(name, step): v for step, values in logged_rows for name, v in values.items()}
    for row in rows:
        for name in ("loss", "learning_rate", "gradient_norm"):
            key = (f"train/{name}", int(row["step"]))
            assert scalars[key] == pytest.approx(float(row[name]), rel=1e-6)
            assert called[key] == float(row[name])
    assert called.keys() == scalars.keys()
    assert ("validation/rmse/2m_temperature/72/persistence", 16) in scalars


def test_a_run_is_summarized_from_its_logs(
    scored_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run,) = find_runs(scored_run.parent)
    assert (run.name, run.epochs) == ("run", "2/2")
    assert run.skill.keys() == {"persistence", "climatology"}
    assert main(["runs", str(scored_run.parent)]) == 0
    assert f"{run.best_loss:.4g}" in capsys.readouterr().out
    assert (scored_run.parent / "runs.png").read_bytes().startswith(b"\x89PNG")


def test_the_headline_leaves_out_channels_whose_baselines_are_exact() -> None:
    """Geometric means over the channels: 2 / 4 and 2 / 8 of the last, at the last lead time."""
    spec = FieldSpec(
        channels=Channels(()),
        static_channels=Channels(()),
        forcings=(),
        grid=GRID,
        step=Timestep.parse("6h"),
    )
    rmse = np.array([[[9, 9], [1, 2]], [[9, 9], [0, 4]], [[9, 9], [3, 8]]], float)
    text = headline({"rmse": rmse}, spec)
    assert text == "RMSE at 12 h 0.50 of persistence and 0.25 of climatology"
    steady = headline({"rmse": rmse[:, :, :1]}, spec)
    assert steady == "baselines without an error"

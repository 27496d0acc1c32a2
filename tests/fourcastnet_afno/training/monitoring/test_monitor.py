"""Logs, validation scores, the live view and the comparison of runs."""

import csv
import io
import math
import struct
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rich.console import Console
from tensorboardX.proto.event_pb2 import Event

from data_pipeline.channels import Channels
from data_pipeline.errors import InputError
from data_pipeline.preprocessing.climatology import climatology_at
from data_pipeline.store.reader import PreparedStore
from fourcastnet_afno import load_forecaster
from fourcastnet_afno.cli.main import main
from fourcastnet_afno.evaluation.evaluate import evaluate
from fourcastnet_afno.forecaster.forecaster import FieldSpec
from fourcastnet_afno.inference.config import ForecastConfig
from fourcastnet_afno.inference.write import write_forecast
from fourcastnet_afno.losses.config import LossConfig
from fourcastnet_afno.parallel.process import Process
from fourcastnet_afno.report.runs import differing_settings, find_runs
from fourcastnet_afno.training.build_loss import build_loss
from fourcastnet_afno.training.config import Stage, ValidationConfig
from fourcastnet_afno.training.monitoring.log import TrainingLog, connect
from fourcastnet_afno.training.monitoring.monitor import headline
from fourcastnet_afno.training.monitoring.record import Rates
from fourcastnet_afno.training.monitoring.terminal import LiveView, sparkline
from fourcastnet_afno.training.monitoring.throughput import Meter, flops_per_window
from fourcastnet_afno.training.objectives import RolloutLoss
from fourcastnet_afno.training.validation import FORECASTS
from fourcastnet_afno.workflows import train
from fourcastnet_afno.workflows.config import ExperimentConfig
from fourcastnet_afno.workflows.train import _rollout_validation, train_run
from tests.builders import baselines
from tests.builders.experiments import GRID, make_dataset, make_experiment
from tests.builders.logs import make_step_record
from tests.builders.processes import on_ranks

VALIDATION = ValidationConfig(num_steps=3, num_init_times=5, batch_size=2)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs, which differ in the seed."""
    folder = tmp_path_factory.mktemp("runs")
    make_dataset().to_netcdf(folder / "data.nc")
    for seed in (0, 1):
        train_run(make_config(folder, seed), folder / f"seed{seed}", [logged.append_row])
    return folder


class Rows(list):
    def append_row(self, step: int, values: object) -> None:
        self.append((step, values))


logged = Rows()


def make_config(folder: Path, seed: int = 0) -> ExperimentConfig:
    return make_experiment(
        folder / "data.nc", stages=[Stage(epochs=2)], seed=seed, validation=VALIDATION
    )


def scores_of(process: Process, config: ExperimentConfig, run: Path) -> dict:
    validation = _rollout_validation(config, PreparedStore(run / "data.zarr"), process)
    assert validation is not None
    forecaster = load_forecaster(run / "checkpoints" / "best.safetensors")
    first = validation(forecaster, lambda: None)
    again = validation(forecaster, lambda: None)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    return {name: values.tolist() for name, values in first.items()}


def test_validation_scores_are_those_of_the_evaluation(runs: Path) -> None:
    config, run = make_config(runs), runs / "seed0"
    found = scores_of(Process(), config, run)
    store = PreparedStore(run / "data.zarr")
    forecaster = load_forecaster(run / "checkpoints" / "best.safetensors")
    truth, coefficients = store.dataset(), store.climatology()
    times = store.times[config.data.validation.contains(store.times)]
    # Windows of two states of history and three steps; five of them, evenly spread.
    newest = times[1 : len(times) - 3]
    inits = newest[np.linspace(0, len(newest) - 1, 5).round().astype(int)]
    leads = np.arange(1, 4) * forecaster.spec.timestep
    settings = ForecastConfig(num_steps=3)
    written = write_forecast(forecaster, truth, inits, settings, runs / "f.zarr", {})
    assert written is not None
    forecasts = {
        "model": written,
        "persistence": baselines.persistence(truth, inits, leads),
        "climatology": baselines.climatology(coefficients, inits, leads),
    }
    expected = evaluate(forecasts, truth, coefficients)
    assert expected["forecast"].values.tolist() == list(FORECASTS)
    for name in ("rmse", "acc"):
        np.testing.assert_allclose(found[name], expected[name].values, rtol=1e-4, atol=1e-6)
    assert climatology_at(coefficients, times).sizes["time"] == len(times)


def test_validation_does_not_depend_on_the_processes(runs: Path) -> None:
    config, run = make_config(runs), runs / "seed0"
    alone = scores_of(Process(), config, run)
    for found in on_ranks(3, scores_of, config, run):
        for name, values in alone.items():
            np.testing.assert_allclose(found[name], values, rtol=1e-6, atol=1e-9)


def events(folder: Path) -> list[Event]:
    """Records of TensorBoard's files: a length, its checksum, an event, its checksum."""
    found = []
    for path in sorted(folder.glob("events.out.*")):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            found.append(Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
    return found


def test_every_log_has_the_same_values(runs: Path) -> None:
    logs = runs / "seed0" / "logs"
    with (logs / "steps.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == list(range(1, 17))
    scalars = {
        (value.tag, event.step): value.simple_value
        for event in events(logs)
        for value in event.summary.value
    }
    called = {(name, step): v for step, values in logged[: 16 + 2] for name, v in values.items()}
    for row in rows:
        for name in ("loss", "learning_rate", "gradient_norm"):
            key = (f"train/{name}", int(row["step"]))
            assert scalars[key] == pytest.approx(float(row[name]), rel=1e-6)
            assert called[key] == float(row[name])
    assert called.keys() == scalars.keys()
    assert ("validation/rmse/2m_temperature/72/persistence", 16) in scalars


def test_rows_after_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    log = TrainingLog(tmp_path, step=0, validated=0)
    for step in range(1, 6):
        log.step(make_step_record(step, loss=0.5 * step))
    log.validation(3, [{"step": 3, "metric": "loss", "model": 0.1}])
    log.close()
    steps = tmp_path / "steps.csv"
    whole = steps.read_text().splitlines(keepends=True)
    steps.write_text("".join(whole) + "6,1,1")  # A row that was cut off.
    log = TrainingLog(tmp_path, step=3, validated=0)
    log.step(make_step_record(4, loss=7.0))
    log.close()
    with steps.open() as file:
        assert [(row["step"], row["loss"]) for row in csv.DictReader(file)] == [
            ("1", "0.5"), ("2", "1.0"), ("3", "1.5"), ("4", "7.0"),
        ]  # fmt: skip
    assert len((tmp_path / "validation.csv").read_text().splitlines()) == 1


def test_loggers_are_called_when_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list = []
    wandb = SimpleNamespace(
        init=lambda **options: SimpleNamespace(
            log=lambda values, step: said.append((step, values, options["id"]))
        )
    )
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    connect("wandb", tmp_path / "mine", {"seed": 1})(5, {"train/loss": 0.5})
    assert said == [(5, {"train/loss": 0.5}, f"{tmp_path.name}-mine")]
    mlflow = SimpleNamespace(
        start_run=lambda run_name: said.append(run_name),
        log_params=said.append,
        log_metrics=lambda values, step: said.append((step, values)),
    )
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    connect("mlflow", tmp_path / "mine", {"seed": 1})(6, {"train/loss": 0.25})
    assert said[1:] == ["mine", {"seed": "1"}, (6, {"train/loss": 0.25})]
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(InputError, match=r"training\.loggers has wandb and it is not installed"):
        connect("wandb", tmp_path, {})


def test_operations_are_those_of_all_steps(runs: Path) -> None:
    forecaster = load_forecaster(runs / "seed0" / "checkpoints" / "best.safetensors")
    loss = RolloutLoss(forecaster, build_loss(LossConfig(), forecaster))
    config, store = make_config(runs), PreparedStore(runs / "seed0" / "data.zarr")
    counts = []
    for num_steps in (1, 2, 4):
        windows = train._windows(config, store, num_steps)[0]
        counts.append(flops_per_window(loss, windows.read(np.arange(3))))
    assert counts[0] > 0
    assert counts[1:] == [2 * counts[0], 4 * counts[0]]


def test_rates_by_hand() -> None:
    clock = [0.0]
    meter = Meter(lambda: clock[0])

    def slow(count: int):  # noqa: ANN202
        for item in range(count):
            clock[0] += 0.5  # Each item takes as long to come as
            yield item

    for _ in meter.measure_wait(slow(4)):
        clock[0] += 1.5  # a third of the step that uses it.
        meter.count(8)
    assert meter.samples_per_second == pytest.approx(4.0)
    assert meter.data_wait == pytest.approx(0.25)


def test_the_view_shows_everything() -> None:
    rates = Rates(samples_per_second=2.0, data_wait=0.01, memory_gib=1.5, flop_utilization=0.42)
    record = make_step_record(7, samples_left=7200, loss=0.125, learning_rate=1e-3, rates=rates)
    for terminal in (True, False):
        text = io.StringIO()
        console = Console(file=text, force_terminal=terminal, width=200)
        view = LiveView(console)
        view.show(record)
        view.close()
        shown = ["Stage 1 epoch 2/3", "0.125", "1.00e-03", "1.0%", "1.50 GiB", "42.0%", "1:00:00"]
        assert all(word in text.getvalue() for word in shown)
    LiveView(None).show(record)


def test_a_sparkline_by_hand() -> None:
    assert sparkline([1.0, math.e, math.e**7]) == "▁▂█"
    assert sparkline([0.0, math.nan]) == ""
    assert len(sparkline(torch.rand(500).add(1).tolist(), width=40)) == 40


def test_runs_side_by_side(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = find_runs(runs)
    assert [run.name for run in found] == ["seed0", "seed1"]
    assert differing_settings(found) == ["training.seed"]
    assert [run.epochs for run in found] == ["2/2", "2/2"]
    assert all(run.skill.keys() == {"persistence", "climatology"} for run in found)
    assert main(["runs", str(runs)]) == 0
    text = capsys.readouterr().out
    assert "seed1" in text
    assert f"{found[0].best_loss:.4g}" in text
    assert (runs / "runs.png").read_bytes().startswith(b"\x89PNG")


def test_a_folder_without_runs_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", str(tmp_path)]) == 2
    assert "holds no run that was trained" in " ".join(capsys.readouterr().err.split())


def test_only_training_takes_several_processes(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    config = runs / "seed0" / "config.yaml"
    assert main(["evaluate", f"--config={config}", f"--output={runs / 'seed0'}"]) == 2
    assert "`evaluate` runs in one process and 2 were started" in capsys.readouterr().err


def test_the_headline_leaves_out_channels_whose_baselines_are_exact() -> None:
    """Geometric means over the channels: 2 / 4 and 2 / 8 of the last, at the last lead time."""
    spec = FieldSpec(
        channels=Channels(()),
        static_channels=Channels(()),
        forcings=(),
        grid=GRID,
        timestep_hours=6,
    )
    rmse = np.array([[[9, 9], [1, 2]], [[9, 9], [0, 4]], [[9, 9], [3, 8]]], float)
    text = headline({"rmse": rmse}, spec)
    assert text == "RMSE at 12 h 0.50 of persistence and 0.25 of climatology"
    steady = headline({"rmse": rmse[:, :, :1]}, spec)
    assert steady == "baselines without an error"

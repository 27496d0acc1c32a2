import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
import yaml
from safetensors.torch import load_file

from data_pipeline.grids.grid import LatLonGrid
from data_pipeline.loading.loader import Loader
from data_pipeline.loading.windows import Sample
from fourcastnet_afno import load_forecaster, rollout
from fourcastnet_afno.cli.main import main
from fourcastnet_afno.cli.parser import parse
from fourcastnet_afno.evaluation.statistics.averages import Averager
from fourcastnet_afno.forecaster.checkpoint import read_checkpoint
from fourcastnet_afno.forecaster.config_text import parse_config
from fourcastnet_afno.inference.initial_states import check_source
from fourcastnet_afno.inference.open import open_forecast
from fourcastnet_afno.inference.rollout import forcings_from
from fourcastnet_afno.losses.loss import area_weighted_mse
from fourcastnet_afno.training.config import Stage
from fourcastnet_afno.training.signals import TrainingInterruptedError
from fourcastnet_afno.workflows import prepare
from fourcastnet_afno.workflows.config import ExperimentConfig
from fourcastnet_afno.workflows.run import compare_runs, quickstart
from fourcastnet_afno.workflows.train import train_run
from tests.builders.errors import rejects
from tests.builders.experiments import GRID, make_dataset, make_experiment
from tests.builders.limits import small_files


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "data.nc"
    make_dataset().to_netcdf(path)
    return path


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("runs") / "whole"
    stages = [Stage(epochs=15, learning_rate=8e-3), Stage(epochs=1, num_steps=2)]
    config = make_experiment(data, stages=stages, ema_decay=0.5, input_noise=0.0)
    quickstart(config, output)
    return output


def test_a_run_leaves_everything(run: Path) -> None:
    names = {path.name for path in run.iterdir()}
    assert names == {
        "checkpoints", "config.yaml", "data.zarr", "figures", "forecast.zarr", "history.json",
        "logs", "report.html", "scores.csv", "scores.json", "scores.nc",
    }  # fmt: skip


def test_the_model_beats_persistence_on_travelling_waves(run: Path) -> None:
    forecasts = json.loads((run / "scores.json").read_text())["forecasts"]
    for channel in ("mean_sea_level_pressure", "2m_temperature"):
        ours, persistence = (forecasts[n]["rmse"][channel] for n in ("model", "persistence"))
        assert list(ours) == ["24", "48", "72", "96", "120"]
        assert all(ours[hours] < persistence[hours] for hours in ours)


def test_the_report_needs_no_network(run: Path) -> None:
    text = (run / "report.html").read_text()
    sources = re.findall(r'(?:src|href)="([^"]{0,20})', text)
    assert len(sources) >= 4
    assert all(source.startswith(("data:image/", "#")) for source in sources)


def test_forecasts_are_the_rollout_of_the_checkpoint(run: Path) -> None:
    forecaster = load_forecaster(run / "checkpoints" / "best.safetensors")
    source = make_dataset()
    written = open_forecast(run / "forecast.zarr")
    init = written["init_time"].values[3]
    days = np.timedelta64(1, "D")
    history = forecaster.spec.channels.stack(source.sel(time=[init - days, init])).values
    state = torch.from_numpy(history)[None]
    with torch.inference_mode():
        steps = rollout(forecaster, state, forcings_from(forecaster, np.array([init])), 5)
        expected = torch.stack(list(steps), dim=1)[0].numpy()
    found = forecaster.spec.channels.stack(written.sel(init_time=init)).values
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_zero_network_is_persistence(run: Path) -> None:
    forecaster = load_forecaster(run / "checkpoints" / "best.safetensors")
    for parameter in forecaster.network.parameters():
        torch.nn.init.zeros_(parameter)
    state = torch.randn(2, 2, 2, 6, 12, generator=torch.Generator().manual_seed(0))
    following = forecaster(state, torch.zeros(2, 1, 6, 12))
    torch.testing.assert_close(following, state[:, -1])


def test_loss_is_the_squared_rmse_of_the_scores() -> None:
    generator = torch.Generator().manual_seed(0)
    predictions, targets = torch.randn(2, 4, 3, 6, 12, generator=generator)
    weights = GRID.area_weights()
    loss = area_weighted_mse(
        predictions, targets, torch.from_numpy(weights).float(), torch.ones(3, 1, 1)
    )
    error = (predictions - targets).numpy().reshape(-1, *weights.shape)
    squared = Averager(weights[None] / weights.size).mean_product(error, error)
    assert loss.item() == pytest.approx(squared.mean(), rel=1e-5)


class Interruption:
    """Raises SIGINT's effect after a number of batches, at any place of the run."""

    def __init__(self, batches: int) -> None:
        self.left = batches

    def epoch(self, loader: Loader, epoch: int, first_sample: int = 0) -> Iterator[Sample]:
        for sample in original_epoch(loader, epoch, first_sample):
            if loader.shuffle:
                self.left -= 1
                if self.left == 0:
                    import os
                    import signal

                    os.kill(os.getpid(), signal.SIGINT)
            yield sample


original_epoch = Loader.epoch


@pytest.fixture(scope="module")
def uninterrupted(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("uninterrupted")
    train_run(make_experiment(data), output)
    return output


@pytest.mark.parametrize("batches", [1, 7, 17])
def test_resumed_equals_uninterrupted_bit_for_bit(
    batches: int,
    data: Path,
    uninterrupted: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = make_experiment(data)
    interruption = Interruption(batches)
    monkeypatch.setattr(
        Loader, "epoch", lambda *args, **kwargs: interruption.epoch(*args, **kwargs)
    )
    with pytest.raises(TrainingInterruptedError):
        train_run(config, tmp_path)
    train_run(config, tmp_path)
    for name in ("best", "last"):
        whole, resumed = (
            load_file(run / "checkpoints" / f"{name}.safetensors")
            for run in (uninterrupted, tmp_path)
        )
        assert whole.keys() == resumed.keys()
        assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_loss_that_is_not_finite_stops_with_its_place(data: Path, tmp_path: Path) -> None:
    config = make_experiment(data, stages=[Stage(learning_rate=1e6)], gradient_clip=1e30)
    with rejects("not-finite", "stage 1, epoch 1, batch"):
        train_run(config, tmp_path)


def test_another_configuration_does_not_touch_a_run(run: Path) -> None:
    import yaml

    config = yaml.safe_load((run / "config.yaml").read_text())
    config["training"]["seed"] = 7
    (run.parent / "other.yaml").write_text(yaml.safe_dump(config))
    before = (run / "config.yaml").read_text()
    assert main(["train", f"--config={run.parent / 'other.yaml'}", f"--output={run}"]) == 2
    assert (run / "config.yaml").read_text() == before


def test_forecasts_start_on_another_grid_unless_refused(run: Path, tmp_path: Path) -> None:
    make_dataset(12, grid=LatLonGrid.equiangular(8, 16)).to_netcdf(tmp_path / "other.nc")
    arguments = [
        "forecast",
        f"--config={run / 'config.yaml'}",
        f"--checkpoint={run / 'checkpoints' / 'best.safetensors'}",
        f"--source.path={tmp_path / 'other.nc'}",
        f"--output={tmp_path / 'out'}",
    ]
    assert main([*arguments, "--forecast.regrid=false"]) == 2
    assert not (tmp_path / "out" / "forecast.zarr").exists()
    assert main(arguments) == 0
    written = xr.open_zarr(tmp_path / "out" / "forecast.zarr", consolidated=False)
    assert "the data is on the grid 8 x 16" in written.attrs["regridded"]
    assert (written.sizes["latitude"], written.sizes["longitude"]) == (8, 16)
    pressure = written["mean_sea_level_pressure"]
    assert abs(float(pressure.mean()) - 1e5) < 500
    assert float(pressure.std()) > 100


def test_another_grid_is_refused(run: Path) -> None:
    forecaster = load_forecaster(run / "checkpoints" / "best.safetensors")
    finer = make_dataset().isel(longitude=slice(0, 6))
    with rejects("grid-mismatch", "6 x 12", "6 x 6"):
        check_source(finer, forecaster.spec, "checkpoint best")
    other = make_dataset()
    other["2m_temperature"].attrs["units"] = "degC"
    with rejects("units-mismatch", "2m_temperature", "'K'", "'degC'"):
        check_source(other, forecaster.spec, "checkpoint best")


def test_config_round_trip_through_yaml(data: Path, run: Path) -> None:
    parsed = parse("train", [f"--config={run / 'config.yaml'}"])["config"]
    assert parsed.to_yaml() == (run / "config.yaml").read_text()
    assert replace(parsed).data.source is not None


def test_a_run_of_before_a_setting_existed_goes_on(
    run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copytree(run, tmp_path / "run")
    config = parse_config(ExperimentConfig, yaml.safe_load((run / "config.yaml").read_text()))

    def read_older(path: Path, part: str) -> tuple[dict, dict]:
        tensors, metadata = read_checkpoint(path, part)
        older = yaml.safe_load(metadata["config"])
        del older["data"]["diagnostic"], older["training"]["spatial_ranks"]
        return tensors, {**metadata, "config": yaml.safe_dump(older)}

    monkeypatch.setattr(prepare, "read_checkpoint", read_older)
    train_run(config, tmp_path / "run")
    changed = replace(config, training=replace(config.training, gradient_clip=0.5))
    with rejects("other-configuration", "training.gradient_clip"):
        train_run(changed, tmp_path / "run")


def test_the_python_of_the_readme_runs(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (Path(__file__).parents[3] / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict = {}
    exec(code.replace("runs/quickstart", str(run)), names)
    assert names["store"].channels.labels[0] in capsys.readouterr().out
    assert names["scores"]["rmse"].sel(forecast="model").notnull().all()


def test_runs_are_compared_where_no_picture_can_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "mine"
    (run / "logs").mkdir(parents=True)
    (run / "config.yaml").write_text(yaml.safe_dump({"training": {"stages": [{"epochs": 1}]}}))
    (run / "history.json").write_text(
        '[{"stage": 1, "epoch": 1, "num_steps": 1, "train_losses": [1.0], "validation_loss": 0.5}]'
    )
    (run / "logs" / "validation.csv").write_text("step,metric,lead_hours,model\n4,loss,,0.5\n")
    with small_files(20):  # blank pictures too
        compare_runs(tmp_path)
    said = capsys.readouterr().out
    assert "mine" in said
    assert str(tmp_path / "runs.png") in said
    assert not (tmp_path / "runs.png").exists()

"""Points that were filled are filled again, and count neither in the loss nor in the validation."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from data_pipeline.store.reader import PreparedStore
from fourcastnet_afno import load_forecaster
from fourcastnet_afno.forecaster.config_text import parse_config
from fourcastnet_afno.losses.config import LossConfig
from fourcastnet_afno.parallel.process import Process
from fourcastnet_afno.training.build_loss import build_loss
from fourcastnet_afno.training.config import Stage, TrainingConfig, ValidationConfig
from fourcastnet_afno.workflows.config import ExperimentConfig
from fourcastnet_afno.workflows.prepare import prepare_run
from fourcastnet_afno.workflows.train import check_training_memory, field_weights, train_run
from tests.builders.errors import rejects
from tests.builders.experiments import GRID, make_data_config, make_dataset, make_experiment

NAME = "2m_temperature"
LAND = (slice(1, 4), slice(2, 7))  # never there
ICE = (0, 0)  # missing in a quarter of the training period


def with_land() -> xr.Dataset:
    data = make_dataset()
    data[NAME].values[:, *LAND] = np.nan
    data[NAME].values[:15, *ICE] = np.nan
    return data


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("filled")
    with_land().to_netcdf(folder / "data.nc")
    config = make_experiment(
        folder / "data.nc",
        stages=[Stage(epochs=1, learning_rate=1e-3)],
        ema_decay=0.0,
        validation=ValidationConfig(num_steps=2, num_init_times=3),
    )
    data = make_data_config(folder / "data.nc", fill={NAME: "climatology"})
    train_run(replace(config, data=data), folder / "run")
    return folder / "run"


def expected_weights() -> np.ndarray:
    """By hand: cell areas times the share of the training times with a value, with mean 1."""
    shares = np.ones((2, *GRID.shape))
    shares[1][LAND] = 0
    shares[1][ICE] = 1 - 15 / 60
    weights = shares * GRID.area_weights()
    return weights / weights.mean(axis=(1, 2), keepdims=True)


def test_weights_are_those_of_the_points_that_are_there(run: Path) -> None:
    store = PreparedStore(run / "data.zarr")
    weights = store.point_weights()
    assert weights is not None
    assert (weights[0] == 1).all()
    assert (weights[1][LAND] == 0).all()
    assert weights[1][ICE] == pytest.approx(0.75)
    assert np.count_nonzero(weights[1] < 1) == 16
    loss = build_loss(
        LossConfig(),
        load_forecaster(run / "checkpoints" / "best.safetensors"),
        field_weights(store),
    )
    np.testing.assert_allclose(loss.weights, expected_weights(), rtol=1e-5)


@pytest.mark.parametrize("kind", ["mse", "l1", "huber", "relative_l2", "amse"])
def test_predictions_at_filled_points_change_neither_loss_nor_gradient(
    run: Path, kind: str
) -> None:
    store = PreparedStore(run / "data.zarr")
    forecaster = load_forecaster(run / "checkpoints" / "best.safetensors")
    weights = field_weights(store)
    loss = build_loss(LossConfig(kind=kind), forecaster, weights)  # type: ignore[arg-type]
    target = torch.from_numpy(store.states.read(np.array([40, 41])))
    noise = torch.randn(target.shape, generator=torch.Generator().manual_seed(0))
    results = []
    for at_land in (0.0, 50.0):
        predicted = (target + noise * forecaster.diff_std).requires_grad_()
        moved = predicted + at_land * (weights == 0)
        value = loss(moved, target)
        (gradient,) = torch.autograd.grad(value.sum(), predicted)
        results.append((value.detach(), gradient))
        assert (gradient[:, 1][:, *LAND] == 0).all()
        assert (gradient[:, 0][:, *LAND] != 0).all()
    torch.testing.assert_close(*(value for value, _ in results), rtol=1e-6, atol=0)
    torch.testing.assert_close(*(gradient for _, gradient in results), rtol=1e-4, atol=1e-7)


def test_training_and_its_validation_use_them(run: Path) -> None:
    """The loss and the scores of the run equal sums by hand over the points that are there."""
    store = PreparedStore(run / "data.zarr")
    forecaster = load_forecaster(run / "checkpoints" / "best.safetensors")
    times = store.times
    (rows,) = np.nonzero(
        (times >= np.datetime64("2001-03-02")) & (times < np.datetime64("2001-03-21"))
    )
    weights = expected_weights()

    def errors(newest: np.ndarray, num_steps: int) -> np.ndarray:
        """Errors (init, step, channel, lat, lon)."""
        state = torch.from_numpy(store.states.read(np.r_[newest - 1, newest]))
        state = state.unflatten(0, (2, -1)).transpose(0, 1)
        result = []
        for step in range(num_steps):
            with torch.no_grad():
                following = forecaster(state, forecaster.forcing_at(times[newest + step]))
            result.append(following.numpy() - store.states.read(newest + step + 1))
            state = torch.stack([state[:, 1], following], dim=1)
        return np.stack(result, axis=1)

    scale = forecaster.diff_std.numpy()
    loss = (weights * (errors(rows[1:-1], 1) / scale) ** 2).mean()
    history = json.loads((run / "history.json").read_text())
    assert history[0]["validation_loss"] == pytest.approx(loss, rel=1e-5)
    newest = rows[1:-2]
    chosen = newest[np.linspace(0, len(newest) - 1, 3).round().astype(int)]
    rmse = np.sqrt((weights * errors(chosen, 2) ** 2).mean(axis=(0, 3, 4)))
    with (run / "logs" / "validation.csv").open() as file:
        found = {
            (row["channel"], row["lead_hours"]): float(row["model"])
            for row in csv.DictReader(file)
            if row["metric"] == "rmse"
        }
    for step, hours in enumerate(("24", "48")):
        assert found[NAME, hours] == pytest.approx(rmse[step, 1], rel=1e-4)
        assert found["mean_sea_level_pressure", hours] == pytest.approx(rmse[step, 0], rel=1e-4)


def test_the_forecaster_fills_what_was_never_there(run: Path) -> None:
    store = PreparedStore(run / "data.zarr")
    forecaster = load_forecaster(run / "checkpoints" / "best.safetensors")
    land = np.zeros((2, *GRID.shape), bool)
    land[1][LAND] = True
    assert forecaster.filled is not None
    np.testing.assert_array_equal(~forecaster.filled.isnan().numpy(), land)
    stored, state = store.states.read(np.arange(30, 35)), torch.zeros(1, 2, 2, *GRID.shape)
    with torch.no_grad():
        following = forecaster(state, forecaster.forcing_at(store.times[:1]))
    assert (following.numpy()[:, land] == stored[:, land]).all()


def test_a_run_of_a_version_that_did_not_fill_resumes(run: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(run, tmp_path / "run")
    for name in ("last", "best"):
        path = copied / "checkpoints" / f"{name}.safetensors"
        with safe_open(path, "pt") as file:
            header = file.metadata()
        del header["digests"]
        tensors = {k: v for k, v in load_file(path).items() if not k.endswith(".filled")}
        assert len(tensors) < len(load_file(path))
        save_file(tensors, path, header)
    assert load_forecaster(copied / "checkpoints" / "best.safetensors").filled is None
    written = yaml.safe_load((copied / "config.yaml").read_text())
    forecaster = train_run(parse_config(ExperimentConfig, written), copied)
    before = load_forecaster(run / "checkpoints" / "best.safetensors")
    for name, weight in forecaster.network.state_dict().items():
        assert torch.equal(weight, before.network.state_dict()[name])


def test_a_run_says_where_it_meets_data_on_which_it_was_not_trained(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied, words = shutil.copytree(run, tmp_path / "run"), "not the data on which"
    config = parse_config(ExperimentConfig, yaml.safe_load((copied / "config.yaml").read_text()))
    train_run(config, copied)
    assert words not in capsys.readouterr().out
    last = copied / "checkpoints" / "last.safetensors"
    with safe_open(last, "pt") as file:
        header = file.metadata()
    del header["digests"]
    record = json.loads(header["metadata"]) | {"fingerprint": "of other data"}
    save_file(load_file(last), last, header | {"metadata": json.dumps(record)})
    train_run(config, copied)
    assert words in capsys.readouterr().out


def test_a_run_begun_by_a_version_that_did_not_fill_ends_without_filling(
    run: Path, tmp_path: Path
) -> None:
    copied = shutil.copytree(run, tmp_path / "run")
    last = copied / "checkpoints" / "last.safetensors"
    with safe_open(last, "pt") as file:
        header = file.metadata()
    del header["digests"]
    record = json.loads(header["metadata"])
    record["position"] |= {"stage": 0, "epoch": 0, "step": 0, "validated": -1, "history": []}
    tensors = {k: v for k, v in load_file(last).items() if not k.endswith(".filled")}
    save_file(tensors, last, header | {"metadata": json.dumps(record)})
    written = yaml.safe_load((copied / "config.yaml").read_text())
    assert train_run(parse_config(ExperimentConfig, written), copied).filled is None
    assert not any(name.endswith(".filled") for name in load_file(last))


def test_data_without_holes_has_no_weights(tmp_path: Path) -> None:
    make_dataset().to_netcdf(tmp_path / "data.nc")
    config = make_experiment(tmp_path / "data.nc")
    store = prepare_run(config, tmp_path / "run")
    assert store is not None
    assert field_weights(store) is None


@pytest.mark.parametrize(("frozen", "copies"), [(False, 5), (True, 2)])
def test_frozen_weights_need_no_memory_for_gradients_and_moments(
    frozen: bool, copies: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = torch.nn.Linear(100, 100, bias=False).requires_grad_(not frozen)
    settings, needed = TrainingConfig(ema_decay=0.9), copies * 4 * 100 * 100
    process = Process()
    monkeypatch.setattr("fourcastnet_afno.workflows.train.memory_of", lambda device: needed)
    check_training_memory(module, settings, process)
    monkeypatch.setattr("fourcastnet_afno.workflows.train.memory_of", lambda device: needed - 1)
    with rejects("too-little-memory"):
        check_training_memory(module, settings, process)

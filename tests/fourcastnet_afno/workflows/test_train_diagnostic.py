"""From a frozen forecaster to a trained head: ``train-diagnostic``."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from safetensors.torch import load_file

from data_pipeline.errors import InputError
from data_pipeline.grids.grid import LatLonGrid
from data_pipeline.loading.loader import Loader
from data_pipeline.loading.windows import Sample
from data_pipeline.sources.config import SourceConfig
from data_pipeline.store.reader import PreparedStore
from fourcastnet_afno.cli.main import main
from fourcastnet_afno.evaluation.evaluate import evaluate
from fourcastnet_afno.forecaster.checkpoint import (
    fingerprint_of,
    load_forecaster,
    read_checkpoint,
    save_checkpoint,
)
from fourcastnet_afno.forecaster.config import DiagnosticConfig
from fourcastnet_afno.forecaster.diagnostic_head import DiagnosticStepper, load_diagnostic
from fourcastnet_afno.forecaster.interpolation import Regridder
from fourcastnet_afno.inference.config import EnsembleConfig, ForecastConfig, StoreConfig
from fourcastnet_afno.inference.open import open_forecast
from fourcastnet_afno.inference.rollout import forcings_from, rollout
from fourcastnet_afno.models.config import AFNONetConfig
from fourcastnet_afno.training.build_loss import build_diagnostic_loss
from fourcastnet_afno.training.config import Stage
from fourcastnet_afno.training.objectives import DiagnosticLoss
from fourcastnet_afno.training.signals import TrainingInterruptedError
from fourcastnet_afno.workflows.config import ExperimentConfig
from fourcastnet_afno.workflows.forecast import forecast_from
from fourcastnet_afno.workflows.score import truth_of
from fourcastnet_afno.workflows.train import train_run
from fourcastnet_afno.workflows.train_diagnostic import train_diagnostic
from tests.builders.errors import rejects
from tests.builders.experiments import (
    GRID,
    make_data_config,
    make_dataset,
    make_experiment,
    make_untrained_run,
)

RAIN = "total_precipitation_6hr"
NETWORK = AFNONetConfig(patch_size=(3, 3), embed_dim=8, depth=1, num_blocks=2, drop_rate=0.1)


def make_rainy_dataset() -> xr.Dataset:
    """Waves with rain where the pressure is low."""
    data = make_dataset()
    low = (1e5 - data["mean_sea_level_pressure"]).clip(min=0) / 1000
    data[RAIN] = (1e-3 * low).astype("f4").assign_attrs(units="m")
    return data


@dataclass
class Backbone:
    config: ExperimentConfig
    checkpoint: Path
    folder: Path


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    """A forecaster of fresh weights in a run folder, with data that has rain."""
    folder = tmp_path_factory.mktemp("backbone")
    make_rainy_dataset().to_netcdf(folder / "data.nc")
    config = make_experiment(
        folder / "data.nc", stages=[Stage(epochs=2, learning_rate=5e-3)], input_noise=0.01
    )
    config = replace(
        config,
        data=make_data_config(folder / "data.nc", diagnostic=[RAIN]),
        diagnostic=DiagnosticConfig(network=NETWORK),
    )
    checkpoint, _ = make_untrained_run(config, folder / "run")
    return Backbone(config, checkpoint, folder)


@pytest.fixture(scope="module")
def trained(backbone: Backbone) -> Path:
    """The run folder of a head, by the command line."""
    output = backbone.folder / "rain"
    words = [f"--checkpoint={backbone.checkpoint}", f"--output={output}"]
    assert main(["train-diagnostic", *words]) == 0
    return output


def test_a_run_leaves_a_checkpoint_that_is_all_one_needs(backbone: Backbone, trained: Path) -> None:
    head, behind = load_diagnostic(trained / "checkpoints" / "best.safetensors")
    given = load_forecaster(backbone.checkpoint)
    assert head.channels.labels == [RAIN]
    assert fingerprint_of(behind) == fingerprint_of(given)
    _, metadata = read_checkpoint(trained / "checkpoints" / "best.safetensors", "none")
    assert metadata["diagnostic"]["backbone"] == fingerprint_of(given)
    names = {path.name for path in trained.iterdir()}
    assert names == {"checkpoints", "config.yaml", "history.json", "logs"}  # no second store
    history = json.loads((trained / "history.json").read_text())
    assert len(history) == 2
    assert history[-1]["validation_loss"] < history[0]["train_losses"][0]


def test_the_forecaster_sees_and_predicts_the_prognostic_channels_alone(backbone: Backbone) -> None:
    forecaster = load_forecaster(backbone.checkpoint)
    assert forecaster.spec.channels.labels == backbone.config.data.prognostic
    store = PreparedStore(backbone.folder / "run" / "data.zarr")
    assert store.channels.labels == [*backbone.config.data.prognostic, RAIN]
    assert forecaster.normalizer.mean.flatten().tolist() == pytest.approx(
        store.statistics.mean[:2].tolist()
    )


def test_the_validation_loss_is_that_of_the_kept_weights(backbone: Backbone, trained: Path) -> None:
    head, forecaster = load_diagnostic(trained / "checkpoints" / "best.safetensors")
    data, config = make_rainy_dataset().sel(time=slice("2001-03-02", "2001-03-20")), backbone.config
    loss = DiagnosticLoss(head, forecaster, build_diagnostic_loss(config.training.loss, head))
    losses = []
    for first in range(data.sizes["time"] - 2):
        window = data.isel(time=slice(first, first + 3))
        state = forecaster.spec.channels.stack(window.isel(time=slice(2))).values
        forcing = forecaster.forcing_at(window["time"].values[1:2])
        target = head.channels.stack(window.isel(time=slice(2, 3))).values
        with torch.no_grad():
            fields = (torch.from_numpy(state)[None], forcing[None], torch.from_numpy(target)[None])
            losses.append(loss(*fields).item())
    history = json.loads((trained / "history.json").read_text())
    best = min(record["validation_loss"] for record in history)
    assert np.mean(losses) == pytest.approx(best, rel=1e-4)


original_epoch = Loader.epoch


def test_resumed_equals_uninterrupted_bit_for_bit(
    backbone: Backbone, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = [5]

    def epoch(loader: Loader, *arguments: int) -> Iterator[Sample]:
        for sample in original_epoch(loader, *arguments):
            left[0] -= loader.shuffle
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGINT)
            yield sample

    monkeypatch.setattr(Loader, "epoch", epoch)
    with pytest.raises(TrainingInterruptedError):
        train_diagnostic(backbone.config, tmp_path, backbone.checkpoint)
    train_diagnostic(backbone.config, tmp_path, backbone.checkpoint)
    for name in ("best", "last"):
        whole, resumed = (
            load_file(run / "checkpoints" / f"{name}.safetensors") for run in (trained, tmp_path)
        )
        assert whole.keys() == resumed.keys()
        assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_what_does_not_suit_is_refused(backbone: Backbone, trained: Path, tmp_path: Path) -> None:
    config, folder = backbone.config, backbone.folder
    other = load_forecaster(backbone.checkpoint)
    other.diff_std *= 2
    (tmp_path / "other").mkdir()
    save_checkpoint(tmp_path / "other" / "best.safetensors", other, {}, {})
    shutil.copy(trained / "checkpoints" / "last.safetensors", tmp_path / "last.safetensors")
    fewer = replace(config, data=replace(config.data, prognostic=config.data.prognostic[:1]))
    fsdp = replace(config.training, parallel="fsdp")
    head, forecaster = "a diagnostic head behind the forecaster", "trains a forecaster"
    no_head = replace(config, data=replace(config.data, diagnostic=[]))
    other_head = tmp_path / "other" / "best.safetensors"
    for changed, checkpoint, output, code, named in (
        (no_head, None, None, "bad-setting", "data.diagnostic"),
        (replace(config, training=fsdp), None, None, "bad-setting", "training.parallel=fsdp"),
        (fewer, None, None, "other-configuration", "data.prognostic"),
        (config, other_head, trained, "other-configuration", head),
    ):
        with rejects(code, named):
            train_diagnostic(changed, output or tmp_path / "run", checkpoint or backbone.checkpoint)
    with rejects("other-configuration", head, forecaster):
        train_run(config, trained)
    store = str(folder / "run" / "data.zarr")
    short = replace(config.training, stages=[Stage(epochs=1)])
    config = replace(config, data=replace(config.data, store=store), training=short)
    train_run(config, tmp_path / "forecaster")
    with rejects("other-configuration", "holds the training of a forecaster", head):
        train_diagnostic(config, tmp_path / "forecaster", backbone.checkpoint)


def forecast(
    checkpoint: Path | None, trained: Path, folder: Path, output: Path, **settings: object
) -> xr.Dataset:
    head = str(trained / "checkpoints" / "best.safetensors")
    given: dict = {"num_steps": 3, "init_times": "2001-03-22", "diagnostic": head}
    source = SourceConfig(path=str(folder / "data.nc"))
    config = ForecastConfig(**(given | settings))
    written = forecast_from(config, checkpoint, source, output, "cpu", "refuse")
    assert written is not None
    return written


def test_the_head_is_chained_at_every_lead_time(
    backbone: Backbone, trained: Path, tmp_path: Path
) -> None:
    words = [f"--source={backbone.folder / 'data.nc'}", "--init-times=2001-03-22..2001-03-24"]
    head_file = trained / "checkpoints" / "best.safetensors"
    words += [f"--diagnostic={head_file}", f"--checkpoint={backbone.checkpoint}", "--steps=3"]
    assert main(["forecast", *words, f"--output={tmp_path / 'f.zarr'}"]) == 0
    written = open_forecast(tmp_path / "f.zarr")
    head, forecaster = load_diagnostic(head_file)
    inits = written["init_time"].values
    day = np.timedelta64(1, "D")
    channels = forecaster.spec.channels
    history = [make_rainy_dataset().sel(time=[init - day, init]) for init in inits]
    state = torch.from_numpy(np.stack([channels.stack(part).values for part in history]))
    with torch.inference_mode():
        states = list(rollout(forecaster, state, forcings_from(forecaster, inits), 3))
        rain = torch.stack([head(each)[:, 0] for each in states], dim=1)
    np.testing.assert_allclose(written[RAIN], rain, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(channels.stack(written)[:, 2], states[2], rtol=1e-6)
    assert written[RAIN].attrs["units"] == "m"
    assert written.attrs["diagnostic_digest"]
    # The head's file holds the forecaster, so that it is enough.
    inits = "2001-03-22..2001-03-24"
    alone = forecast(None, trained, backbone.folder, tmp_path / "g.zarr", init_times=inits)
    xr.testing.assert_equal(alone, written)


def test_ensembles_have_statistics_of_the_head(
    backbone: Backbone, trained: Path, tmp_path: Path
) -> None:
    given = (backbone.checkpoint, trained, backbone.folder)
    ensemble = EnsembleConfig(num_members=3, perturbation="gaussian", amplitude=2.0)
    store = StoreConfig(variables=[RAIN])
    members = forecast(*given, tmp_path / "a.zarr", ensemble=ensemble, store=store)[RAIN]
    assert members.sizes["realization"] == 3
    assert (members.std("realization").max(["latitude", "longitude"]) > 0).all()
    ensemble = replace(ensemble, output="statistics")
    mean = forecast(*given, tmp_path / "b.zarr", ensemble=ensemble, store=store)[RAIN]
    np.testing.assert_allclose(mean, members.mean("realization"), rtol=1e-5, atol=1e-10)


def test_a_finer_grid_is_interpolated_both_ways(
    backbone: Backbone, trained: Path, tmp_path: Path
) -> None:
    """As the network's own grid for a field that both resolve: none that varies."""
    head, forecaster = load_diagnostic(trained / "checkpoints" / "best.safetensors")
    level = torch.tensor([1e5, 280.0])[None, None, :, None, None]
    fine = forecaster.on_grid(LatLonGrid.equiangular(8, 16))
    chained = DiagnosticStepper(head, fine)(level.expand(1, 2, 2, 8, 16), torch.zeros(1, 1, 6, 12))
    own = Regridder(forecaster.network_grid, fine.spec.grid, head.channels)(
        head(level[:, 0].expand(1, 2, 6, 12))
    )
    torch.testing.assert_close(chained, own, rtol=1e-4, atol=1e-9)


def test_the_head_of_another_forecaster_is_refused(
    backbone: Backbone, trained: Path, tmp_path: Path
) -> None:
    other = load_forecaster(backbone.checkpoint)
    own, output = fingerprint_of(other), tmp_path / "f.zarr"
    other.diff_std *= 2
    other_checkpoint = tmp_path / "other.safetensors"
    save_checkpoint(other_checkpoint, other, {}, {})
    both = EnsembleConfig(num_members=2, checkpoints=[str(other_checkpoint)])
    for settings in ({}, {"ensemble": both}):
        first = backbone.checkpoint if settings else other_checkpoint
        with pytest.raises(InputError) as error:
            forecast(first, trained, backbone.folder, output, **settings)
        for named in (own, str(other_checkpoint), fingerprint_of(other)):
            assert named in str(error.value)
    with pytest.raises(InputError) as error:
        forecast(backbone.checkpoint, tmp_path, backbone.folder, output)
    assert str(tmp_path) in str(error.value)
    assert not output.exists()


def test_evaluation_scores_what_the_head_predicts(
    backbone: Backbone, trained: Path, tmp_path: Path
) -> None:
    """By hand, and beside the baselines."""
    given = (backbone.checkpoint, trained, backbone.folder)
    inits = "2001-03-22..2001-04-20/120h"
    written = forecast(*given, tmp_path / "f.zarr", init_times=inits)
    store = PreparedStore(backbone.folder / "run" / "data.zarr")
    truth = truth_of(store)
    scores = evaluate({"model": written}, truth, store.climatology())
    assert set(scores["channel"].values) == {"mean_sea_level_pressure", "2m_temperature", RAIN}
    assert set(scores["forecast"].values) >= {"model", "persistence", "climatology"}
    wanted = truth[RAIN].sel(time=written["valid_time"])
    weights = xr.DataArray(GRID.area_weights(), dims=GRID.dims)
    error = (((written[RAIN] - wanted) ** 2) * weights).mean(["init_time", *GRID.dims]) ** 0.5
    found = scores["rmse"].sel(forecast="model", channel=RAIN)
    np.testing.assert_allclose(found, error, rtol=1e-4)

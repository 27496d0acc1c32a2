from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from data_pipeline.preprocessing.filling import FillRule
from fourcastnet_afno.evaluation.config import EvaluationConfig
from fourcastnet_afno.forecaster.checkpoint import load_forecaster, save_checkpoint
from fourcastnet_afno.forecaster.config import ModelConfig
from fourcastnet_afno.inference.config import ForecastConfig
from fourcastnet_afno.inference.open import open_forecast
from fourcastnet_afno.models.config import AFNONetConfig
from fourcastnet_afno.training.config import TrainingConfig
from fourcastnet_afno.workflows.config import ExperimentConfig
from fourcastnet_afno.workflows.evaluate_run import evaluate_run
from fourcastnet_afno.workflows.forecast import forecast_run
from fourcastnet_afno.workflows.run import quickstart
from tests.builders.embedded_pages import EmbeddedPage, require_scored_fields
from tests.builders.errors import rejects
from tests.builders.experiments import GRID, make_dataset, make_experiment, make_untrained_run
from tests.builders.simulated import make_planet_config


@pytest.mark.parametrize("rule", [250.0, "climatology"])
def test_what_was_filled_is_not_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rule: FillRule
) -> None:
    """Temperature over land, and one value in one state, by hand over the cells that are there."""
    data, name = make_dataset(), "2m_temperature"
    data[name][:, 2:4, 3:8] = data[name][100, 0, 0] = np.nan
    data.to_netcdf(tmp_path / "data.nc")
    scores_only = EvaluationConfig(
        num_resamples=0,
        spectra=False,
        maps=False,
        baselines=["persistence", "climatology", "linear"],
    )
    experiment = replace(make_experiment(tmp_path / "data.nc"), evaluation=scores_only)
    experiment = replace(
        experiment,
        data=replace(experiment.data, fill={"t2m": rule}),
        forecast=ForecastConfig(num_steps=2, init_interval="2D"),
    )
    run = tmp_path / "run"
    make_untrained_run(experiment, run)
    forecast_run(experiment, run)
    scores = evaluate_run(experiment, run)
    forecasts = open_forecast(run / "forecast.zarr")[name]
    assert forecasts[..., 2:4, 3:8].isnull().all()
    times = forecasts["init_time"] + forecasts["lead_time"]
    truth = data[name].sel(time=times).where(forecasts.notnull())
    initial = data[name].sel(time=forecasts["init_time"])
    weights = xr.DataArray(GRID.area_weights(), dims=GRID.dims)
    rmse = scores["rmse"].sel(channel=name).squeeze(drop=True)
    for forecast, fields in {"model": forecasts, "persistence": initial}.items():
        squared = ((fields - truth) ** 2).weighted(weights).mean(GRID.dims)
        expected = np.sqrt(squared.mean("init_time"))
        np.testing.assert_allclose(rmse.sel(forecast=forecast), expected, rtol=1e-5)
    climatology = rmse.sel(forecast="climatology")
    np.testing.assert_allclose(climatology, 10 / np.sqrt(2) * 0.75, rtol=0.2)
    assert (rmse.sel(forecast="linear") < 0.1 * climatology).all()
    counts = scores["missing_values"].sel(channel=name, forecast="model").values
    assert (counts.ravel() >= 10 * forecasts.sizes["init_time"]).all()
    assert "2m_temperature: 20.8 % of the area" in scores.attrs["notes"]
    assert "best.safetensors" not in scores.attrs["notes"]
    for text in (capsys.readouterr().out, (run / "report.html").read_text()):
        assert "2m_temperature: 20.8 % of the area" in text


def test_a_run_is_scored_next_to_the_baselines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_dataset().to_netcdf(tmp_path / "data.nc")
    scores_only = EvaluationConfig(num_resamples=0, spectra=False, baselines=["persistence"])
    experiment = replace(make_experiment(tmp_path / "data.nc"), evaluation=scores_only)
    run = tmp_path / "run"
    best, _ = make_untrained_run(experiment, run)
    forecast_run(experiment, run)
    later = load_forecaster(best)  # as a training that goes on leaves it
    with torch.no_grad():
        next(later.network.parameters()).add_(1.0)
    save_checkpoint(best, later, {}, {"config": experiment.to_yaml()})
    scores = evaluate_run(experiment, run, {"train": 17.0})
    assert scores["forecast"].values.tolist() == ["model", "persistence"]
    forecasts, truth = open_forecast(run / "forecast.zarr")["2m_temperature"], make_dataset()
    times = forecasts["init_time"] + forecasts["lead_time"]
    error = forecasts - truth["2m_temperature"].sel(time=times)
    weights = np.cos(np.deg2rad(truth["latitude"]))
    squared = (error**2).weighted(weights).mean(("init_time", "latitude", "longitude"))
    rmse = scores["rmse"].sel(forecast="model", channel="2m_temperature").squeeze(drop=True)
    np.testing.assert_allclose(rmse, np.sqrt(squared), rtol=0.02)  # weights: areas of cells
    assert (run / "scores.json").exists()
    report = (run / "report.html").read_text()
    assert "seconds of train" in report
    assert "Report:" in capsys.readouterr().out
    assert str(best) in scores.attrs["notes"]


def test_the_map_of_the_report_shows_the_baselines_that_were_scored(tmp_path: Path) -> None:
    make_dataset().to_netcdf(tmp_path / "data.nc")
    scored = EvaluationConfig(
        num_resamples=0,
        spectra=False,
        maps=False,
        baselines=["persistence", "climatology", "weekly_climatology", "linear"],
    )
    once = ForecastConfig(num_steps=3, init_times="2001-04-10")
    experiment = replace(make_experiment(tmp_path / "data.nc"), evaluation=scored, forecast=once)
    run = tmp_path / "run"
    make_untrained_run(experiment, run)
    forecast_run(experiment, run)
    scores = evaluate_run(experiment, run)
    page = EmbeddedPage(run / "report.html")
    assert page.views == ["truth", *scores["forecast"].values]
    require_scored_fields(page, scores, page.views[1:], GRID.area_weights())


def test_the_simulator_of_a_run_is_a_baseline(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = AFNONetConfig(patch_size=(4, 4), embed_dim=8, depth=1, num_blocks=2)
    experiment = ExperimentConfig(
        data=make_planet_config(),
        model=ModelConfig(network=network),
        training=TrainingConfig(device="cpu"),
        forecast=ForecastConfig(num_steps=6, init_interval="1D"),
        evaluation=EvaluationConfig(
            num_resamples=0,
            spectra=False,
            baselines=["persistence", "perfect_model"],
            perfect_model_members=3,
        ),
    )
    run = tmp_path / "run"
    make_untrained_run(experiment, run)
    forecast_run(experiment, run)
    scores = evaluate_run(experiment, run)
    assert scores["forecast"].values.tolist() == ["model", "persistence", "perfect_model"]
    assert scores.attrs["reference"] == "persistence"
    rmse = scores["rmse"].squeeze(drop=True)
    assert (rmse.sel(forecast="perfect_model") < 0.7 * rmse.sel(forecast="persistence")).all()
    assert "times that of the perfect model" in (run / "report.html").read_text()
    assert "Running the perfect model" in capsys.readouterr().out
    xr.testing.assert_equal(scores, evaluate_run(experiment, run))
    assert "Running the perfect model" not in capsys.readouterr().out


def test_a_quickstart_without_a_simulator_ends_before_it_trains(tmp_path: Path) -> None:
    make_dataset().to_netcdf(tmp_path / "data.nc")
    scored = EvaluationConfig(baselines=["perfect_model"])
    experiment = replace(make_experiment(tmp_path / "data.nc"), evaluation=scored)
    with rejects("no-simulator", "data.source", "evaluation.baselines"):
        quickstart(experiment, tmp_path / "run")
    assert not (tmp_path / "run").exists()

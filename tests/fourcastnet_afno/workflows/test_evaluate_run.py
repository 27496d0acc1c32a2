from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fourcastnet_afno.evaluation.config import EvaluationConfig
from fourcastnet_afno.inference.open import open_forecast
from fourcastnet_afno.workflows.evaluate_run import evaluate_run
from fourcastnet_afno.workflows.forecast import forecast_run
from tests.builders.experiments import make_dataset, make_experiment, make_untrained_run


def test_a_run_is_scored_next_to_the_baselines(
    tmp_path: Path, blank_pictures: None, capsys: pytest.CaptureFixture[str]
) -> None:
    make_dataset().to_netcdf(tmp_path / "data.nc")
    scores_only = EvaluationConfig(num_resamples=0, spectra=False, baselines=["persistence"])
    experiment = replace(make_experiment(tmp_path / "data.nc"), evaluation=scores_only)
    run = tmp_path / "run"
    make_untrained_run(experiment, run)
    forecast_run(experiment, run)
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

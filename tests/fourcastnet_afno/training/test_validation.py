"""Scores of rollouts during training."""

from pathlib import Path

import numpy as np

from data_pipeline.preprocessing.climatology import climatology_at
from data_pipeline.store.reader import PreparedStore
from fourcastnet_afno import load_forecaster
from fourcastnet_afno.evaluation.evaluate import evaluate
from fourcastnet_afno.inference.config import ForecastConfig
from fourcastnet_afno.inference.write import write_forecast
from fourcastnet_afno.parallel.process import Process
from fourcastnet_afno.training.validation import FORECASTS
from fourcastnet_afno.workflows.config import ExperimentConfig
from fourcastnet_afno.workflows.train import rollout_validation
from tests.builders import baselines
from tests.builders.processes import on_ranks
from tests.builders.runs import make_scored_experiment


def scores_of(process: Process, config: ExperimentConfig, run: Path) -> dict:
    validation = rollout_validation(config, PreparedStore(run / "data.zarr"), process)
    assert validation is not None
    forecaster = load_forecaster(run / "checkpoints" / "best.safetensors")
    first = validation(forecaster, lambda: None)
    again = validation(forecaster, lambda: None)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    return {name: values.tolist() for name, values in first.items()}


def test_validation_scores_are_those_of_the_evaluation(scored_run: Path, tmp_path: Path) -> None:
    config, run = make_scored_experiment(scored_run.parent), scored_run
    scores = scores_of(Process(), config, run)
    store = PreparedStore(run / "data.zarr")
    forecaster = load_forecaster(run / "checkpoints" / "best.safetensors")
    truth, coefficients = store.dataset(), store.climatology()
    times = store.times[config.data.validation.contains(store.times)]
    # Windows of two states of history and three steps; five of them, evenly spread.
    newest = times[1 : len(times) - 3]
    inits = newest[np.linspace(0, len(newest) - 1, 5).round().astype(int)]
    leads = np.arange(1, 4) * forecaster.spec.timestep
    settings = ForecastConfig(num_steps=3)
    written = write_forecast(forecaster, truth, inits, settings, tmp_path / "f.zarr", {})
    assert written is not None
    forecasts = {
        "model": written,
        "persistence": baselines.persistence(truth, inits, leads),
        "climatology": baselines.climatology(coefficients, inits, leads),
    }
    expected = evaluate(forecasts, truth, coefficients)
    assert expected["forecast"].values.tolist() == list(FORECASTS)
    for name in ("rmse", "acc"):
        np.testing.assert_allclose(scores[name], expected[name].values, rtol=1e-4, atol=1e-6)
    assert climatology_at(coefficients, times).sizes["time"] == len(times)


def test_validation_does_not_depend_on_the_processes(scored_run: Path) -> None:
    config, run = make_scored_experiment(scored_run.parent), scored_run
    alone = scores_of(Process(), config, run)
    for scores in on_ranks(3, scores_of, config, run):
        for name, values in alone.items():
            np.testing.assert_allclose(scores[name], values, rtol=1e-6, atol=1e-9)

"""The verb ``evaluate`` for a run: its forecasts compared with the baselines, and the report."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import xarray as xr

from data_pipeline.errors import InputError
from data_pipeline.files.outputs import check_outputs
from data_pipeline.preparation.execution import ExecutionConfig
from data_pipeline.preparation.simulator import check_simulated
from data_pipeline.store.reader import PreparedStore
from data_pipeline.terminal import print_line, print_tables
from fourcastnet_afno.evaluation.config import PERFECT_MODEL
from fourcastnet_afno.evaluation.evaluate import evaluate_with_baselines
from fourcastnet_afno.evaluation.inputs.climatologies import (
    from_coefficients,
    mean_of_trajectories,
)
from fourcastnet_afno.evaluation.inputs.companions import training_years
from fourcastnet_afno.evaluation.scores.tables import scores_table, write_scores
from fourcastnet_afno.inference.open import open_forecast
from fourcastnet_afno.inference.perfect_model import write_perfect_model
from fourcastnet_afno.provenance import peak_memory_gib, versions
from fourcastnet_afno.report.ensembles import cell_of
from fourcastnet_afno.report.report import write_report
from fourcastnet_afno.report.runs import read_history
from fourcastnet_afno.workflows import console
from fourcastnet_afno.workflows.config import ExperimentConfig
from fourcastnet_afno.workflows.forecast import was_made_by
from fourcastnet_afno.workflows.outputs import (
    evaluation_outputs,
    prepared_inputs,
    prepared_outputs,
)
from fourcastnet_afno.workflows.prepare import open_or_prepare
from fourcastnet_afno.workflows.score import truth_of


def evaluate_run(
    config: ExperimentConfig,
    output: Path,
    seconds: Mapping[str, float] | None = None,
    execution: ExecutionConfig | None = None,
) -> xr.Dataset:
    """Score the run's forecasts next to the baselines, and write the report."""
    path = output / "forecast.zarr"
    read = {**prepared_inputs(config, output), "the forecasts": [path]}
    outputs = [*prepared_outputs(config, output), *evaluation_outputs(config, output)]
    check_outputs(outputs, read)
    check_perfect_model(config)
    history = read_history(output)
    store = open_or_prepare(config, output)
    if config.evaluation.point:
        cell_of(store.prognostic.grid, config.evaluation.point)  # it lies inside
    predictions, forecasts = open_forecast(path), {"model": str(path)}
    if PERFECT_MODEL in config.evaluation.baselines:
        forecasts[PERFECT_MODEL] = str(_perfect_model(config, store, predictions, output))
    if not any(channel.name in predictions for channel in store.diagnostic.channels):
        store = store.prognostic  # nothing else is read
    truth, train = truth_of(store), config.data.train
    training = training_years(store)
    climatology = from_coefficients(
        store.climatology(),
        mean_of_trajectories(store)
        or f"mean and {config.data.climatology_harmonics} harmonics of the day of year for each "
        f"hour of day, fitted to the training period {train.start} to {train.end}",
        training["time"].values,
    )
    evaluation = evaluate_with_baselines(
        forecasts,
        truth,
        climatology,
        config.evaluation,
        training=training,
        state=output / ".evaluation.npz",
        execution=execution,
    )
    scores = evaluation.scores
    notes = [*store.describe_filled(), _other_checkpoint(predictions, output)]
    scores.attrs["notes"] = "\n".join(filter(None, [scores.attrs["notes"], *notes]))
    write_scores(scores, output / "scores.json", output / "scores.nc")
    print_tables(console, scores_table(scores))
    facts = {f"seconds of {verb}": f"{value:.0f}" for verb, value in (seconds or {}).items()}
    facts |= {
        "peak memory": f"{peak_memory_gib():.2f} GiB",
        "data fingerprint": store.fingerprint,
        "checkpoint": predictions.attrs.get("checkpoint", ""),
        "versions": ", ".join(f"{name} {value}" for name, value in versions().items()),
    }
    report = write_report(
        output / "report.html",
        scores=scores,
        history=history,
        truth=truth_of(store),
        forecasts={name: open_forecast(Path(stored)) for name, stored in forecasts.items()},
        baselines=evaluation.baselines,
        point=config.evaluation.point,
        config_text=config.to_yaml(),
        facts=facts,
    )
    print_line(console, f"Report: {report.resolve()}")
    return scores


def _other_checkpoint(predictions: xr.Dataset, output: Path) -> str:
    """A note on forecasts of one checkpoint that is not the best one of the run, or empty."""
    best, attrs = output / "checkpoints/best.safetensors", predictions.attrs
    if " " in attrs.get("checkpoint_digest", ""):  # of an ensemble of several
        return ""
    with suppress(InputError):
        if not was_made_by(best, attrs):
            return f"the forecasts are not of {best} as it is now; `forecast` makes them again"
    return ""


def check_perfect_model(config: ExperimentConfig) -> None:
    """Check that the baseline ``perfect_model``, if it is asked for, has a simulator.

    Raises:
        InputError: If it has none ("no-simulator").
    """
    if PERFECT_MODEL in config.evaluation.baselines:
        check_simulated(config.data)


def _perfect_model(
    config: ExperimentConfig, store: PreparedStore, predictions: xr.Dataset, output: Path
) -> Path:
    """Write the forecasts of the simulator next to those of the model, once."""
    path, settings = output / "perfect_model.zarr", config.evaluation
    write_perfect_model(
        config.data,
        store,
        predictions,
        path,
        num_members=settings.perfect_model_members,
        seed=settings.seed,
        num_threads=settings.num_threads,
    )
    return path

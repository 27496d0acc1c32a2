"""One experiment in one folder: prepare, train, forecast, evaluate, or all of it.

RUN/config.yaml          the resolved configuration
RUN/data.zarr            the prepared data, unless ``data.store`` names a shared folder
RUN/checkpoints/         best.safetensors (weights to use), last.safetensors (to resume from)
RUN/history.json         losses by epoch
RUN/logs                 losses, rates and validation scores by step: CSV and TensorBoard
RUN/forecast.zarr        forecasts: init_time, lead_time, [level], latitude, longitude
RUN/perfect_model.zarr   those of the simulator that has made the data
RUN/scores.json,nc,csv   scores of the model and the baselines
RUN/report.html          all of it for a person; its pictures are also in RUN/figures
"""

import time
from pathlib import Path

import xarray as xr

from data_pipeline.errors import InputError
from data_pipeline.files.atomic import replacing
from data_pipeline.files.outputs import check_outputs
from data_pipeline.terminal import print_line, print_tables
from fourcastnet_afno.report import plots
from fourcastnet_afno.report.outputs import runs_output
from fourcastnet_afno.report.runs import find_runs, runs_table
from fourcastnet_afno.workflows import console
from fourcastnet_afno.workflows.config import ExperimentConfig


def quickstart(config: ExperimentConfig, output: Path) -> xr.Dataset:
    """Prepare, train, forecast, evaluate and report, in one go."""
    from fourcastnet_afno.inference.open import forecast_output
    from fourcastnet_afno.workflows.evaluate_run import (  # these need torch
        check_perfect_model,
        evaluate_run,
    )
    from fourcastnet_afno.workflows.forecast import forecast_run
    from fourcastnet_afno.workflows.outputs import (
        evaluation_outputs,
        prepared_inputs,
        prepared_outputs,
        training_outputs,
    )
    from fourcastnet_afno.workflows.prepare import prepare_run
    from fourcastnet_afno.workflows.train import train_run

    outputs = [
        *prepared_outputs(config, output),
        *training_outputs(output),
        forecast_output(output / "forecast.zarr"),
        *evaluation_outputs(config, output),
    ]
    check_outputs(outputs, prepared_inputs(config, output))
    check_perfect_model(config)  # before anything is trained
    seconds: dict[str, float] = {}
    verbs = {"prepare": prepare_run, "train": train_run, "forecast": forecast_run}
    for name, verb in verbs.items():
        started = time.monotonic()
        verb(config, output)
        seconds[name] = time.monotonic() - started
    return evaluate_run(config, output, seconds)


def compare_runs(folder: Path) -> None:
    """Print the runs in ``folder`` as a table, and draw their losses to ``runs.png`` there."""
    runs, path = find_runs(folder), folder / "runs.png"
    check_outputs([runs_output(path)], {})
    print_tables(console, runs_table(runs))
    losses = {run.name: run.losses for run in runs if run.losses}
    if losses:
        try:
            with replacing(path) as temporary:
                temporary.write_bytes(plots.render(plots.plot_run_losses(losses)))
        except InputError as error:  # the table needs no disk
            print_line(console, f"no picture of the losses: {error}", style="yellow")
        else:
            print_line(console, f"Validation losses: {path.resolve()}")

"""A function for each verb: its arguments are the options of the command line.

Each imports its workflow when it is called, so that help does not wait for torch.
"""

from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Le

from data_pipeline.errors import InputError
from data_pipeline.preparation.execution import ExecutionConfig
from data_pipeline.sources.config import SourceConfig
from fourcastnet_afno.evaluation.config import EvaluationConfig
from fourcastnet_afno.forecaster.config import ExportFormat
from fourcastnet_afno.inference.config import IfExists
from fourcastnet_afno.workflows.config import ExperimentConfig

RUN = Path("runs/quickstart")
_THREADS = ExecutionConfig()

HELP = {  # by option, or by verb and option
    "output": "run folder for data, checkpoints, forecasts, scores and the report",
    "checkpoint": "the frozen forecaster",
    "prepare.verify": "compare the store's files with their checksums",
    "prepare.plan": "print what would be read and written, and stop",
    "forecast.output": "run folder, or the file to write if it ends in .zarr or .nc, or an "
    "Icechunk repository: F.icechunk, F.icechunk@branch.NAME/GROUP, or one that exists",
    "forecast.checkpoint": "forecaster to use instead of the best of the run",
    "forecast.source": "data to start from instead of the test period of the run",
    "forecast.boundary": "what drives the edges of a limited area (data.boundary): forecasts of a "
    "larger area, a prepared store, or any source; by default the data to start from",
    "forecast.existing": "what to do with a forecast that exists; by default one in a run folder "
    "is overwritten, and a file is an error",
    "forecast.truth": "what the forecasts are scored against while they are made: any source, or a "
    "prepared store; by default the prepared data next to the checkpoint",
    "forecast.climatology": "as for `score`; by default that of a prepared store",
    "forecast.training_years": "as --training of `score`",
    "forecast.scores": "NetCDF file of the scores, which are made with the forecasts",
    "forecast.keep": "what is written of the forecasts: nothing but the scores, mean and spread "
    "over members, or all members; by default as forecast.ensemble.output says",
    "forecast.report": "HTML file of the scores to write",
    "score.forecast": "zarr store or NetCDF file, as PATH or NAME=PATH; may be repeated",
    "score.truth": "what forecasts are compared with: any source, or a prepared store",
    "score.climatology": "a prepared store, a table by dayofyear and hour, or years to fit one to",
    "score.training": "years that the linear baseline is fitted to",
    "score.output": "NetCDF file of the scores",
    "score.report": "HTML file to write",
    "score.weatherbench": "print the entries of the forecasts in WeatherBench-X's public benchmark",
    "score.state": "file that keeps finished work, so that the same command resumes after an "
    "interruption; hidden next to OUTPUT by default",
    "export.checkpoint": "forecaster to export",
    "export.output": "file to write: .onnx, .pt2 or .ckpt",
    "export.format": "aot_inductor is compiled for the processor of this machine; anemoi is a "
    "checkpoint for anemoi-inference, which needs this package to run it",
    "export.batch_size": "states in a batch, fixed; always 1 with anemoi",
    "publish.checkpoint": "forecaster to publish, or the checkpoint of a diagnostic head",
    "publish.output": "folder, or a URL that can be written to, such as s3://BUCKET/NAME",
    "publish.scores": "scores.json of its forecasts, for the model card",
    "doctor.json": "print one JSON document, and nothing else",
    "doctor.measure": "whether to time the loader and the model",
    "doctor.sample_mib": "MiB of the source to read at most",
    "view.path": "run folder, prepared store, or forecasts (a zarr store or a NetCDF file)",
    "view.truth": "what forecasts are compared with; by default the data of the run folder",
    "view.port": "port of this machine; 0 takes a free one",
    "view.no_browser": "print the address alone",
    "runs.folder": "holds run folders, at any depth",
}


def prepare_verb(
    config: ExperimentConfig,
    output: Path = RUN,
    verify: bool = False,
    plan: bool = False,
    execution: ExecutionConfig = _THREADS,
) -> None:
    """Prepare the data of a run."""
    from fourcastnet_afno.workflows.prepare import prepare_run

    prepare_run(config, output, verify, plan, execution)


def train_verb(config: ExperimentConfig, output: Path = RUN) -> None:
    """Train a forecaster."""
    from fourcastnet_afno.workflows.train import train_run

    train_run(config, output)


def train_diagnostic_verb(config: ExperimentConfig, output: Path, checkpoint: Path) -> None:
    """Train a diagnostic head."""
    from fourcastnet_afno.workflows.train_diagnostic import train_diagnostic

    train_diagnostic(config, output, checkpoint)


def forecast_verb(
    config: ExperimentConfig,
    output: Path = RUN,
    checkpoint: Path | None = None,
    source: SourceConfig | None = None,
    existing: IfExists | None = None,
    truth: SourceConfig | None = None,
    climatology: SourceConfig | None = None,
    training_years: SourceConfig | None = None,
    scores: Path | None = None,
    keep: Literal["none", "statistics", "members"] | None = None,
    report: Path | None = None,
    boundary: SourceConfig | None = None,
) -> None:
    """Write forecasts, or their scores."""
    from fourcastnet_afno.workflows.forecast import forecast_run
    from fourcastnet_afno.workflows.scored_forecast import ScoreOptions

    scored = ScoreOptions(
        truth=truth, climatology=climatology, training_years=training_years, scores=scores,
        keep=keep, report=report,
    )  # fmt: skip
    forecast_run(config, output, checkpoint, source, existing, scored, boundary)


def evaluate_verb(
    config: ExperimentConfig, output: Path = RUN, execution: ExecutionConfig = _THREADS
) -> None:
    """Score the forecasts of a run."""
    from fourcastnet_afno.workflows.evaluate_run import evaluate_run

    evaluate_run(config, output, execution=execution)


def score_verb(
    forecast: list[str],
    truth: SourceConfig,
    climatology: SourceConfig,
    training: SourceConfig | None = None,
    output: Path = Path("scores.nc"),
    report: Path | None = None,
    state: Path | None = None,
    evaluation: EvaluationConfig = EvaluationConfig(),  # noqa: B008
    execution: ExecutionConfig = _THREADS,
    weatherbench: bool = False,
) -> None:
    """Score forecasts in files."""
    from data_pipeline.terminal import print_line
    from fourcastnet_afno.workflows import console
    from fourcastnet_afno.workflows.score import evaluate_files, named_paths

    entries = []
    if weatherbench:
        from fourcastnet_afno.interop.weatherbench import benchmark_entries

        named = named_paths(forecast).items()
        entries = [benchmark_entries(Path(path), name) for name, path in named]
    optional = {"training": training, "report": report, "state": state, "execution": execution}
    evaluate_files(forecast, truth, climatology, output, evaluation, **optional)
    for entry in entries:
        print_line(console, entry.text)


def export_verb(
    checkpoint: Path,
    output: Path,
    format: ExportFormat | Literal["anemoi"] = "onnx",
    batch_size: Annotated[int, Ge(1), Le(10_000)] = 1,
) -> None:
    """Export a forecaster."""
    from data_pipeline.terminal import print_line
    from fourcastnet_afno.forecaster.export import export_checkpoint
    from fourcastnet_afno.interop.anemoi import export_anemoi
    from fourcastnet_afno.workflows import console

    if format == "anemoi":
        if batch_size != 1:
            message = f"--format anemoi steps one state at a time, got --batch_size {batch_size}; "
            raise InputError(message + "leave it out", code="bad-setting")
        export_anemoi(checkpoint, output)
        print_line(console, f"{output}: a checkpoint for anemoi-inference")
        return
    record = export_checkpoint(checkpoint, output, kind=format, batch_size=batch_size)
    print_line(
        console,
        f"{output}: differs from the checkpoint by at most {record['largest_difference']:.1e} "
        f"standard deviations; {output}.json describes its axes",
    )


def publish_verb(checkpoint: Path, output: str, scores: Path | None = None) -> None:
    """Publish a forecaster."""
    from data_pipeline.terminal import print_line
    from fourcastnet_afno.interop.publish import save_pretrained
    from fourcastnet_afno.workflows import console

    save_pretrained(checkpoint, output, scores=scores)
    print_line(console, f"{output}: weights, their digest and the model card README.md")


def quickstart_verb(config: ExperimentConfig, output: Path = RUN) -> None:
    """Run all of an experiment."""
    from fourcastnet_afno.workflows.run import quickstart

    quickstart(config, output)


def doctor_verb(
    config: ExperimentConfig,
    output: Path = RUN,
    json: bool = False,
    measure: bool = True,
    sample_mib: Annotated[int, Ge(1), Le(1_000_000)] = 1024,
) -> int:
    """Examine an experiment before it runs; 1 if something would stop or spoil it."""
    from fourcastnet_afno.doctor.doctor import run_doctor

    report = run_doctor(config, output, as_json=json, measure=measure, sample_mib=sample_mib)
    return int(report.num_errors > 0)


def runs_verb(folder: Path) -> None:
    """Compare the runs in a folder."""
    from fourcastnet_afno.workflows.run import compare_runs

    compare_runs(folder)


def view_verb(
    path: Path,
    truth: SourceConfig | None = None,
    port: Annotated[int, Ge(0), Le(65535)] = 0,
    no_browser: bool = False,
) -> None:
    """Show fields in a browser."""
    from fourcastnet_afno.workflows.view import view

    view(path, truth, port, opens_browser=not no_browser)

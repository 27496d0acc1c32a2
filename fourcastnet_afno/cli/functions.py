"""A function for each verb: its arguments are the options, its docstring their help.

Each imports its workflow when it is called, so that help does not wait for torch.
"""

from pathlib import Path

from rich.console import Console

from data_pipeline.errors import InputError
from data_pipeline.preparation.execution import ExecutionConfig
from data_pipeline.sources.config import SourceConfig
from fourcastnet_afno.evaluation.config import EvaluationConfig
from fourcastnet_afno.forecaster.config import ExportFormat
from fourcastnet_afno.inference.config import IfExists
from fourcastnet_afno.workflows.config import ExperimentConfig

RUN = Path("runs/quickstart")
_FOUND_ERRORS = 1


def prepare(
    config: ExperimentConfig,
    output: Path = RUN,
    verify: bool = False,
    plan: bool = False,
    execution: ExecutionConfig = ExecutionConfig(),  # noqa: B008
) -> None:
    """Prepare the data of a run.

    Args:
        config: The experiment.
        output: Run folder for data, checkpoints, forecasts, scores and the report.
        verify: Compare the store's files with their checksums.
        plan: Print what would be read and written, and stop.
        execution: Where the work is done.
    """
    from fourcastnet_afno.workflows.prepare import prepare_run

    prepare_run(config, output, verify, plan, execution)


def train(config: ExperimentConfig, output: Path = RUN) -> None:
    """Train a forecaster.

    Args:
        config: The experiment.
        output: Run folder for data, checkpoints, forecasts, scores and the report.
    """
    from fourcastnet_afno.workflows.train import train_run

    train_run(config, output)


def train_diagnostic(config: ExperimentConfig, output: Path, checkpoint: Path) -> None:
    """Train a diagnostic head.

    Args:
        config: The experiment.
        output: Run folder of the head, another one than that of the forecaster.
        checkpoint: The frozen forecaster.
    """
    from fourcastnet_afno.workflows import train_diagnostic

    train_diagnostic.train_diagnostic(config, output, checkpoint)


def forecast(
    config: ExperimentConfig,
    output: Path = RUN,
    checkpoint: Path | None = None,
    source: SourceConfig | None = None,
    existing: IfExists | None = None,
) -> None:
    """Write forecasts.

    Args:
        config: The experiment.
        output: Run folder, or the file to write if it ends in .zarr or .nc.
        checkpoint: Forecaster to use instead of the best of the run.
        source: Data to start from instead of the test period of the run.
        existing: What to do with a forecast that exists; by default one in a run folder is
            overwritten, and a file is an error.
    """
    from fourcastnet_afno.workflows.forecast import forecast_run

    forecast_run(config, output, checkpoint, source, existing)


def evaluate(
    config: ExperimentConfig,
    output: Path = RUN,
    execution: ExecutionConfig = ExecutionConfig(),  # noqa: B008
) -> None:
    """Score the forecasts of a run.

    Args:
        config: The experiment.
        output: Run folder for data, checkpoints, forecasts, scores and the report.
        execution: Where the work is done.
    """
    from fourcastnet_afno.workflows.evaluate_run import evaluate_run

    evaluate_run(config, output, execution=execution)


def score(
    forecast: list[str],
    truth: SourceConfig,
    climatology: SourceConfig,
    training: SourceConfig | None = None,
    output: Path = Path("scores.nc"),
    report: Path | None = None,
    state: Path | None = None,
    evaluation: EvaluationConfig = EvaluationConfig(),  # noqa: B008
    execution: ExecutionConfig = ExecutionConfig(),  # noqa: B008
) -> None:
    """Score forecasts in files.

    Args:
        forecast: Zarr store or NetCDF file, as PATH or NAME=PATH; may be repeated.
        truth: What forecasts are compared with: any source, or a prepared store.
        climatology: A prepared store, a table by dayofyear and hour, or years to fit one to.
        training: Years that the linear baseline is fitted to.
        output: NetCDF file of the scores.
        report: HTML file to write.
        state: File that keeps finished work, so that the same command resumes after an
            interruption; hidden next to OUTPUT by default.
        evaluation: What is scored, and by which conventions.
        execution: Where the work is done.
    """
    from fourcastnet_afno.evaluation.scores.tables import scores_table
    from fourcastnet_afno.workflows.score import evaluate_files

    scores = evaluate_files(
        forecast,
        truth,
        climatology,
        output,
        evaluation,
        training=training,
        report=report,
        state=state,
        execution=execution,
    )
    console = Console(soft_wrap=True)
    console.print(scores_table(scores))
    for path in (output, report):
        if path is not None:
            console.print(f"Written: {path.resolve()}")


def export(
    checkpoint: Path, output: Path, format: ExportFormat = "onnx", batch_size: int = 1
) -> None:
    """Export a forecaster.

    Args:
        checkpoint: Forecaster to export.
        output: File to write: .onnx or .pt2.
        format: The file's format; aot_inductor is compiled for the processor of this machine.
        batch_size: States in a batch, fixed.
    """
    from fourcastnet_afno.forecaster.export import export_checkpoint

    record = export_checkpoint(checkpoint, output, kind=format, batch_size=batch_size)
    Console(soft_wrap=True).print(
        f"{output}: differs from the checkpoint by at most {record['largest_difference']:.1e} "
        f"standard deviations; {output}.json describes its axes"
    )


def quickstart(config: ExperimentConfig, output: Path = RUN) -> None:
    """Run all of an experiment.

    Args:
        config: The experiment.
        output: Run folder for data, checkpoints, forecasts, scores and the report.
    """
    from fourcastnet_afno.workflows import run

    run.quickstart(config, output)


def doctor(
    config: ExperimentConfig,
    output: Path = RUN,
    json: bool = False,
    measure: bool = True,
    sample_mib: int = 1024,
) -> int:
    """Examine an experiment before it runs.

    Args:
        config: The experiment.
        output: Run folder for data, checkpoints, forecasts, scores and the report.
        json: Print one JSON document, and nothing else.
        measure: Whether to time the loader and the model.
        sample_mib: MiB of the source to read at most.
    """
    from fourcastnet_afno.doctor.doctor import run_doctor

    if sample_mib < 1:
        raise InputError(f"sample_mib must be at least 1, got {sample_mib}", code="bad-setting")
    report = run_doctor(config, output, as_json=json, measure=measure, sample_mib=sample_mib)
    return _FOUND_ERRORS if report.num_errors else 0


def runs(folder: Path) -> None:
    """Compare runs.

    Args:
        folder: Holds run folders, at any depth.
    """
    from fourcastnet_afno.workflows.run import compare_runs

    compare_runs(folder)

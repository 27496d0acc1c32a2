"""The command line: ``fourcastnet-afno VERB``, typed by the functions in ``experiment``."""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

from jsonargparse import ActionConfigFile, ArgumentParser, Namespace  # pyright: ignore
from jsonargparse.typing import PositiveInt
from rich.console import Console

from data_pipeline.errors import InputError
from data_pipeline.preparation.execution import ExecutionConfig
from data_pipeline.sources.config import SourceConfig
from fourcastnet_afno.doctor.doctor import doctor
from fourcastnet_afno.evaluation.config import EvaluationConfig
from fourcastnet_afno.evaluation.scores.tables import scores_table
from fourcastnet_afno.forecaster.checkpoint import read_checkpoint
from fourcastnet_afno.forecaster.export import ExportFormat, export_checkpoint
from fourcastnet_afno.inference.config import IfExists
from fourcastnet_afno.parallel.environment import LaunchEnvironment
from fourcastnet_afno.training.signals import TrainingInterruptedError
from fourcastnet_afno.workflows.config import ExperimentConfig
from fourcastnet_afno.workflows.evaluate_run import evaluate_run
from fourcastnet_afno.workflows.forecast import forecast_run
from fourcastnet_afno.workflows.prepare import prepare_run
from fourcastnet_afno.workflows.run import compare_runs, quickstart
from fourcastnet_afno.workflows.score import evaluate_files
from fourcastnet_afno.workflows.train import train_run
from fourcastnet_afno.workflows.train_diagnostic import train_diagnostic

_VERBS = {
    "prepare": "Read or simulate the data, check it, and write the training store.",
    "train": "Train a forecaster; go on where an interrupted run in the same folder stopped.",
    "train-diagnostic": "Train a head for data.diagnostic, as precipitation, on the frozen "
    "forecaster of --checkpoint; it goes into a run folder of its own.",
    "forecast": "Roll the trained forecaster out from the initial times of the test period, or "
    "from any data: --checkpoint C --source S --init-times 2020-01-01..2020-12-31/12h --steps 40 "
    "--output F.zarr",
    "evaluate": "Score the forecasts of a run beside the baselines, and write the report; or score "
    "any forecasts: --forecast F.zarr --forecast NAME=G.zarr --truth S --climatology C --output "
    "scores.nc --report report.html (`evaluate --forecast F.zarr --help` lists its settings).",
    "export": "Write the forecaster of a checkpoint as ONNX, torch.export or AOTInductor file that "
    "runs without this package.",
    "quickstart": "Prepare, train, forecast, evaluate and report; without --config on a simulated "
    "planet, in minutes.",
    "doctor": "Examine data, store, machine and speed before a run; `doctor FILE` is short for "
    "`doctor --config FILE`. Exits with 1 where something would stop or spoil the run.",
}
# Short words of `forecast`, for settings that have long names.
_SHORT = {
    "--init-times": "--forecast.init_times",
    "--steps": "--forecast.num_steps",
    "--members": "--forecast.ensemble.num_members",
    "--source": "--source.path",
    "--diagnostic": "--forecast.diagnostic",
}
# Those of `evaluate` with forecasts of its own.
_SHORT_OF_FILES = {f"--{name}": f"--{name}.path" for name in ("truth", "climatology", "training")}
_PARALLEL_VERBS = ("train", "train-diagnostic", "forecast")
_RUNS = "Compare the runs in a folder: a table, and their losses in runs.png."
_FOUND_ERRORS, _USER_ERROR, _INTERRUPTED = 1, 2, 130


def build_parser(*, files: bool = False) -> ArgumentParser:
    """The parser of all verbs.

    Args:
        files: Whether ``evaluate`` scores files instead of a run folder.
    """
    parser = ArgumentParser(
        prog="fourcastnet-afno",
        description="Train, roll out and score Adaptive Fourier Neural Operator surrogates. All "
        "verbs share one YAML file and one run folder; `VERB --help` lists every setting.",
    )
    verbs = parser.add_subcommands(metavar="VERB", dest="verb")
    for name, text in _VERBS.items():
        scores_files = files and name == "evaluate"
        parser_of_verb = _files_parser(text) if scores_files else _verb_parser(name, text)
        verbs.add_subcommand(name, parser_of_verb, help=text)
    runs = ArgumentParser(description=_RUNS)
    runs.add_argument("folder", type=Path, help="holds run folders, at any depth")
    verbs.add_subcommand("runs", runs, help=_RUNS)
    return parser


def _verb_parser(name: str, text: str) -> ArgumentParser:
    parser = ArgumentParser(description=text)
    if name == "export":
        return _with_export_arguments(parser)
    parser.add_argument(
        "--config",
        action=ActionConfigFile,
        help="YAML file of the experiment; may be repeated, the later file wins key by key. "
        "Without it, OUTPUT/config.yaml of an earlier verb is used.",
    )
    output: dict[str, Any] = {"default": Path("runs/quickstart")}
    if name == "train-diagnostic":  # not the folder of the forecaster
        output = {"required": True}
        parser.add_argument("--checkpoint", type=Path, required=True, help="frozen forecaster")
    parser.add_argument(
        "--output",
        type=Path,
        help="run folder for data, checkpoints, forecasts, scores and the report",
        **output,
    )
    parser.add_class_arguments(ExperimentConfig, as_group=False)
    if name == "prepare":
        parser.add_argument(
            "--verify", action="store_true", help="compare the store's files with their checksums"
        )
        parser.add_argument(
            "--plan", action="store_true", help="say what would be read and written, and stop"
        )
        _add_execution(parser)
    if name == "evaluate":
        _add_execution(parser, skip={"memory_gib"})
    if name == "forecast":
        parser.add_argument("--checkpoint", type=Path | None, help="forecaster to use")
        parser.add_argument("--source", type=SourceConfig | None, help="data to start from")
        parser.add_argument(
            "--existing",
            type=IfExists | None,
            help="what to do with a forecast that is there: one in a run folder is replaced, a "
            "file refused, by default",
        )
    if name == "doctor":
        parser.add_argument(
            "--json", action="store_true", help="print one JSON document, and nothing else"
        )
        parser.add_argument(
            "--measure", type=bool, default=True, help="whether to time the loader and the model"
        )
        parser.add_argument(
            "--sample_mib", type=PositiveInt, default=1024, help="MiB of the source to read at most"
        )
    return parser


def _add_execution(parser: ArgumentParser, skip: set[str | int] | None = None) -> None:
    parser.add_class_arguments(ExecutionConfig, "execution", skip=skip)
    parser.add_argument(
        "--scheduler-address",
        type=str | None,
        help="of a dask cluster to run on, as execution.scheduler_address",
    )


def _files_parser(text: str) -> ArgumentParser:
    """The parser of ``evaluate`` with forecasts of its own."""
    parser = ArgumentParser(description=text)
    parser.add_argument("--config", action=ActionConfigFile, help="YAML file of these settings")
    parser.add_argument(
        "--forecast", action="append", type=str, help="zarr store or NetCDF file; may be repeated"
    )
    for name, what in {
        "truth": "what forecasts are compared with: any source, or a prepared store",
        "climatology": "a prepared store, a table by dayofyear and hour, or years to fit one to",
    }.items():
        parser.add_argument(f"--{name}", type=SourceConfig, required=True, help=what)
    parser.add_argument(
        "--training", type=SourceConfig | None, help="years that the linear baseline is fitted to"
    )
    parser.add_argument("--output", type=Path, default=Path("scores.nc"), help="scores, as NetCDF")
    parser.add_argument("--report", type=Path | None, help="HTML file to write")
    parser.add_argument(
        "--state",
        type=Path | None,
        help="file that keeps what is done, so that the same command goes on after an "
        "interruption; hidden beside OUTPUT by default",
    )
    parser.add_class_arguments(EvaluationConfig, "evaluation")
    _add_execution(parser, skip={"memory_gib"})
    return parser


def scores_files(arguments: Sequence[str]) -> bool:
    """Whether the words are those of ``evaluate`` with forecasts of its own."""
    named = any(word.split("=")[0] == "--forecast" for word in arguments)
    return named and list(arguments[:1]) == ["evaluate"]


def _with_export_arguments(parser: ArgumentParser) -> ArgumentParser:
    parser.add_argument("--checkpoint", type=Path, required=True, help="forecaster to export")
    parser.add_argument("--output", type=Path, required=True, help="file to write: .onnx or .pt2")
    parser.add_argument(
        "--format",
        type=ExportFormat,
        default="onnx",
        help="aot_inductor is compiled for the processor of this machine",
    )
    parser.add_argument("--batch_size", type=int, default=1, help="states in a batch, fixed")
    return parser


def parse(words: Sequence[str]) -> Namespace:
    """Parse and validate; exits with 2 and names the setting where one is wrong."""
    parser = build_parser(files=scores_files(words))
    try:
        return parser.instantiate(parser.parse_args(words))
    except ValueError as error:
        parser.error(str(error))


def with_default_config(arguments: Sequence[str]) -> list[str]:
    """Add ``--config`` where the user gave none: the run's own, or the embedded quickstart's."""
    given = _with_config_named(arguments)
    named = any(word.split("=")[0] == "--config" for word in given)
    if (
        not given
        or given[0] not in _VERBS
        or given[0] == "export"
        or named
        or scores_files(given)
        or "--help" in given
        or "-h" in given
    ):
        return given
    own = _option(given, "--output", "runs/quickstart") / "config.yaml"
    if own.exists():
        return [given[0], f"--config={own}", *given[1:]]
    checkpoint = _option(given, "--checkpoint", str(_option(given, "--forecast.diagnostic", "")))
    if given[0] in ("forecast", "train-diagnostic") and checkpoint.is_file():
        return [given[0], f"--config={_experiment_of(checkpoint)}", *given[1:]]
    if given[0] == "quickstart":
        embedded = files("fourcastnet_afno").joinpath("quickstart.yaml")
        return [given[0], f"--config={embedded}", *given[1:]]
    raise InputError(
        f"`{given[0]}` needs --config FILE (an experiment, see configs/), or --output with a run "
        f"folder that holds a config.yaml; {own.resolve()} does not exist"
    )


def _with_config_named(arguments: Sequence[str]) -> list[str]:
    """``doctor FILE`` as ``doctor --config=FILE``."""
    given = list(arguments)
    if given[:1] != ["doctor"]:
        return given
    for index, (before, word) in enumerate(pairwise(given), start=1):
        takes_value = before.startswith("--") and "=" not in before and before != "--json"
        if not word.startswith("-") and not takes_value:
            given[index] = f"--config={word}"
    return given


def _experiment_of(checkpoint: Path) -> str:
    """The experiment that a checkpoint was trained in, as text that ``--config`` takes."""
    _, metadata = read_checkpoint(checkpoint, "none")
    if "config" not in metadata:
        raise InputError(f"{checkpoint} does not hold its experiment; give --config FILE")
    return metadata["config"]


def with_long_names(arguments: Sequence[str]) -> list[str]:
    """The arguments with the names of the settings for the short words of some verbs."""
    given = list(arguments)
    short = _SHORT if given[:1] == ["forecast"] else {}
    if scores_files(given):
        short = _SHORT_OF_FILES
    split = [word.partition("=") for word in given]
    return [short.get(name, name) + equals + value for name, equals, value in split]


def _option(arguments: Sequence[str], name: str, default: str) -> Path:
    """The last value of an option, before the arguments are parsed."""
    words = [
        (word, following)
        for word, following in zip(arguments, [*arguments[1:], ""], strict=True)
        if word.split("=")[0] == name
    ]
    if not words:
        return Path(default)
    word, following = words[-1]
    return Path(word.split("=", 1)[1] if "=" in word else following)


def _export(options: Namespace) -> None:
    record = export_checkpoint(
        options.checkpoint, options.output, kind=options.format, batch_size=options.batch_size
    )
    Console(soft_wrap=True).print(
        f"{options.output}: differs from the checkpoint by at most "
        f"{record['largest_difference']:.1e} standard deviations; {options.output}.json says what "
        "its axes mean"
    )


def _evaluate_files(options: Namespace) -> None:
    scores = evaluate_files(
        options.forecast,
        options.truth,
        options.climatology,
        options.output,
        options.evaluation,
        training=options.training,
        report=options.report,
        state=options.state,
        execution=_execution(options),
    )
    console = Console(soft_wrap=True)
    console.print(scores_table(scores))
    for path in (options.output, options.report):
        if path is not None:
            console.print(f"Written: {path.resolve()}")


def _execution(options: Namespace) -> ExecutionConfig:
    """Where the work is done, by the long or the short option."""
    if options.scheduler_address is None:
        return options.execution
    return replace(options.execution, scheduler_address=options.scheduler_address)


def _refuse_several_processes(verb: str) -> None:
    num_processes = LaunchEnvironment.from_environment(os.environ).world_size
    if num_processes > 1:
        raise InputError(
            f"`{verb}` runs in one process and {num_processes} were started; torchrun and srun are "
            f"for {', '.join(_PARALLEL_VERBS)}"
        )


def run_verb(verb: str, options: Namespace) -> int:
    """Call the function of a verb with its parsed options, and give the exit code.

    Raises:
        InputError: If several processes were started for a verb that takes one.
    """
    if verb not in _PARALLEL_VERBS:
        _refuse_several_processes(verb)
    if verb == "runs":
        compare_runs(options.folder)
        return os.EX_OK
    if verb == "export":
        _export(options)
        return os.EX_OK
    if verb == "evaluate" and isinstance(options.forecast, list):
        _evaluate_files(options)
        return os.EX_OK
    config = ExperimentConfig(
        data=options.data,
        model=options.model,
        training=options.training,
        diagnostic=options.diagnostic,
        forecast=options.forecast,
        evaluation=options.evaluation,
    )
    if verb == "doctor":
        asked = {"measure": options.measure, "sample_mib": options.sample_mib}
        report = doctor(config, options.output, as_json=options.json, **asked)
        return _FOUND_ERRORS if report.num_errors else os.EX_OK
    if verb == "train-diagnostic":
        train_diagnostic(config, options.output, options.checkpoint)
        return os.EX_OK
    further = {
        "prepare": ("verify", "plan", "execution"),
        "forecast": ("checkpoint", "source", "existing"),
        "evaluate": ("execution",),
    }
    extra = {name: options[name] for name in further.get(verb, ())}
    if "execution" in extra:
        extra["execution"] = _execution(options)
    workflows: dict[str, Callable[..., object]] = {
        "prepare": prepare_run,
        "train": train_run,
        "forecast": forecast_run,
        "evaluate": evaluate_run,
        "quickstart": quickstart,
    }
    workflows[verb](config, options.output, **extra)
    return os.EX_OK


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
            0; 1 for errors that the doctor found; 2 for a mistake in the input; 130 for a run that
        Ctrl-C has interrupted, and 75 for one that the system has stopped and that should be
        started again.
    """
    errors = Console(stderr=True, soft_wrap=True, highlight=False)
    words: list[str] = []
    try:
        given = with_long_names(sys.argv[1:] if arguments is None else arguments)
        words = with_default_config(given)
        options = parse(words)
        verb = options["verb"]
        return run_verb(verb, options[verb])
    except InputError as error:
        errors.print(f"error: {error}", style="red", markup=False)
        return _USER_ERROR
    except TrainingInterruptedError as stop:
        command = " ".join(["fourcastnet-afno", *words])
        if LaunchEnvironment.from_environment(os.environ).rank == 0:
            errors.print(f"{stop}; the last checkpoint is complete. Go on with: {command}")
        return stop.exit_code
    except KeyboardInterrupt:
        errors.print("interrupted; run the same command again")
        return _INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())

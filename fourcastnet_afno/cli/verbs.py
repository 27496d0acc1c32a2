"""The verbs of the command line, by name; importing this table imports nothing else of the project.

To add a verb: a row here, and its function in ``functions``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

SECTIONS = ("data", "model", "training", "diagnostic", "forecast", "evaluation")
"""Parts of an experiment."""


@dataclass(frozen=True, kw_only=True)
class Verb:
    """A verb.

    Args:
        help: Its effect.
        sections: Parts of the experiment that it shows; it accepts all of them, so that the verbs
            share one YAML file. Without sections it takes no experiment.
        is_parallel: Whether torchrun and srun may start it in several processes.
        resumes: Whether the same command resumes it after an interruption.
        short: Short options, and the settings that they set.
        positional: Option that a word without an option stands for.
    """

    help: str
    sections: tuple[str, ...] = ()
    is_parallel: bool = False
    resumes: bool = False
    short: Mapping[str, str] = field(default_factory=dict)
    positional: str | None = None


_SCHEDULER = {"--scheduler-address": "--execution.scheduler_address"}

VERBS = {
    "prepare": Verb(
        help="Read or simulate the data, check it, and write the training store.",
        sections=("data",),
        short=_SCHEDULER,
        resumes=True,
    ),
    "train": Verb(
        help="Train a forecaster, or resume an interrupted run in the same folder.",
        sections=("data", "model", "training"),
        is_parallel=True,
        resumes=True,
    ),
    "train-diagnostic": Verb(
        help="Train a head for data.diagnostic, such as precipitation, behind the frozen "
        "forecaster of --checkpoint, in a run folder of its own.",
        sections=SECTIONS,
        is_parallel=True,
        resumes=True,
    ),
    "forecast": Verb(
        help="Roll the trained forecaster out from the initial times of the test period, or from "
        "any data: --checkpoint C --source S --init-times 2020-01-01..2020-12-31/12h --steps 40 "
        "--output F.zarr",
        sections=("data", "forecast", "evaluation"),
        is_parallel=True,
        short={
            "--init-times": "--forecast.init_times",
            "--steps": "--forecast.num_steps",
            "--members": "--forecast.ensemble.num_members",
            "--source": "--source.path",
            "--boundary": "--boundary.path",
            "--diagnostic": "--forecast.diagnostic",
            "--truth": "--truth.path",
            "--climatology": "--climatology.path",
            "--training-years": "--training_years.path",
        },
        resumes=True,
    ),
    "evaluate": Verb(
        help="Score the forecasts of a run next to the baselines, and write the report. With "
        "--forecast it is an alias of `score`.",
        sections=("data", "evaluation"),
        short=_SCHEDULER,
        resumes=True,
    ),
    "score": Verb(
        help="Score any forecasts: --forecast F.zarr --forecast NAME=G.zarr --truth S "
        "--climatology C --output scores.nc --report report.html",
        short={f"--{name}": f"--{name}.path" for name in ("truth", "climatology", "training")}
        | _SCHEDULER,
        resumes=True,
    ),
    "export": Verb(
        help="Write the forecaster of a checkpoint as ONNX, torch.export or AOTInductor file that "
        "runs without this package, or as a checkpoint for anemoi-inference.",
    ),
    "publish": Verb(
        help="Write the forecaster of a checkpoint as a folder for others, with its digest and a "
        "model card: --checkpoint C --output FOLDER --scores RUN/scores.json",
    ),
    "quickstart": Verb(
        help="Prepare, train, forecast, evaluate and report; without --config on a simulated "
        "planet, in minutes.",
        sections=SECTIONS,
        resumes=True,
    ),
    "doctor": Verb(
        help="Examine data, store, machine and speed before a run; `doctor FILE` is short for "
        "`doctor --config FILE`. Exits with 1 if something would stop or spoil the run.",
        sections=SECTIONS,
        positional="--config",
    ),
    "view": Verb(
        help="Show a run folder, forecasts or a prepared store in a browser on this machine: maps "
        "that play, values and series; `view PATH`. Ctrl-C ends it.",
        short={"--truth": "--truth.path", "--no-browser": "--no_browser"},
        positional="--path",
    ),
    "runs": Verb(
        help="Compare the runs in a folder: a table, and their losses in runs.png.",
        positional="--folder",
    ),
}

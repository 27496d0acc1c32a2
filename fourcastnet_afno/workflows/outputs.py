"""Files that the verbs write into a run folder, compared with all that they read.

=====================  ============================================================
what exists            who replaces it
=====================  ============================================================
config.yaml            every verb, unless it was written by hand; then it stays, and
                       is an error if its settings are not those of the command
data.zarr              nobody: it is opened if it is of the same configuration
checkpoints, logs,     ``train`` and ``train-diagnostic``, of the same configuration
history.json
forecast.zarr          ``forecast``; elsewhere with ``--existing overwrite`` alone
perfect_model.zarr     ``evaluate``, if it is of other data or other forecasts
scores, report,        ``evaluate`` and ``score``
figures
=====================  ============================================================
"""

import re
from functools import partial
from pathlib import Path

import yaml

from data_pipeline.errors import InputError
from data_pipeline.files.atomic import write_text
from data_pipeline.files.outputs import Marker, Output, read_head
from data_pipeline.preparation.prepare import data_inputs
from data_pipeline.sources.files import local_inputs
from data_pipeline.yaml_text import read_yaml
from fourcastnet_afno.evaluation.aggregation import state_output
from fourcastnet_afno.evaluation.config import PERFECT_MODEL
from fourcastnet_afno.evaluation.scores.tables import scores_outputs
from fourcastnet_afno.forecaster.checkpoint_file import is_checkpoint
from fourcastnet_afno.forecaster.config_text import parse_config
from fourcastnet_afno.inference.perfect_model import perfect_model_output
from fourcastnet_afno.report.outputs import report_outputs
from fourcastnet_afno.workflows.config import ExperimentConfig

_SECTIONS = {"data", "model", "training", "forecast", "evaluation"}  # of every version
_HISTORY = re.compile(rb'\[\s*(\]\s*$|\{\s*"epoch": \d+,\s*"stage":)')
STEP = re.compile(r"step-\d{8}\.safetensors")
"""Names of the checkpoints before the last one."""


def store_location(config: ExperimentConfig, output: Path) -> str:
    """Folder or URL of the training store."""
    return config.data.store or str(output / "data.zarr")


def prepared_outputs(config: ExperimentConfig, output: Path) -> list[Output]:
    """The configuration, and the training store where there is none yet."""
    outputs, store = [config_output(config, output)], store_location(config, output)
    if "://" not in store and not Path(store).exists():
        outputs.append(Output(Path(store), "the training store", has_work_folder=True))
    return outputs


def prepared_inputs(config: ExperimentConfig, output: Path) -> dict[str, list[Path]]:
    """The training store, or what it is made of where there is none yet."""
    store = store_location(config, output)
    if "://" in store or Path(store).exists():
        return {"the training store": local_inputs(store)}
    return data_inputs(config.data)


def training_outputs(output: Path) -> list[Output]:
    """The files that ``train`` and ``train-diagnostic`` write after what is prepared.

    Whether checkpoints are of this run is checked by ``check_resumable``.
    """
    folder, logs = output / "checkpoints", output / "logs"
    earlier = folder.iterdir() if folder.is_dir() else ()
    checkpoints = [folder / f"{name}.safetensors" for name in ("last", "best")]
    checkpoints += [
        path
        for path in earlier
        # A run that is killed while it keeps a checkpoint leaves two names of one file.
        if STEP.fullmatch(path.name) and not _is_same(path, checkpoints[0])
    ]
    return [
        *(Output(path, "a checkpoint", is_checkpoint) for path in checkpoints),
        Output(output / "history.json", "the record of a training", _is_history),
        Output(logs / "steps.csv", "the log of a training", _starts(b"step,stage,epoch,")),
        Output(logs / "validation.csv", "the log of a training", _starts(b"step,stage,metric,")),
    ]


def evaluation_outputs(config: ExperimentConfig, output: Path) -> list[Output]:
    """The files that ``evaluate`` writes after what is prepared."""
    has_simulator = PERFECT_MODEL in config.evaluation.baselines
    return [
        *([perfect_model_output(output / "perfect_model.zarr")] if has_simulator else []),
        *scores_outputs(output / "scores.json", output / "scores.nc"),
        *report_outputs(output / "report.html"),
        state_output(output / ".evaluation.npz"),
    ]


def config_output(config: ExperimentConfig, output: Path) -> Output:
    """The configuration of a run."""
    path = output / "config.yaml"
    remedy = (
        "if it is yours, write into it what this command sets in another way, or move it away and "
        "give it with --config"
    )
    kind = "the configuration of a run"
    return Output(path, kind, partial(_may_save, config), remedy=remedy)


def save_config(config: ExperimentConfig, output: Path) -> None:
    """Write the configuration of a run, for its owner alone if it has secrets.

    One that says the same stays as it is.
    """
    path, text = output / "config.yaml", config.to_yaml(with_secrets=True)
    is_private = text != config.to_yaml()
    if not (path.exists() and _says(config, path.read_text())):
        write_text(path, text, private=is_private)
    elif is_private and path.stat().st_mode & 0o077:
        path.chmod(0o600)


def _may_save(config: ExperimentConfig, path: Path) -> bool:
    """Whether a file was written by ``save_config``, or says the same in another way."""
    text = path.read_text()
    if _says(config, text):
        return True
    record = read_yaml(text, str(path))
    return record.keys() >= _SECTIONS and yaml.safe_dump(record, sort_keys=False) == text


def _says(config: ExperimentConfig, text: str) -> bool:
    if text == config.to_yaml(with_secrets=True):
        return True
    try:
        return parse_config(ExperimentConfig, read_yaml(text, "config.yaml")) == config
    except InputError:
        return False


def _is_history(path: Path) -> bool:
    """Whether a file starts as a record does; its end may be lost, the checkpoint has all of it."""
    return _HISTORY.match(read_head(path)) is not None


def _is_same(path: Path, other: Path) -> bool:
    return other.exists() and path.samefile(other)


def _starts(head: bytes) -> Marker:
    return lambda path: read_head(path).startswith(head)

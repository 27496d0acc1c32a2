"""The verb ``prepare``, and what a run needs before it trains: its store, and no other run."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from data_pipeline.errors import InputError
from data_pipeline.files.atomic import make_folder
from data_pipeline.files.outputs import check_outputs
from data_pipeline.preparation.execution import ExecutionConfig
from data_pipeline.preparation.prepare import open_store, plan_preparation
from data_pipeline.preparation.prepare import prepare as prepare_store
from data_pipeline.redaction import without_secrets
from data_pipeline.store.reader import PreparedStore
from data_pipeline.terminal import print_line
from data_pipeline.yaml_text import read_settings
from fourcastnet_afno.forecaster.checkpoint import read_checkpoint
from fourcastnet_afno.forecaster.config_text import parse_config
from fourcastnet_afno.parallel.process import Process
from fourcastnet_afno.training.config import OPERATIONAL_SETTINGS
from fourcastnet_afno.workflows import console
from fourcastnet_afno.workflows.config import ExperimentConfig
from fourcastnet_afno.workflows.outputs import (
    STEP,
    prepared_inputs,
    prepared_outputs,
    save_config,
    store_location,
    training_outputs,
)


def prepare_run(
    config: ExperimentConfig,
    output: Path,
    verify: bool = False,
    plan: bool = False,
    execution: ExecutionConfig | None = None,
) -> PreparedStore | None:
    """Read or simulate the data, check it, and write the training store with its statistics.

    With ``verify`` the store's files are compared with their checksums; with ``plan`` nothing is
    written, and what would be done is printed.
    """
    location = store_location(config, output)
    if plan and "://" not in location:
        print_line(console, plan_preparation(config.data, Path(location)).describe())
        return None
    check_outputs(prepared_outputs(config, output), prepared_inputs(config, output))
    store = open_or_prepare(config, output, execution)
    if verify:
        store.verify()
        print_line(console, f"{location} is unchanged (fingerprint {store.fingerprint})")
    return store


def open_or_prepare(
    config: ExperimentConfig, output: Path, execution: ExecutionConfig | None = None
) -> PreparedStore:
    """The training store of a run, prepared where it does not exist yet."""
    location = store_location(config, output)
    if "://" in location:
        store = open_store(location, config.data)
    else:
        store = prepare_store(config.data, Path(location), execution, partial(print_line, console))
    save_config(config, output)
    return store


def open_prepared_store(
    config: ExperimentConfig,
    output: Path,
    process: Process,
    backbone: str | None = None,
    inputs: Mapping[str, Sequence[Path]] | None = None,
) -> PreparedStore:
    """The training store, which the main process alone prepares.

    ``inputs`` are files that the training reads in addition to the data, by option.

    Raises:
        InputError: If the folder holds another run, see ``check_resumable``, or something would be
            lost, see ``check_outputs``.
    """
    if not process.is_main:
        return open_store(store_location(config, output), config.data)
    folder = output / "checkpoints"
    last, best = folder / "last.safetensors", folder / "best.safetensors"
    check_resumable(config, last if last.exists() else best, backbone)
    _require_last(last)
    _require_best(last, best)
    read = {**prepared_inputs(config, output), **(inputs or {})}
    check_outputs([*prepared_outputs(config, output), *training_outputs(output)], read)
    store = open_or_prepare(config, output)
    make_folder(folder)
    return store


def _require_last(last: Path) -> None:
    """Reject earlier checkpoints without the newest one, which a new training would drop."""
    earlier = sorted(path for path in last.parent.glob("step-*") if STEP.fullmatch(path.name))
    if earlier and not last.exists():
        raise InputError(
            f"{last.parent} holds {earlier[-1].name} but no {last.name}; copy it to {last.name} to "
            "resume from it, or move it away to start over",
            code="output-exists",
        )


def _require_best(last: Path, best: Path) -> None:
    """Check the best weights of an unfinished stage, which ends with them, maybe days later."""
    if last.exists():
        position = read_checkpoint(last, "none")[1].get("position", {})
        if position.get("best") not in (None, math.inf):
            read_checkpoint(best)


def check_resumable(config: ExperimentConfig, last: Path, backbone: str | None) -> None:
    """Check that the run of the checkpoint ``last``, if it exists, was configured like this one.

    ``backbone`` is the fingerprint of the forecaster behind a diagnostic head, if one is trained.

    Raises:
        InputError: If data, model or training was configured otherwise.
    """
    if not last.exists():
        return
    _, metadata = read_checkpoint(last, "none")
    head = metadata.get("diagnostic")
    recorded = head and head["backbone"]
    if recorded != backbone:
        trained, requested = (
            "a forecaster" if name is None else f"a diagnostic head behind the forecaster {name}"
            for name in (recorded, backbone)
        )
        raise InputError(
            f"{last.parent.parent.resolve()} holds the training of {trained}, this command trains "
            f"{requested}; give another --output",
            code="other-configuration",
        )
    # As it is read now, with the defaults of what did not exist then.
    stored = _stored_experiment(last, metadata.get("config", ""))
    before, now = (
        without_secrets(read_settings(experiment.to_yaml(), "")) for experiment in (stored, config)
    )
    keys = [
        key
        for part in ("data", "diagnostic" if backbone else "model", "training")
        for key in differing_keys(before[part], now[part], part)
        if key.removeprefix("training.").split(".")[0] not in OPERATIONAL_SETTINGS
    ]
    if keys:
        raise InputError(
            f"{last.parent.parent.resolve()} holds a run with another configuration, differing in "
            f"{', '.join(keys)}; give another --output, or delete that folder to start over",
            code="other-configuration",
        )


def _stored_experiment(last: Path, text: str) -> ExperimentConfig:
    try:
        return parse_config(ExperimentConfig, read_settings(text, "its configuration"))
    except InputError as error:
        raise InputError(
            f"the run of {last} cannot resume: {error}; resume with the version that wrote it, or "
            "give another --output to start over",
            code=error.code,
        ) from error


def differing_keys(before: Any, now: Any, prefix: str) -> list[str]:  # noqa: ANN401
    """Dotted names of the values that differ between two nested mappings."""
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return [] if before == now else [prefix]
    return [
        key
        for name in sorted(before.keys() | now.keys())
        for key in differing_keys(before.get(name), now.get(name), f"{prefix}.{name}")
    ]

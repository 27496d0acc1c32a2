"""Whether a run folder holds the run that is asked for, so that it can resume."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from data_pipeline.errors import InputError
from fourcastnet_afno.forecaster.checkpoint import read_checkpoint
from fourcastnet_afno.forecaster.config_text import parse_config
from fourcastnet_afno.training.config import OPERATIONAL_SETTINGS
from fourcastnet_afno.workflows.config import ExperimentConfig


def check_resumable(config: ExperimentConfig, last: Path, backbone: str | None) -> None:
    """Refuse to go on with a run whose data, model or training was configured otherwise."""
    if not last.exists():
        return
    _, metadata = read_checkpoint(last, "none")
    _check_backbone(last, metadata.get("diagnostic"), backbone)
    before, now = (  # as it is read now, with the defaults of what did not exist then
        yaml.safe_load(experiment.to_yaml())
        for experiment in (
            parse_config(ExperimentConfig, yaml.safe_load(metadata["config"])),
            config,
        )
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
            f"{', '.join(keys)}; give another --output, or delete that folder to start over"
        )


def _check_backbone(last: Path, found: Mapping[str, Any] | None, backbone: str | None) -> None:
    kept = found and found["backbone"]
    if kept == backbone:
        return
    run, head = last.parent.parent.resolve(), "a diagnostic head"
    what = "a forecaster" if kept is None else f"{head} behind the forecaster {kept}"
    wanted = "a forecaster" if backbone is None else f"{head} behind {backbone}"
    raise InputError(
        f"{run} holds the training of {what}, asked for is that of {wanted}; give another --output"
    )


def differing_keys(before: Any, now: Any, prefix: str) -> list[str]:  # noqa: ANN401
    """Dotted names of the values that differ between two nested mappings."""
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return [] if before == now else [prefix]
    return [
        key
        for name in sorted(before.keys() | now.keys())
        for key in differing_keys(before.get(name), now.get(name), f"{prefix}.{name}")
    ]

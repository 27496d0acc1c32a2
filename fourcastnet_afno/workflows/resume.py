"""Checks that a run folder holds the run of this configuration, so that it can resume."""

from pathlib import Path
from typing import Any

import yaml

from data_pipeline.errors import InputError
from fourcastnet_afno.forecaster.checkpoint import read_checkpoint
from fourcastnet_afno.forecaster.config_text import parse_config
from fourcastnet_afno.training.config import OPERATIONAL_SETTINGS
from fourcastnet_afno.workflows.config import ExperimentConfig


def check_resumable(config: ExperimentConfig, last: Path, backbone: str | None) -> None:
    """Check that a run was configured like this one.

    Args:
        config: The experiment.
        last: Its last checkpoint; without one there is nothing to resume.
        backbone: Fingerprint of the forecaster behind a diagnostic head, if one is trained.

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
    stored = parse_config(ExperimentConfig, yaml.safe_load(metadata["config"]))
    before, now = (yaml.safe_load(experiment.to_yaml()) for experiment in (stored, config))
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


def differing_keys(before: Any, now: Any, prefix: str) -> list[str]:  # noqa: ANN401
    """Dotted names of the values that differ between two nested mappings."""
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return [] if before == now else [prefix]
    return [
        key
        for name in sorted(before.keys() | now.keys())
        for key in differing_keys(before.get(name), now.get(name), f"{prefix}.{name}")
    ]

"""Checkpoints: one safetensors file that holds everything a forecaster or a run needs.

Tensors are stored under ``forecaster.`` (the weights to use), and to resume a run also under
``weights.``, ``optimizer.`` and ``random.``. The header holds JSON: the experiment's configuration,
the model, the channels with units, the grid and the versions. No pickle is read or written.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from data_pipeline.errors import InputError
from data_pipeline.files.atomic import replacing
from fourcastnet_afno.forecaster.checkpoint_file import (
    damaged,
    is_checkpoint,
    read_tensors,
    write_tensors,
)
from fourcastnet_afno.forecaster.config import ModelConfig
from fourcastnet_afno.forecaster.config_text import parse_config
from fourcastnet_afno.forecaster.forecaster import FieldSpec, Forecaster
from fourcastnet_afno.forecaster.weight_checks import (
    moments_in,
    require_depth,
    require_fit,
    tensor_in,
)
from fourcastnet_afno.provenance import versions
from fourcastnet_afno.published import local_checkpoint


def save_checkpoint(
    path: Path, forecaster: Forecaster, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]
) -> None:
    """Write a checkpoint atomically.

    Args:
        path: File to write or replace.
        forecaster: Its weights are saved under ``forecaster.`` unless ``tensors`` has such names.
        tensors: Further tensors by name.
        metadata: Further values that JSON can hold.

    Raises:
        InputError: If it cannot be written, such as on a full disk; an older file stays intact.
    """
    # Not read where it is given: reading moves sharded weights, which another thread may use.
    if not strip_prefix("forecaster", tensors):
        tensors = {**add_prefix("forecaster", forecaster.state_dict()), **tensors}
    record = {
        "model": forecaster.config.to_json(),
        "fields": forecaster.spec.to_json(),
        "versions": versions(),
        **metadata,
    }
    try:
        with replacing(path, SafetensorError) as temporary:
            write_tensors(temporary, tensors, record)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
    except InputError as error:
        if left := [p for p in (path.with_name("last.safetensors"), path) if is_checkpoint(p)]:
            step = read_checkpoint(left[0], "none")[1].get("position", {}).get("step")
            of_step = "" if step is None else f", of step {step},"
            error.args = (f"{error}; the checkpoint before it{of_step} is intact",)
        raise


def read_checkpoint(path: Path, prefix: str = "") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read metadata and the tensors under a prefix, which is removed from their names.

    Raises:
        InputError: If the file is missing, not a checkpoint that this version reads, or damaged.
    """
    tensors, record = read_tensors(path, prefix)
    return strip_prefix(prefix, tensors) if prefix else tensors, record


def load_forecaster(path: Path | str, device: str = "cpu") -> Forecaster:
    """The forecaster of a checkpoint, ready to roll out.

    Args:
        path: File written by ``fourcastnet-afno train``, such as ``best.safetensors``; a published
            folder, or the URL of either, such as ``hf://ORG/NAME``, see ``published``.
        device: Torch device of the weights.

    Raises:
        InputError: If the file is missing, not a checkpoint or damaged.
    """
    path = local_checkpoint(path, read_checkpoint)
    weights, metadata = read_checkpoint(path, "forecaster")
    with damaged(path):
        spec = FieldSpec.from_json(metadata["fields"])
        config = parse_config(ModelConfig, metadata["model"])
        moments = moments_in(weights, "forecaster", spec.channels)
        num_coordinates = spec.grid.num_coordinate_channels if config.coordinates else 0
        shape = len(spec.static_channels) + num_coordinates, *spec.grid.shape
        static = tensor_in(weights, "static", "forecaster", shape)[: len(spec.static_channels)]
        require_depth(config.network, weights, "forecaster")
        if config.damping_days is not None:
            tensor_in(weights, "mean_state", "forecaster", (len(spec.channels), *spec.grid.shape))

        def build() -> Forecaster:
            # Checkpoints of earlier versions have no filled points.
            filled, mean_state = weights.get("filled"), weights.get("mean_state")
            return Forecaster(
                config, spec, **moments, static=static, filled=filled, mean_state=mean_state
            )

        # Sizes are compared before there is memory for them.
        with torch.device("meta"):
            expected = build().state_dict()
        require_fit(expected, weights, "forecaster")
        forecaster = build()
        forecaster.load_state_dict(weights)
    return forecaster.to(device).eval()


def fingerprint_of(forecaster: Forecaster) -> str:
    """Digest of weights, statistics, static fields and their meaning, see ``content_digest``."""
    facts = {"model": forecaster.config.to_json(), "fields": forecaster.spec.to_json()}
    return content_digest(facts, forecaster.state_dict())


def content_digest(facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Digest of tensors and of JSON values that tell their meaning, 16 hexadecimal digits."""
    digest = hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=8)
    for name, value in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def add_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under ``prefix.name``."""
    return {f"{prefix}.{name}": value for name, value in tensors.items()}


def strip_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names start with ``prefix.``, without it."""
    start = f"{prefix}."
    return {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}

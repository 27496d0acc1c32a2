"""Warm start from a checkpoint: weights that match are loaded, the others are named."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data_pipeline.errors import InputError
from fourcastnet_afno.forecaster.checkpoint import add_prefix, read_checkpoint
from fourcastnet_afno.forecaster.checkpoint_file import damaged
from fourcastnet_afno.forecaster.config import ModelConfig
from fourcastnet_afno.forecaster.config_text import parse_config
from fourcastnet_afno.forecaster.forecaster import FieldSpec, Forecaster
from fourcastnet_afno.forecaster.weight_checks import require_alike


@dataclass(frozen=True, kw_only=True)
class WeightMatch:
    """Comparison of the weights of a checkpoint with those of a network, by name.

    The checkpoint lacks the ``missing``, the network the ``unexpected``; ``different`` names
    weights that both have, and their differences.
    """

    tensors: Mapping[str, Tensor]
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    different: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [f"{len(self.tensors)} weights taken over"]
        for name in ("missing", "unexpected", "different"):
            if values := getattr(self, name):
                parts.append(f"{len(values)} {name}: {', '.join(values)}")
        return "; ".join(parts)


def match_weights(network: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> WeightMatch:
    """Compare the weights of a network and those of a checkpoint by name and shape."""
    tensors, different = {}, []
    for name in [name for name in network if name in saved]:
        there, here = tuple(saved[name].shape), tuple(network[name].shape)
        if there == here:
            tensors[name] = saved[name]
        else:
            different.append(f"{name} ({there} there, {here} here)")
    return WeightMatch(
        tensors=tensors,
        missing=tuple(name for name in network if name not in saved),
        unexpected=tuple(name for name in saved if name not in network),
        different=tuple(different),
    )


def start_from(forecaster: Forecaster, path: Path) -> WeightMatch:
    """Load the weights of a checkpoint's network that match; the others stay as they are.

    Statistics and static fields stay those of the forecaster's own data. Where channels, static
    fields, forcings, history or the kind of prediction differ, the first or the last layer does not
    match, whatever its shape.

    Returns:
        The comparison; its tensors were loaded.

    Raises:
        InputError: If nothing matches, or there is no checkpoint, or a damaged one.
    """
    tensors, metadata = read_checkpoint(path, "forecaster")
    saved = {name: t for name, t in tensors.items() if name.startswith("network.")}
    weights = add_prefix("network", forecaster.network.state_dict())
    match = match_weights(weights, saved)
    with damaged(path):
        config = parse_config(ModelConfig, metadata["model"])
        theirs = _ends(FieldSpec.from_json(metadata["fields"]), asdict(config))
        for name, tensor in match.tensors.items():
            require_alike(weights[name], tensor, f"forecaster.{name}")
    ours = _ends(forecaster.spec, asdict(forecaster.config))
    for layer in ours:
        prefix = f"network.{layer}."
        if theirs[layer] != ours[layer] or any(n.startswith(prefix) for n in match.different):
            others = {n: t for n, t in match.tensors.items() if not n.startswith(prefix)}
            dropped = (f"{n} (of another layer)" for n in match.tensors if n not in others)
            match = replace(match, tensors=others, different=(*match.different, *dropped))
    if not match.tensors:
        raise InputError(
            f"no weight of {path} suits this network ({match}); give a checkpoint of the same "
            "model.network",
            code="no-matching-weights",
        )
    with torch.no_grad():
        for name, tensor in match.tensors.items():
            weights[name].copy_(tensor)
    return match


def _ends(spec: FieldSpec, model: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Meaning of the inputs of the first layer and of the outputs of the last one."""
    inputs = [spec.static_channels.labels, list(spec.forcings), model["num_history"]]
    coordinates = model["coordinates"] and spec.grid.attrs.get("periodic", "on the sphere")
    return {
        "noise_embed": [model["noise"]["length_scales"], model["noise"]["channels"]],
        "patch_embed": [spec.channels.labels, *inputs, coordinates],
        "patch_recovery": [spec.channels.labels, model["prediction"]],
    }
